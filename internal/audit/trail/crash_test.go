package trail_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kastellan.dev/internal/audit/trail"
)

// abandon leaves the trail as a process does that is killed: with a copy of the directory.
func (d *diary) abandon() *diary {
	d.t.Helper()
	dead := &diary{t: d.t, dir: d.t.TempDir(), key: d.key, cfg: d.cfg, told: d.told}
	dead.cfg.Directory = dead.dir
	for name, file := range d.files() {
		if err := os.WriteFile(filepath.Join(dead.dir, name), file.Data, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	d.t.Cleanup(func() {
		if dead.log != nil {
			_ = dead.log.Close()
		}
	})
	return dead
}

// append appends bytes to a segment.
func (d *diary) append(name, text string) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		d.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
}

const firstSegment = "segment-00000001.jsonl"

func TestAProcessThatIsKilledLeavesALogThatGoesOn(t *testing.T) {
	t.Parallel()
	for name, tail := range map[string]struct {
		text   string
		notice trail.Kind
	}{
		"between two records":        {"", trail.Killed},
		"inside a record":            {`{"eventVersion":"1.11","userId`, trail.Torn},
		"a power failure's zeros":    {strings.Repeat("\x00", 700), trail.Torn},
		"a record without its end":   {`{"eventVersion":"1.11","sequence":10,"hash":"`, trail.Torn},
		"the beginning of one":       {`{`, trail.Torn},
		"a line without a line feed": {`{"a":1,"sequence":10,"hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`, trail.Torn},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDiary(t)
			d.write(7)
			d = d.abandon()
			d.append(firstSegment, tail.text)
			before := d.read(firstSegment)
			r := d.verify()
			d.wantRecords(r, 7)
			for range 2 { // the second start finds nothing new
				d.open()
				d.write(1)
				d.close()
			}
			r = d.verify()
			d.wantRecords(r, 9)
			wantKind(t, r.Notices, tail.notice)
			if !bytes.Equal(before, d.read(firstSegment)) {
				t.Error("what was there was changed")
			}
		})
	}
}

func TestEveryCutOfAnUnfinishedSegmentCanBeGoneOnWith(t *testing.T) {
	t.Parallel()
	d := newDiary(t)
	d.write(7)
	whole := d.read(firstSegment)
	for size := 0; size < len(whole); size += 97 {
		dead := d.abandon()
		if err := os.Truncate(filepath.Join(dead.dir, firstSegment), int64(size)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dead.dir, "checkpoint")); err != nil { // with it the loss would show
			t.Fatal(err)
		}
		dead.open()
		dead.write(1)
		dead.close()
		if r := dead.verify(); !r.OK() {
			t.Fatalf("cut to %d bytes: %v", size, r.Findings)
		}
	}
}

func TestDamageThatAProcessFindsIsTold(t *testing.T) {
	t.Parallel()
	d := newDiary(t)
	d.write(7)
	d = d.abandon()
	d.append(firstSegment, "not an entry\nnor this\n")
	d.open()
	d.write(1)
	d.close()
	wantKind(t, d.verify().Findings, trail.Damaged)
	t.Run("and cannot be changed afterwards", func(t *testing.T) {
		files := d.files()
		files[firstSegment].Data = bytes.Replace(files[firstSegment].Data, []byte("nor this"), []byte("nor that"), 1)
		wantKind(t, verify(t, files, trail.VerifyOptions{}).Findings, trail.Changed)
	})
	t.Run("nor taken away", func(t *testing.T) {
		files := d.files()
		files[firstSegment].Data = bytes.Replace(files[firstSegment].Data, []byte("not an entry\nnor this\n"), nil, 1)
		wantKind(t, verify(t, files, trail.VerifyOptions{}).Findings, trail.Changed)
	})
}

func TestALogThatWasCutWhileNobodyWroteIsFoundOutAtTheNextStart(t *testing.T) {
	t.Parallel()
	d := newDiary(t)
	d.write(7)
	d.close()
	text := d.read(firstSegment)
	lines := bytes.SplitAfter(text, []byte("\n"))
	if err := os.WriteFile(filepath.Join(d.dir, firstSegment), bytes.Join(lines[:5], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	d.open()
	d.write(1)
	d.close()
	wantKind(t, d.verify().Findings, trail.Truncated)
}

func TestWhatIsAppendedBehindTheEndIsNotTakenUp(t *testing.T) {
	t.Parallel()
	d := newDiary(t)
	d.write(2)
	d.close()
	last := d.verify().Last
	forged := trail.Forge(d.read(firstSegment), `{"eventName":"Forged"}`)
	d.append(firstSegment, forged)
	wantKind(t, d.verify().Findings, trail.OutOfOrder)
	d.open()
	d.write(1)
	d.close()
	r := d.verify()
	wantKind(t, r.Findings, trail.Damaged)
	if r.Last != last+4 { // head, checkpoint, record, checkpoint
		t.Errorf("the log goes on behind what was forged: %d entries, then %d", last, r.Last)
	}
}

// disk is a file on a disk that has room for some bytes.
type disk struct {
	trail.File
	room      *int
	noShorter *bool
}

var errFull = errors.New("no space left on device")

func (d disk) Write(p []byte) (int, error) {
	n, err := d.File.Write(p[:min(len(p), *d.room)])
	*d.room -= n
	if err == nil && n < len(p) {
		err = errFull
	}
	return n, err
}

func (d disk) Truncate(size int64) error {
	if *d.noShorter {
		return errFull
	}
	return d.File.Truncate(size)
}

func TestAFullDiskRefusesRecordsUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	for room := range 60 {
		left, stuck := 1<<20, false
		d := newDiary(t, func(c *trail.Config) {
			c.SegmentBytes = 9000
			c.Create = func(path string) (trail.File, error) {
				f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
				return disk{f, &left, &stuck}, err
			}
		})
		d.write(4)
		left, stuck = room*83, room%2 == 1
		written := uint64(4)
		for range 20 {
			if err := d.attempt(); err == nil {
				written++
			} else if !errors.Is(err, errFull) {
				t.Fatal(err)
			}
		}
		if written == 24 {
			t.Fatalf("with room for %d bytes 20 records are written", room*83)
		}
		if r := d.verify(); !r.OK() {
			t.Fatalf("with room for %d bytes: %v", room*83, r.Findings)
		}
		left, stuck = 1<<20, false
		d.write(5)
		d.close()
		r := d.verify()
		if !r.OK() || r.Records < written+5 {
			t.Errorf("with room for %d bytes: %d records of %d; %v", room*83, r.Records, written+5, r.Findings)
		}
	}
}
