package trail_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/audit/trail"
)

// sealer binds to purpose and context, and hides nothing.
type sealer string

func (s sealer) Seal(purpose, context string, plaintext []byte) ([]byte, error) {
	return append([]byte(string(s)+purpose+context), plaintext...), nil
}

func (s sealer) Open(purpose, context string, sealed []byte) ([]byte, error) {
	seed, ok := bytes.CutPrefix(sealed, []byte(string(s)+purpose+context))
	if !ok {
		return nil, errors.New("sealed otherwise")
	}
	return bytes.Clone(seed), nil
}

// diary is a trail in a directory, and what it takes to write to it.
type diary struct {
	t    *testing.T
	dir  string
	key  *trail.Key
	cfg  trail.Config
	log  *audit.Log
	told int // records that were written
}

func newDiary(t *testing.T, change ...func(*trail.Config)) *diary {
	t.Helper()
	d := &diary{t: t, dir: t.TempDir()}
	key, err := trail.LoadOrMakeKey(d.dir, sealer("root"))
	if err != nil {
		t.Fatal(err)
	}
	d.key = key
	d.cfg = trail.Config{Directory: d.dir, Key: key, CheckpointRecords: 5, Logger: slog.New(slog.DiscardHandler)}
	for _, fn := range change {
		fn(&d.cfg)
	}
	d.open()
	t.Cleanup(func() {
		if d.log != nil {
			_ = d.log.Close()
		}
	})
	return d
}

