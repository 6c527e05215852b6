package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
)

// shelf is a service that has records and no HSMs.
func shelf(t testing.TB) *Service {
	t.Helper()
	db, err := bolt.Create(filepath.Join(t.TempDir(), "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &Service{db: db, sealer: rootkey.Random().Direct()}
}

func wrappedKeys(n int) (keys []hsm.WrappedKey) {
	for i := range n {
		label := fmt.Sprintf("arn:aws:kms:us-east-1:111122223333:key/%04d", i)
		keys = append(keys, hsm.WrappedKey{Label: label, ID: []byte{byte(i)}, Encrypt: true, Wrapped: bytes.Repeat([]byte{1}, 41), Known: bytes.Repeat([]byte{2}, 61)})
	}
	return keys
}

func kept(t *testing.T, s *Service, id string, keys int) *backupRecord {
	t.Helper()
	b := &backupRecord{ID: id, Account: "111122223333", Region: "us-east-1", Cluster: "cluster-22222222222"}
	_, err := s.db.Update(t.Context(), func(tx store.Tx) error { return s.saveContent(tx, b, wrappedKeys(keys)) })
	must(t, err)
	return b
}

func (s *Service) contentOf(t *testing.T, b *backupRecord) (keys []hsm.WrappedKey, err error) {
	t.Helper()
	must(t, s.db.View(t.Context(), func(r store.Reader) error { keys, err = s.loadContent(r, b); return nil }))
	return keys, err
}

func TestContentIsKeptInParts(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 499, 500, 501, 1000, 1001, 3300} {
		s := shelf(t)
		b := kept(t, s, "backup-22222222222", n)
		if want := max(1, (n+chunk-1)/chunk); b.Chunks != want || b.Keys != n {
			t.Errorf("%d keys are %d in %d parts, want %d parts", n, b.Keys, b.Chunks, want)
		}
		got, err := s.contentOf(t, b)
		if err != nil || len(got) != n {
			t.Fatalf("%d keys: %d come back, %v", n, len(got), err)
		}
		if diff := cmp.Diff(wrappedKeys(n), got); n > 0 && diff != "" {
			t.Error(diff)
		}
		must(t, s.db.View(t.Context(), func(r store.Reader) error {
			for entry, err := range r.Scan(contentPrefix) {
				if err != nil || len(entry.Value) > 1<<20 || bytes.Contains(entry.Value, []byte("arn:")) {
					t.Errorf("%s has %d bytes, or can be read: %v", entry.Key, len(entry.Value), err)
				}
			}
			return nil
		}))
		_, err = s.db.Update(t.Context(), func(tx store.Tx) error { return deleteContent(tx, b) })
		must(t, err)
		must(t, s.db.View(t.Context(), func(r store.Reader) error {
			for entry := range r.Scan("") {
				t.Errorf("%s is left", entry.Key)
			}
			return nil
		}))
	}
}

// TestContentIsTakenAsItWasOrNotAtAll changes what is on record in every way that somebody could who writes the store.
func TestContentIsTakenAsItWasOrNotAtAll(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]func(tx store.Tx, b, other *backupRecord) error{
		"a byte is another one": func(tx store.Tx, b, _ *backupRecord) error {
			v, _, err := tx.Get(b.contentPath(1))
			v = bytes.Clone(v)
			v[len(v)/2] ^= 1
			return firstOf(err, tx.Put(b.contentPath(1), v))
		},
		"a part ends too soon": func(tx store.Tx, b, _ *backupRecord) error {
			v, _, err := tx.Get(b.contentPath(0))
			return firstOf(err, tx.Put(b.contentPath(0), v[:len(v)-1]))
		},
		"a part is missing":                           func(tx store.Tx, b, _ *backupRecord) error { return tx.Delete(b.contentPath(0)) },
		"the last part is missing":                    func(tx store.Tx, b, _ *backupRecord) error { return tx.Delete(b.contentPath(2)) },
		"the last part is missing, and so is it told": func(_ store.Tx, b, _ *backupRecord) error { b.Chunks, b.Keys = 2, 1000; return nil },
		"the first part is all, and so is it told":    func(_ store.Tx, b, _ *backupRecord) error { b.Chunks, b.Keys = 1, 500; return nil },
		"there is nothing, and so is it told":         func(_ store.Tx, b, _ *backupRecord) error { b.Chunks, b.Keys = 0, 0; return nil },
		"fewer keys are told":                         func(_ store.Tx, b, _ *backupRecord) error { b.Keys--; return nil },
		"another cluster is told":                     func(_ store.Tx, b, _ *backupRecord) error { b.Cluster = "cluster-33333333333"; return nil },
		"the record is that of another backup":        func(_ store.Tx, b, other *backupRecord) error { b.ID = "backup-44444444444"; return nil },
		"a part is the same part of another backup": func(tx store.Tx, b, other *backupRecord) error {
			return move(tx, other.contentPath(0), b.contentPath(0))
		},
		"a part is another part":                       func(tx store.Tx, b, _ *backupRecord) error { return move(tx, b.contentPath(0), b.contentPath(1)) },
		"a part is what a user's record is sealed for": func(tx store.Tx, b, _ *backupRecord) error { return tx.Put(b.contentPath(0), []byte("{}")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shelf(t)
			b, other := kept(t, s, "backup-22222222222", 1001), kept(t, s, "backup-33333333333", 1001)
			_, err := s.db.Update(t.Context(), func(tx store.Tx) error { return tamper(tx, b, other) })
			must(t, err)
			if keys, err := s.contentOf(t, b); err == nil || keys != nil {
				t.Errorf("%d keys are taken, %v", len(keys), err)
			}
		})
	}
}

// TestUsersAreSealedForTheirPlace moves the users of a cluster and those of a backup.
func TestUsersAreSealedForTheirPlace(t *testing.T) {
	t.Parallel()
	s := shelf(t)
	table := activeTable(t)
	text, err := json.Marshal(table)
	must(t, err)
	mine, theirs := usersPrefix+"a/r/cluster-mine", usersPrefix+"a/r/cluster-theirs"
	sealed, err := s.sealer.Seal(userPurpose, mine, text)
	must(t, err)
	if strings.Contains(string(sealed), "kmsuser") {
		t.Error("the users can be read")
	}
	if _, err := s.resealUsers(theirs, mine, sealed); err == nil {
		t.Error("the users of one cluster are taken for those of another")
	}
	moved, err := s.resealUsers(mine, theirs, sealed)
	must(t, err)
	if _, err := s.resealUsers(mine, theirs, moved); err == nil {
		t.Error("what was sealed for another place opens at the first one")
	}
	_, err = s.db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(theirs, moved) })
	must(t, err)
	got, err := s.loadUsers(t.Context(), theirs)
	if err != nil || len(got.Users) != len(table.Users) {
		t.Errorf("%d users came with the backup, %v", len(got.Users), err)
	}
}

func move(tx store.Tx, from, to string) error {
	v, _, err := tx.Get(from)
	return firstOf(err, tx.Put(to, v))
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
