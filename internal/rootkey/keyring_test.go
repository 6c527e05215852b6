// Sealing must work where only what FIPS 140-3 approves may run.
//
//go:debug fips140=only
package rootkey_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
)

func newDB(t testing.TB) store.Store {
	t.Helper()
	db, err := bolt.Create(filepath.Join(t.TempDir(), "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func openKeyring(t testing.TB, root rootkey.Key, db store.Store) *rootkey.Keyring {
	t.Helper()
	k, err := rootkey.OpenKeyring(t.Context(), root, db)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func seal(t testing.TB, k rootkey.Sealer, purpose, context, plaintext string) []byte {
	t.Helper()
	sealed, err := k.Seal(purpose, context, []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func wantOpens(t *testing.T, k rootkey.Sealer, purpose, context string, sealed []byte, want string) {
	t.Helper()
	if got, err := k.Open(purpose, context, sealed); err != nil || string(got) != want {
		t.Errorf("Open gives %q, %v, want %q", got, err, want)
	}
}

// content gives all that the store holds.
func content(t *testing.T, db store.Store) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	err := db.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("") {
			if err != nil {
				return err
			}
			all[e.Key] = e.Value
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func write(t testing.TB, db store.Store, key string, value []byte) {
	t.Helper()
	if _, err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(key, value) }); err != nil {
		t.Fatal(err)
	}
}

// sealers gives one of each kind.
func sealers(t *testing.T) map[string]rootkey.Sealer {
	root, db := rootkey.Random(), newDB(t)
	k := openKeyring(t, root, db)
	if err := k.Renew(t.Context(), root, db); err != nil { // so that another KEK's number is a possible change
		t.Fatal(err)
	}
	return map[string]rootkey.Sealer{"key ring": k, "direct": root.Direct()}
}

func TestSealedOpensForItsPurposeAndContextOnly(t *testing.T) {
	t.Parallel()
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, plaintext := range []string{"", "x", "a secret", strings.Repeat("long ", 10000)} {
				sealed := seal(t, s, "purpose", "context", plaintext)
				wantOpens(t, s, "purpose", "context", sealed, plaintext)
				if len(plaintext) > 1 && bytes.Contains(sealed, []byte(plaintext)) {
					t.Error("the sealed bytes show the secret")
				}
				for _, other := range [][2]string{{"purpose", ""}, {"", "context"}, {"context", "purpose"}, {"purposec", "ontext"}, {"purpos", "econtext"}, {"purpose", "context\x00"}} {
					if got, err := s.Open(other[0], other[1], sealed); err == nil {
						t.Errorf("opened as %q, it gives %q", other, got)
					}
				}
			}
			if bytes.Equal(seal(t, s, "p", "c", "x"), seal(t, s, "p", "c", "x")) {
				t.Error("sealing twice gives the same bytes")
			}
		})
	}
}

func TestTouchedBytesDoNotOpen(t *testing.T) {
	t.Parallel()
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sealed := seal(t, s, "purpose", "context", "secret")
			for i := range sealed {
				for bit := range 8 {
					touched := bytes.Clone(sealed)
					touched[i] ^= 1 << bit
					if got, err := s.Open("purpose", "context", touched); err == nil {
						t.Fatalf("with bit %d of byte %d changed it gives %q", bit, i, got)
					}
				}
				if got, err := s.Open("purpose", "context", sealed[:i]); err == nil {
					t.Fatalf("cut to %d bytes it gives %q", i, got)
				}
			}
			if got, err := s.Open("purpose", "context", append(sealed, 0)); err == nil {
				t.Errorf("with a byte appended it gives %q", got)
			}
		})
	}
}

func TestDirectNeedsTheSameKey(t *testing.T) {
	t.Parallel()
	root := rootkey.Random()
	sealed := seal(t, root.Direct(), "p", "c", "secret")
	for name, other := range map[string]rootkey.Sealer{
		"another root key": rootkey.Random().Direct(),
		"no root key":      rootkey.Key{}.Direct(),
		"the key ring":     openKeyring(t, root, newDB(t)),
	} {
		if got, err := other.Open("p", "c", sealed); err == nil {
			t.Errorf("%s opens it: %q", name, got)
		}
	}
	if _, err := (rootkey.Key{}).Direct().Seal("p", "c", nil); err == nil {
		t.Error("no root key seals")
	}
}

