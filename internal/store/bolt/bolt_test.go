package bolt_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
	"kastellan.dev/internal/store/storetest"
)

func create(t testing.TB, path string) *bolt.Store {
	t.Helper()
	s, err := bolt.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func open(t testing.TB, path string) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "metadata.db") }

func put(ctx context.Context, s store.Store, key string, value []byte) error {
	_, err := s.Update(ctx, func(tx store.Tx) error { return tx.Put(key, value) })
	return err
}

// placed remembers where a store is, for opening it again.
type placed struct {
	store.Store
	path string
}

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t,
		func(t *testing.T) store.Store {
			path := newPath(t)
			return placed{create(t, path), path}
		},
		func(t *testing.T, s store.Store) store.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, s.(placed).path)
		})
}

func TestCreateAndOpenAreDifferentVerbs(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	if _, err := bolt.Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of a missing file: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open made a file: %v", err)
	}
	if err := create(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a store: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("Create changed the store that was there (%v)", err)
	}
	open(t, path)
}

func TestCreateLeavesOneFileThatOnlyItsOwnerReads(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	create(t, path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("the directory has %v", entries)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode(); mode != 0o600 {
		t.Errorf("the file has mode %v", mode)
	}
}

func TestASecondOpenSaysThatTheFileIsInUse(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	if s := create(t, path); !s.Exclusive() {
		t.Error("the store does not say that it is exclusive")
	}
	_, err := bolt.Open(path)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("Open of a locked file: %v", err)
	}
}

func TestOpenRefusesWhatIsNoStore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		make       func(path string) error
	}{
		{"an empty file", "empty", func(path string) error { return os.WriteFile(path, nil, 0o600) }},
		{"a text", "invalid", func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("text ", 10000)), 0o600) }},
		{"a directory", "directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a bbolt file of something else", "no metadata store", func(path string) error { return writeBuckets(path, "other") }},
		{"a store of a later format", `format "2"`, func(path string) error { return writeBuckets(path, "data", "meta") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			if _, err := bolt.Open(path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open: %v, want an error with %q", err, c.want)
			}
		})
	}
}

// writeBuckets makes a bbolt file with buckets that all say format 2.
func writeBuckets(path string, names ...string) error {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range names {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			if err := b.Put([]byte("format"), []byte("2")); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, db.Close())
}