func (d *diary) open() {
	d.t.Helper()
	l, err := trail.Open(d.cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.log = audit.NewLog(l)
}

func (d *diary) close() {
	d.t.Helper()
	if err := d.log.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.log = nil
}

// write writes n records, one after the other.
func (d *diary) write(n int) {
	d.t.Helper()
	for range n {
		if err := d.attempt(); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *diary) attempt() error {
	d.told++
	return d.log.Write(d.t.Context(), &audit.Record{EventName: "Encrypt", EventID: fmt.Sprint("event-", d.told), EventTime: time.Unix(int64(d.told), 0).UTC()})
}

func (d *diary) verify(o ...trail.VerifyOptions) *trail.Report {
	d.t.Helper()
	options := trail.VerifyOptions{Keys: []string{d.key.Public()}}
	if len(o) > 0 {
		options = o[0]
	}
	return verify(d.t, os.DirFS(d.dir), options)
}

func verify(t *testing.T, dir fs.FS, o trail.VerifyOptions) *trail.Report {
	t.Helper()
	r, err := trail.Verify(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantRecords checks that a report has no findings and as many records.
func (d *diary) wantRecords(r *trail.Report, n uint64) {
	d.t.Helper()
	if !r.OK() || r.Records != n {
		d.t.Errorf("%d records, want %d; findings: %v", r.Records, n, r.Findings)
	}
}

func kinds(findings []trail.Finding) (out []trail.Kind) {
	for _, f := range findings {
		out = append(out, f.Kind)
	}
	return out
}

// wantKind checks that a kind is among the findings.
func wantKind(t *testing.T, findings []trail.Finding, want trail.Kind) {
	t.Helper()
	for _, f := range findings {
		if f.Kind == want {
			return
		}
	}
	t.Errorf("%v, want %s among them", findings, want)
}

func (d *diary) read(name string) []byte {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	return text
}

// files gives a copy of the directory.
func (d *diary) files() fstest.MapFS {
	d.t.Helper()
	out := fstest.MapFS{}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		out[e.Name()] = &fstest.MapFile{Data: d.read(e.Name())}
	}
	return out
}

func TestWhatIsWrittenVerifies(t *testing.T) {
	t.Parallel()
	d := newDiary(t)
	d.write(12)
	d.wantRecords(d.verify(), 12) // while it is open
	d.close()
	d.open()
	d.write(3)
	d.close()
	r := d.verify()
	d.wantRecords(r, 15)
	if r.Segments != 2 || r.First != 1 || r.SignedThrough != r.Last-1 || len(r.Notices) != 0 || r.KeysFromLog {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"segment-00000001.jsonl", "signing-key", "checkpoint"} {
		if info, err := os.Stat(filepath.Join(d.dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestRecordsOfManyWritersAreAllThere(t *testing.T) {
	t.Parallel()
	d := newDiary(t, func(c *trail.Config) { c.SegmentBytes = 20_000; c.CheckpointInterval = time.Millisecond })
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				if err := d.log.Write(t.Context(), &audit.Record{EventName: "Encrypt"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	d.close()
	r := d.verify()
	d.wantRecords(r, 800)
	if r.Segments < 5 {
		t.Errorf("%d segments", r.Segments)
	}
}

func TestSegmentsEndBySizeAndByAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	d := newDiary(t, func(c *trail.Config) { c.SegmentBytes = 5000; c.Now = func() time.Time { return now } })
	d.write(30)
	bySize := d.verify().Segments
	now = now.Add(25 * time.Hour)
	d.write(1)
	r := d.verify()
	d.wantRecords(r, 31)
	if bySize < 3 || r.Segments != bySize+1 {
		t.Errorf("%d segments by size, %d after a day", bySize, r.Segments)
	}
}

func TestCheckpointsComeWithTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(t, func(c *trail.Config) { c.CheckpointRecords = 1000; c.CheckpointInterval = time.Minute })
		d.write(3)
		before := d.verify()
		wantKind(t, before.Notices, trail.Unsigned)
		published := d.read("checkpoint")
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		after := d.verify()
		if len(after.Notices) > 0 || after.SignedThrough <= before.SignedThrough {
			t.Errorf("%+v", after)
		}
		if bytes.Equal(published, d.read("checkpoint")) {
			t.Error("the checkpoint was not published")
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if r := d.verify(); r.Last != after.Last {
			t.Errorf("checkpoints of nothing new: %d entries, then %d", after.Last, r.Last)
		}
		d.close()
	})
}

func TestRetentionRemovesOldSegmentsAndSaysSo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for name, change := range map[string]func(*trail.Config){
		"by size": func(c *trail.Config) { c.RetainBytes = 12_000 },
		"by age":  func(c *trail.Config) { c.RetainAge = 12 * time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := now
			d := newDiary(t, func(c *trail.Config) { c.SegmentBytes = 4000; c.Now = func() time.Time { return clock } }, change)
			for range 60 {
				clock = clock.Add(time.Hour)
				d.write(1)
			}
			d.close()
			d.open() // another process goes on with it
			d.write(1)
			r := d.verify()
			if !r.OK() || r.First == 1 || r.Records >= 61 || r.Records < 10 {
				t.Errorf("%d records from %d on; %v", r.Records, r.First, r.Findings)
			}
			wantKind(t, r.Notices, trail.Removed)
			if _, err := os.Stat(filepath.Join(d.dir, "segment-00000001.jsonl")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the first segment: %v", err)
			}
			t.Run("one more that somebody removes is missing", func(t *testing.T) {
				files := d.files()
				var names []string
				for name := range files {
					if strings.HasPrefix(name, "segment-") {
						names = append(names, name)
					}
				}
				oldest := names[0]
				for _, name := range names {
					oldest = min(oldest, name)
				}
				delete(files, oldest)
				wantKind(t, verify(t, files, trail.VerifyOptions{}).Findings, trail.MissingSegment)
			})
		})
	}
}

func TestASecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	d := newDiary(t)
	if _, err := trail.Open(d.cfg); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
	d.close()
	d.open()
}

func TestTheKeyGoesWithItsRootKey(t *testing.T) {
	t.Parallel()
	d := newDiary(t)
	if _, err := trail.LoadKey(d.dir, sealer("other")); err == nil {
		t.Error("another root key opens the signing key")
	}
	for range 2 { // it can be repeated
		if err := trail.ResealKey(d.dir, sealer("root"), sealer("next")); err != nil {
			t.Fatal(err)
		}
	}
	next, err := trail.LoadOrMakeKey(d.dir, sealer("next"))
	if err != nil || next.Public() != d.key.Public() {
		t.Errorf("after the root key was replaced: %v, %v", next, err)
	}
	if err := trail.ResealKey(d.dir, sealer("root"), sealer("third")); err == nil {
		t.Error("a key that neither root key opens is sealed anew")
	}
	if err := trail.ResealKey(t.TempDir(), sealer("root"), sealer("next")); err != nil {
		t.Errorf("a directory without a key: %v", err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if text := fmt.Sprintf(format, d.key); text != "REDACTED" && !strings.Contains(strings.ToLower(text), "redacted") {
			t.Errorf("%s prints %q", format, text)
		}
	}
}

func TestAnotherKeyIsToldAndNeedsBothToVerify(t *testing.T) {
	t.Parallel()
	d := newDiary(t)
	d.write(1)
	d.close()
	old := d.key.Public()
	if err := os.Remove(filepath.Join(d.dir, "signing-key")); err != nil {
		t.Fatal(err)
	}
	key, err := trail.LoadOrMakeKey(d.dir, sealer("root"))
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.Key = key
	d.open()
	d.write(1)
	d.close()
	wantKind(t, d.verify(trail.VerifyOptions{Keys: []string{old}}).Findings, trail.ForgedCheckpoint)
	wantKind(t, d.verify(trail.VerifyOptions{Keys: []string{key.Public()}}).Findings, trail.ForgedCheckpoint)
	r := d.verify(trail.VerifyOptions{Keys: []string{old, key.Public()}})
	d.wantRecords(r, 2)
	wantKind(t, r.Notices, trail.NewKey)
	if r := d.verify(trail.VerifyOptions{}); !r.OK() || !r.KeysFromLog {
		t.Errorf("with the keys that the log names: %+v", r)
	}
}