func TestAKeyringOpensWhatItsStoreSealedEarlier(t *testing.T) {
	t.Parallel()
	root, db := rootkey.Random(), newDB(t)
	first := openKeyring(t, root, db)
	old := seal(t, first, "p", "c", "old")
	again := openKeyring(t, root, db)
	wantOpens(t, again, "p", "c", old, "old")
	if err := again.Renew(t.Context(), root, db); err != nil {
		t.Fatal(err)
	}
	renewed := seal(t, again, "p", "c", "new")
	if old[4] != 1 || renewed[4] != 2 {
		t.Errorf("sealed under the keys %d and %d, want 1 and 2", old[4], renewed[4])
	}
	for _, k := range []*rootkey.Keyring{again, openKeyring(t, root, db)} {
		wantOpens(t, k, "p", "c", old, "old")
		wantOpens(t, k, "p", "c", renewed, "new")
	}
	if got, err := first.Open("p", "c", renewed); err == nil {
		t.Errorf("a key ring opens what was sealed under a key that it has not read: %q", got)
	}
	if n := len(content(t, db)); n != 2 {
		t.Errorf("the store holds %d records, want 2", n)
	}
}

func TestAWrongRootKeyIsToldFromADamagedRecord(t *testing.T) {
	t.Parallel()
	root, db := rootkey.Random(), newDB(t)
	openKeyring(t, root, db)
	before := content(t, db)
	_, err := rootkey.OpenKeyring(t.Context(), rootkey.Random(), db)
	if !errors.Is(err, rootkey.ErrWrongRootKey) {
		t.Errorf("with another root key: %v", err)
	}
	record := before["kek/1"]
	for i := range record {
		touched := bytes.Clone(record)
		touched[i] ^= 0x20
		write(t, db, "kek/1", touched)
		_, err := rootkey.OpenKeyring(t.Context(), root, db)
		if err == nil {
			t.Fatalf("a record with byte %d changed is taken", i)
		}
		if inID := i >= 1 && i <= 16; errors.Is(err, rootkey.ErrWrongRootKey) != inID {
			t.Errorf("with byte %d changed: %v", i, err)
		}
	}
	write(t, db, "kek/1", record)
	openKeyring(t, root, db)
}

func TestRecordsInTheWrongPlaceAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"kek/2", "kek/01", "kek/0", "kek/", "kek/x", "kek/-1", "kek/4294967297", "kek/1/1"} {
		root, db := rootkey.Random(), newDB(t)
		openKeyring(t, root, db)
		write(t, db, name, content(t, db)["kek/1"]) // the number is authenticated: also a valid one does not fit
		if _, err := rootkey.OpenKeyring(t.Context(), root, db); err == nil || errors.Is(err, rootkey.ErrWrongRootKey) {
			t.Errorf("a record copied to %q: %v", name, err)
		}
	}
}

func TestRewrapReplacesTheRootKeyAndNothingElse(t *testing.T) {
	t.Parallel()
	old, next, db := rootkey.Random(), rootkey.Random(), newDB(t)
	k := openKeyring(t, old, db)
	first := seal(t, k, "p", "c", "first")
	if err := k.Renew(t.Context(), old, db); err != nil {
		t.Fatal(err)
	}
	second := seal(t, k, "p", "c", "second")
	write(t, db, "keys/other", []byte("untouched"))
	for _, attempt := range []string{"once", "and again"} {
		if err := rootkey.Rewrap(t.Context(), old, next, db); err != nil {
			t.Fatalf("%s: %v", attempt, err)
		}
		if _, err := rootkey.OpenKeyring(t.Context(), old, db); !errors.Is(err, rootkey.ErrWrongRootKey) {
			t.Errorf("%s: the old root key opens the store: %v", attempt, err)
		}
		for _, k := range []*rootkey.Keyring{k, openKeyring(t, next, db)} {
			wantOpens(t, k, "p", "c", first, "first")
			wantOpens(t, k, "p", "c", second, "second")
		}
	}
	if got := content(t, db); len(got) != 3 || string(got["keys/other"]) != "untouched" {
		t.Errorf("the store holds %d records, %q", len(got), got["keys/other"])
	}
}

