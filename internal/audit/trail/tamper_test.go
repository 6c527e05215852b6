package trail_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"kastellan.dev/internal/audit/trail"
)

// edit changes the lines of a segment.
func edit(files fstest.MapFS, segment string, change func(lines [][]byte) [][]byte) {
	lines := bytes.SplitAfter(files[segment].Data, []byte("\n"))
	lines = lines[:len(lines)-1] // behind the last line feed
	files[segment].Data = bytes.Join(change(lines), nil)
}

// tampering is what somebody does who can write the files and has no key.
type tampering struct {
	do   func(files fstest.MapFS)
	want trail.Kind
	// where the first finding is; zero where it does not matter
	segment  string
	line     int
	sequence uint64
}

const (
	second = "segment-00000002.jsonl"
	third  = "segment-00000003.jsonl"
)

// The log that they are done to has three segments of 7 records. In each there are the head,
// a checkpoint, 5 records, a checkpoint, 2 records and the last checkpoint: 11 entries.
var tamperings = map[string]tampering{
	"a record is changed": {
		func(f fstest.MapFS) {
			f[second].Data = bytes.Replace(f[second].Data, []byte("event-9\""), []byte("event-8\""), 1)
		}, trail.Changed, second, 4, 15,
	},
	"a hash is changed": {
		func(f fstest.MapFS) {
			edit(f, second, func(l [][]byte) [][]byte {
				i := bytes.Index(l[3], []byte(`"hash":"`)) + 10
				if l[3][i] == 'A' {
					l[3][i] = 'B'
				} else {
					l[3][i] = 'A'
				}
				return l
			})
		}, trail.Changed, second, 4, 15,
	},
	"a record is deleted": {
		func(f fstest.MapFS) { edit(f, second, func(l [][]byte) [][]byte { return slices.Delete(l, 3, 4) }) }, trail.Gap, second, 4, 16,
	},
	"several records are deleted": {
		func(f fstest.MapFS) { edit(f, second, func(l [][]byte) [][]byte { return slices.Delete(l, 3, 6) }) }, trail.Gap, second, 4, 18,
	},
	"a record is there twice": {
		func(f fstest.MapFS) {
			edit(f, second, func(l [][]byte) [][]byte { return slices.Insert(l, 4, l[3]) })
		}, trail.OutOfOrder, second, 5, 15,
	},
	"two records change places": {
		func(f fstest.MapFS) {
			edit(f, second, func(l [][]byte) [][]byte { l[3], l[4] = l[4], l[3]; return l })
		}, trail.Gap, second, 4, 16,
	},
	"a line is inserted": {
		func(f fstest.MapFS) {
			edit(f, second, func(l [][]byte) [][]byte { return slices.Insert(l, 3, []byte("{}\n")) })
		}, trail.NotAnEntry, second, 4, 0,
	},
	"two records are glued": {
		func(f fstest.MapFS) {
			edit(f, second, func(l [][]byte) [][]byte { l[3] = bytes.TrimSuffix(l[3], []byte("\n")); return l })
		}, trail.Gap, second, 4, 16,
	},
	"a record is changed and all hashes are made anew": {
		func(f fstest.MapFS) {
			f[second].Data = trail.Rechain(bytes.Replace(f[second].Data, []byte("event-9\""), []byte("event-8\""), 1))
		}, trail.WrongCheckpoint, second, 8, 19,
	},
	"a record is deleted and all hashes are made anew": {
		func(f fstest.MapFS) {
			edit(f, second, func(l [][]byte) [][]byte { return slices.Delete(l, 3, 4) })
			f[second].Data = trail.Rechain(f[second].Data)
		}, trail.WrongCheckpoint, second, 7, 18,
	},
	"checkpoints are deleted and all hashes are made anew": {
		func(f fstest.MapFS) {
			edit(f, third, func(l [][]byte) [][]byte { return slices.Concat(l[:7], l[8:10]) })
			f[third].Data = trail.Rechain(f[third].Data)
		}, trail.MissingCheckpoint, third, 8, 30,
	},
	"the checkpoint behind the head is deleted and all hashes are made anew": {
		func(f fstest.MapFS) {
			edit(f, third, func(l [][]byte) [][]byte { return slices.Delete(l, 1, 2) })
			f[third].Data = trail.Rechain(f[third].Data)
		}, trail.MissingCheckpoint, third, 2, 24,
	},
	"a checkpoint's signature is another's": {
		func(f fstest.MapFS) {
			edit(f, second, func(l [][]byte) [][]byte {
				from, to := bytes.Index(l[7], []byte("audit ")), bytes.Index(l[7], []byte(`","sequence"`))
				other := bytes.Index(l[1], []byte("audit "))
				copy(l[7][from:to], l[1][other:])
				return l
			})
			f[second].Data = trail.Rechain(f[second].Data)
		}, trail.ForgedCheckpoint, second, 8, 19,
	},
	"a checkpoint is moved and all hashes are made anew": {
		func(f fstest.MapFS) {
			edit(f, second, func(l [][]byte) [][]byte { l[6], l[7] = l[7], l[6]; return l })
			f[second].Data = trail.Rechain(f[second].Data)
		}, trail.WrongCheckpoint, second, 7, 18,
	},
	"the end of the log is cut, and the published checkpoint stays": {
		func(f fstest.MapFS) { edit(f, third, func(l [][]byte) [][]byte { return l[:6] }) }, trail.Truncated, third, 0, 28,
	},
	"the end of a segment inside the log is cut": {
		func(f fstest.MapFS) { edit(f, second, func(l [][]byte) [][]byte { return l[:6] }) }, trail.Unlinked, third, 1, 22,
	},
	"a part of a line is cut from the end of a segment inside the log": {
		func(f fstest.MapFS) { f[second].Data = f[second].Data[:len(f[second].Data)-100] }, trail.NotAnEntry, second, 11, 0,
	},
	"a segment is deleted": {
		func(f fstest.MapFS) { delete(f, second) }, trail.MissingSegment, third, 0, 0,
	},
	"the first segment is deleted": {
		func(f fstest.MapFS) { delete(f, firstSegment) }, trail.MissingSegment, second, 0, 11,
	},
	"the last segment is deleted, and the published checkpoint stays": {
		func(f fstest.MapFS) { delete(f, third) }, trail.Truncated, second, 0, 22,
	},
	"the first segment is deleted, and a retention made up": {
		func(f fstest.MapFS) {
			delete(f, firstSegment)
			edit(f, third, func(l [][]byte) [][]byte { return l[:10] })
			f[third].Data = append(f[third].Data, trail.Forge(f[third].Data,
				`{"retention":{"removed":["segment-00000001.jsonl"],"through":{"segment":"segment-00000001.jsonl","sequence":11,"hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},"time":"2026-11-01T00:00:00Z"}}`)...)
			delete(f, "checkpoint")
		}, trail.MissingSegment, second, 0, 11,
	},
	"two segments change names": {
		func(f fstest.MapFS) { f[second], f[third] = f[third], f[second] }, trail.Unlinked, second, 1, 0,
	},
	"a segment is replaced by a copy of another": {
		func(f fstest.MapFS) { f[second] = f[third] }, trail.Unlinked, second, 1, 0,
	},
	"a segment is emptied": {
		func(f fstest.MapFS) { f[second].Data = nil }, trail.NotAnEntry, second, 1, 0,
	},
	"the published checkpoint is changed": {
		func(f fstest.MapFS) {
			f["checkpoint"].Data = bytes.Replace(f["checkpoint"].Data, []byte("\n32\n"), []byte("\n12\n"), 1)
		}, trail.ForgedCheckpoint, "", 0, 0,
	},
}

