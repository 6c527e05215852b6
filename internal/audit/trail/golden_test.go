package trail_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"kastellan.dev/internal/audit/trail"
)

var makeGolden = flag.Bool("make-golden", false, "make the golden files, once in the life of a format")

// golden is a trail that was written once and is never written again: two
// processes, the first of them killed, and a retention.
func golden(t testing.TB) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	entries, err := os.ReadDir("testdata/v1")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join("testdata/v1", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = &fstest.MapFile{Data: text}
	}
	return files
}

func TestTheGoldenTrailIsMade(t *testing.T) {
	if !*makeGolden {
		t.Skip("it is there")
	}
	d := newDiary(t, func(c *trail.Config) { c.SegmentBytes = 4000; c.RetainBytes = 12_000 })
	d.write(20)
	d = d.abandon()
	newest := "segment-00000003.jsonl"
	d.append(newest, `{"eventVersion":"1.11","userIden`)
	d.open()
	d.write(9)
	d.close()
	if err := os.CopyFS("testdata/v1", os.DirFS(d.dir)); err != nil {
		t.Fatal(err)
	}
}

func TestTheGoldenTrailVerifies(t *testing.T) {
	t.Parallel()
	files := golden(t)
	r := verify(t, files, trail.VerifyOptions{Keys: []string{string(files["public-key"].Data[:len(files["public-key"].Data)-1])}})
	if !r.OK() || r.Records == 0 || r.First == 1 {
		t.Errorf("%+v", r)
	}
	wantKind(t, r.Notices, trail.Torn)
	wantKind(t, r.Notices, trail.Removed)
}

func TestTheGoldenTrailIsGoneOnWith(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, file := range golden(t) {
		if err := os.WriteFile(filepath.Join(dir, name), file.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := trail.LoadKey(dir, sealer("root"))
	if err != nil {
		t.Fatal(err)
	}
	d := &diary{t: t, dir: dir, key: key, cfg: trail.Config{Directory: dir, Key: key}}
	before := d.verify()
	d.open()
	d.write(2)
	d.close()
	d.wantRecords(d.verify(), before.Records+2)
}

// FuzzVerify looks for a text that verifies as a segment of the golden trail
// and is not it.
func FuzzVerify(f *testing.F) {
	files := golden(f)
	var names []string
	for name, file := range files {
		if name != "signing-key" && name != "public-key" {
			names = append(names, name)
			f.Add(name, file.Data)
		}
	}
	key := string(files["public-key"].Data[:len(files["public-key"].Data)-1])
	genuine := verifyFuzz(f, files, key)
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		known, ok := files[name]
		if !ok {
			return
		}
		changed := fstest.MapFS{}
		for n, file := range files {
			changed[n] = file
		}
		changed[name] = &fstest.MapFile{Data: data}
		r, err := trail.Verify(changed, trail.VerifyOptions{Keys: []string{key}})
		if err != nil || !r.OK() || string(data) == string(known.Data) || name == "checkpoint" {
			return
		}
		// What is left to somebody without the key: to begin an entry at the very end.
		if r.Last != genuine.Last || r.Records != genuine.Records || len(data) < len(known.Data) || string(data[:len(known.Data)]) != string(known.Data) {
			t.Errorf("%s is changed and verifies: %+v", name, r)
		}
	})
}

func verifyFuzz(f *testing.F, files fstest.MapFS, key string) *trail.Report {
	r, err := trail.Verify(files, trail.VerifyOptions{Keys: []string{key}})
	if err != nil || !r.OK() {
		f.Fatal(r, err)
	}
	return r
}