func TestRewrapChangesAllRecordsOrNone(t *testing.T) {
	t.Parallel()
	old, next, db := rootkey.Random(), rootkey.Random(), newDB(t)
	k := openKeyring(t, old, db)
	if err := k.Renew(t.Context(), old, db); err != nil {
		t.Fatal(err)
	}
	foreign := newDB(t)
	openKeyring(t, rootkey.Random(), foreign)
	write(t, db, "kek/3", content(t, foreign)["kek/1"])
	before := content(t, db)
	if err := rootkey.Rewrap(t.Context(), old, next, db); !errors.Is(err, rootkey.ErrWrongRootKey) {
		t.Errorf("with a record under a third root key: %v", err)
	}
	for key, value := range content(t, db) {
		if !bytes.Equal(value, before[key]) {
			t.Errorf("the record %q was changed", key)
		}
	}
	if err := rootkey.Rewrap(t.Context(), old, next, newDB(t)); err == nil {
		t.Error("an empty store is rewrapped")
	}
}

func TestNoRootKeyIsAnErrorNotAKey(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	if _, err := rootkey.OpenKeyring(t.Context(), rootkey.Key{}, db); err == nil {
		t.Error("a key ring opens without a root key")
	}
	root := rootkey.Random()
	openKeyring(t, root, db)
	for _, pair := range [][2]rootkey.Key{{root, {}}, {{}, root}, {}} {
		if err := rootkey.Rewrap(t.Context(), pair[0], pair[1], db); err == nil {
			t.Error("Rewrap goes without a root key")
		}
	}
	openKeyring(t, root, db)
}

// golden holds records and sealed bytes that another implementation made. Later
// versions must still open them.
type golden struct {
	RootKey   string            `json:"rootKey"`
	RootKeyID string            `json:"rootKeyId"`
	Records   map[string]string `json:"records"`
	Sealed    []goldenSealed    `json:"sealed"`
	Direct    []goldenSealed    `json:"direct"`
}

type goldenSealed struct {
	Purpose   string `json:"purpose"`
	Context   string `json:"context"`
	Plaintext string `json:"plaintext"`
	Sealed    string `json:"sealed"`
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openGolden gives the golden file, its root key, and a key ring over its records.
func openGolden(t testing.TB) (golden, rootkey.Key, *rootkey.Keyring) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "root.key")
	if err := os.WriteFile(path, []byte(g.RootKey), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := rootkey.Load(rootkey.Source{File: path})
	if err != nil {
		t.Fatal(err)
	}
	if root.ID() != g.RootKeyID {
		t.Errorf("the root key has id %s, want %s", root.ID(), g.RootKeyID)
	}
	db := newDB(t)
	for key, value := range g.Records {
		write(t, db, key, unhex(t, value))
	}
	return g, root, openKeyring(t, root, db)
}

func TestGolden(t *testing.T) {
	t.Parallel()
	g, root, k := openGolden(t)
	if len(g.Sealed) == 0 || len(g.Direct) == 0 {
		t.Fatal("there is nothing to open")
	}
	for _, s := range g.Sealed {
		wantOpens(t, k, s.Purpose, s.Context, unhex(t, s.Sealed), string(unhex(t, s.Plaintext)))
	}
	for _, s := range g.Direct {
		wantOpens(t, root.Direct(), s.Purpose, s.Context, unhex(t, s.Sealed), string(unhex(t, s.Plaintext)))
	}
}

// FuzzOpen looks for a panic, and for bytes that open although nobody sealed them.
func FuzzOpen(f *testing.F) {
	g, root, k := openGolden(f)
	genuine := make(map[string]bool)
	for _, s := range append(g.Sealed, g.Direct...) {
		sealed := unhex(f, s.Sealed)
		f.Add(s.Purpose, s.Context, sealed)
		genuine[s.Purpose+"\x00"+s.Context+"\x00"+string(sealed)] = true
	}
	f.Fuzz(func(t *testing.T, purpose, context string, sealed []byte) {
		for _, s := range []rootkey.Sealer{k, root.Direct()} {
			if _, err := s.Open(purpose, context, sealed); err == nil && !genuine[purpose+"\x00"+context+"\x00"+string(sealed)] {
				t.Fatalf("%x opens for %q in %q", sealed, purpose, context)
			}
		}
	})
}

func BenchmarkKeyring(b *testing.B) {
	k := openKeyring(b, rootkey.Random(), newDB(b))
	secret := make([]byte, 32)
	sealed := seal(b, k, "key material", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", string(secret))
	b.Run("Seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = k.Seal("key material", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", secret)
		}
	})
	b.Run("Open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Open("key material", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
}