// newLog gives a log of three segments.
func newLog(t *testing.T) *diary {
	t.Helper()
	d := newDiary(t)
	for i := range 3 {
		if i > 0 {
			d.open()
		}
		d.write(7)
		d.close()
	}
	r := d.verify()
	d.wantRecords(r, 21)
	if r.Last != 33 {
		t.Fatalf("%d entries, want 33", r.Last)
	}
	return d
}

func TestTamperingIsFoundWhereItWasDone(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	for name, tc := range tamperings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := d.files()
			tc.do(files)
			r := verify(t, files, trail.VerifyOptions{Keys: []string{d.key.Public()}})
			if r.OK() {
				t.Fatalf("not found; notices: %v", r.Notices)
			}
			for _, f := range r.Findings {
				if f.Kind == tc.want {
					if f.Segment != tc.segment || tc.line != 0 && f.Line != tc.line || tc.sequence != 0 && f.Sequence != tc.sequence {
						t.Errorf("found at %s:%d, entry %d; want %s:%d, entry %d: %v", f.Segment, f.Line, f.Sequence, tc.segment, tc.line, tc.sequence, r.Findings)
					}
					return
				}
			}
			t.Errorf("found %v, want %s", r.Findings, tc.want)
		})
	}
}

func TestOneChangeIsOneFinding(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	files := d.files()
	tamperings["a record is changed"].do(files)
	if r := verify(t, files, trail.VerifyOptions{}); len(r.Findings) != 1 {
		t.Errorf("%v", r.Findings)
	}
}

func TestEveryByteOfASegmentCounts(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	files := d.files()
	for i := range files[second].Data {
		files[second].Data[i] ^= 0x01
		r := verify(t, files, trail.VerifyOptions{Keys: []string{d.key.Public()}})
		if r.OK() {
			t.Fatalf("that byte %d is changed is not found: …%s…", i, files[second].Data[max(0, i-20):i+20])
		}
		files[second].Data[i] ^= 0x01
	}
}

