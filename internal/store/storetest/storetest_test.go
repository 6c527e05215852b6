package storetest_test

import (
	"context"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
	"kastellan.dev/internal/store/storetest"
)

const defectVariable = "KASTELLAN_TEST_DEFECT"

// defects are stores that break the contract, each in one way, and the part of
// the suite that has to see it.
var defects = map[string]struct {
	caught string
	broken func(s store.Store) store.Store
}{
	"commits in spite of an error": {"an error from the function rolls everything back", func(s store.Store) store.Store {
		return commitsAlways{s}
	}},
	"checks nothing at commit": {"two transactions that rely on each other's reads do not both commit", func(s store.Store) store.Store {
		return unserialised{s}
	}},
	"loses counts": {"concurrent counters lose nothing", func(s store.Store) store.Store {
		return unserialised{s}
	}},
	"drops a change": {"watches miss nothing under concurrent writers", func(s store.Store) store.Store {
		return dropsChanges{s}
	}},
	"ignores the context": {"a done context ends every call and writes nothing", func(s store.Store) store.Store {
		return ignoresContext{s}
	}},
	"makes up revisions": {"revisions rise with every change and with nothing else", func(s store.Store) store.Store {
		return &countsCalls{Store: s}
	}},
	"scans too far": {"scans are ordered by bytes and keep to the prefix", func(s store.Store) store.Store {
		return scansAll{s}
	}},
	"forgets": {"everything survives closing and opening", func(s store.Store) store.Store { return s }},
}

type commitsAlways struct{ store.Store }

func (s commitsAlways) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	var failed error
	rev, err := s.Store.Update(ctx, func(tx store.Tx) error { failed = fn(tx); return nil })
	if failed != nil {
		err = failed
	}
	return rev, err
}

// unserialised runs the function on a snapshot and writes later.
type unserialised struct{ store.Store }

func (s unserialised) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	notes := &noted{}
	if err := s.View(ctx, func(r store.Reader) error { notes.Reader = r; return fn(notes) }); err != nil {
		return 0, err
	}
	return s.Store.Update(ctx, func(tx store.Tx) error {
		for _, write := range notes.writes {
			if err := write(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

type noted struct {
	store.Reader
	writes []func(store.Tx) error
}

func (n *noted) Put(key string, value []byte) error {
	n.writes = append(n.writes, func(tx store.Tx) error { return tx.Put(key, value) })
	return nil
}

func (n *noted) Delete(key string) error {
	n.writes = append(n.writes, func(tx store.Tx) error { return tx.Delete(key) })
	return nil
}

// dropsChanges leaves out the first change of every watch.
type dropsChanges struct{ store.Store }

func (s dropsChanges) Watch(ctx context.Context, snapshot func(store.Revision, store.Reader) error, change func(store.Change) error) error {
	seen := 0
	return s.Store.Watch(ctx, snapshot, func(c store.Change) error {
		if seen++; seen == 1 {
			return nil
		}
		return change(c)
	})
}

type ignoresContext struct{ store.Store }

func (s ignoresContext) View(_ context.Context, fn func(store.Reader) error) error {
	return s.Store.View(context.Background(), fn)
}

func (s ignoresContext) Update(_ context.Context, fn func(store.Tx) error) (store.Revision, error) {
	return s.Store.Update(context.Background(), fn)
}

// countsCalls numbers calls, not commits.
type countsCalls struct {
	store.Store
	calls atomic.Uint64
}

func (s *countsCalls) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	_, err := s.Store.Update(ctx, fn)
	return store.Revision(s.calls.Add(1)), err
}

type scansAll struct{ store.Store }

func (s scansAll) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.Store.View(ctx, func(r store.Reader) error { return fn(scanner{r}) })
}

type scanner struct{ store.Reader }

func (s scanner) Scan(prefix string) iter.Seq2[store.Entry, error] {
	return s.Reader.Scan(prefix[:max(0, len(prefix)-1)])
}

func newStore(t *testing.T) store.Store {
	s, err := bolt.Create(filepath.Join(t.TempDir(), "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestSuiteOnBrokenStore is run in a process of its own, where it has to fail.
func TestSuiteOnBrokenStore(t *testing.T) {
	defect, ok := defects[os.Getenv(defectVariable)]
	if !ok {
		t.Skip("runs only as a child of TestTheSuiteSeesEachDefect")
	}
	storetest.Run(t,
		func(t *testing.T) store.Store { return defect.broken(newStore(t)) },
		func(t *testing.T, s store.Store) store.Store {
			_ = s.Close()
			return defect.broken(newStore(t)) // which is always empty
		})
}

func TestTheSuiteSeesEachDefect(t *testing.T) {
	t.Parallel()
	for name, defect := range defects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			only := "-test.run=^TestSuiteOnBrokenStore$/^" + strings.ReplaceAll(defect.caught, " ", "_") + "$"
			cmd := exec.CommandContext(t.Context(), os.Args[0], only)
			cmd.Env = append(os.Environ(), defectVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestSuiteOnBrokenStore/") {
				t.Errorf("the suite ends with %v:\n%s", err, out)
			}
		})
	}
}