// What cutting the log can do and cannot, with and without a checkpoint that is kept elsewhere.
func TestACheckpointKeptElsewhereShowsThatTheLogWasCut(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	kept := string(d.read("checkpoint"))
	files := d.files()
	edit(files, third, func(l [][]byte) [][]byte { return l[:9] })
	delete(files, "checkpoint")
	keys := []string{d.key.Public()}
	if r := verify(t, files, trail.VerifyOptions{Keys: keys}); !r.OK() || r.SignedThrough != 29 {
		t.Errorf("what is left of the log is not as it was written: %+v", r)
	}
	wantKind(t, verify(t, files, trail.VerifyOptions{Keys: keys, Checkpoints: []string{kept}}).Findings, trail.Truncated)
	if r := d.verify(trail.VerifyOptions{Keys: keys, Checkpoints: []string{kept}}); !r.OK() {
		t.Errorf("the whole log: %v", r.Findings)
	}
	forged := strings.Replace(kept, "\n32\n", "\n31\n", 1)
	wantKind(t, d.verify(trail.VerifyOptions{Keys: keys, Checkpoints: []string{forged}}).Findings, trail.ForgedCheckpoint)
	other := newLog(t)
	wantKind(t, d.verify(trail.VerifyOptions{Keys: []string{d.key.Public(), other.key.Public()}, Checkpoints: []string{string(other.read("checkpoint"))}}).Findings, trail.WrongCheckpoint)
}

func TestALogThatWasWrittenAnewAndSignedByAnotherIsFoundOut(t *testing.T) {
	t.Parallel()
	d, forger := newLog(t), newLog(t)
	wantKind(t, verify(t, forger.files(), trail.VerifyOptions{Keys: []string{d.key.Public()}}).Findings, trail.ForgedCheckpoint)
	if r := verify(t, forger.files(), trail.VerifyOptions{}); !r.OK() || !r.KeysFromLog {
		t.Errorf("the report does not say that nobody vouches for the keys: %+v", r)
	}
	if _, err := trail.Verify(d.files(), trail.VerifyOptions{Keys: []string{"nonsense"}}); err == nil {
		t.Error("nonsense is taken for a key")
	}
	if _, err := trail.Verify(fstest.MapFS{}, trail.VerifyOptions{}); err == nil {
		t.Error("an empty directory is a log")
	}
}

func TestThereIsAnEndToFindings(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	files := d.files()
	files[second].Data = append(files[second].Data, bytes.Repeat([]byte("x\n"), 500)...)
	if r := verify(t, files, trail.VerifyOptions{}); len(r.Findings) != 100 || !r.More {
		t.Errorf("%d findings", len(r.Findings))
	}
}

func TestACheckpointOfTheLastEntryThatWasRemovedIsComparedWithTheHeadThatNamesIt(t *testing.T) {
	t.Parallel()
	for name, rewritten := range map[string]bool{"as it was": false, "rewritten": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDiary(t)
			d.write(7)
			d.close()
			kept := string(d.read("checkpoint")) // about the last record, the entry 10
			files := d.files()
			edit(files, firstSegment, func(l [][]byte) [][]byte {
				if rewritten {
					l[9] = bytes.Replace(l[9], []byte("event-"), []byte("evil--"), 1)
				}
				return l[:10]
			})
			path := filepath.Join(d.dir, firstSegment)
			if err := errors.Join(os.WriteFile(path, trail.Rechain(files[firstSegment].Data), 0o600), os.Remove(filepath.Join(d.dir, "checkpoint"))); err != nil {
				t.Fatal(err)
			}
			d.open()
			d.write(1)
			d.close()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			r := d.verify(trail.VerifyOptions{Keys: []string{d.key.Public()}, Checkpoints: []string{kept}})
			found := slices.ContainsFunc(r.Findings, func(f trail.Finding) bool { return f.Kind == trail.WrongCheckpoint })
			if found != rewritten {
				t.Errorf("found %v", r.Findings)
			}
		})
	}
}

func TestThatNoCheckpointIsPublishedIsToldWithoutBeingAFault(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	files := d.files()
	options := trail.VerifyOptions{Keys: []string{d.key.Public()}}
	if r := verify(t, files, options); len(r.Notices) != 0 {
		t.Errorf("%v", r.Notices)
	}
	delete(files, "checkpoint")
	r := verify(t, files, options)
	wantKind(t, r.Notices, trail.Unpublished)
	if !r.OK() {
		t.Errorf("%v", r.Findings)
	}
}

// Whoever can replace the signing key of a directory can begin another trail in it: the configuration's
// key then vouches for what is there, and only what was kept elsewhere shows that there was another.
func TestANewKeyVouchesForAnEmptiedDirectoryAlone(t *testing.T) {
	t.Parallel()
	lost, d := newLog(t), newLog(t)
	kept := string(lost.read("checkpoint"))
	keys := []string{d.key.Public()}
	if r := d.verify(trail.VerifyOptions{Keys: keys}); !r.OK() {
		t.Errorf("%v", r.Findings)
	}
	wantKind(t, d.verify(trail.VerifyOptions{Keys: keys, Checkpoints: []string{kept}}).Findings, trail.ForgedCheckpoint)
	wantKind(t, d.verify(trail.VerifyOptions{Keys: []string{lost.key.Public()}}).Findings, trail.ForgedCheckpoint)
}
