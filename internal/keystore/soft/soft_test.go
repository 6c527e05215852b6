// Soft keys must work where only what FIPS 140-3 approves may run.
//
//go:debug fips140=only
package soft_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/keystoretest"
	"kastellan.dev/internal/keystore/soft"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/store/bolt"
	"kastellan.dev/internal/xaes"
)

func newKeyring(t testing.TB) *rootkey.Keyring {
	t.Helper()
	db, err := bolt.Create(filepath.Join(t.TempDir(), "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	k, err := rootkey.OpenKeyring(t.Context(), rootkey.Random(), db)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestContract(t *testing.T) {
	t.Parallel()
	keyring := newKeyring(t)
	keystoretest.Run(t, keystoretest.Options{
		New: func(*testing.T) (keystore.Store, func() keystore.NewKey) { return soft.New(keyring), nil },
		Restart: func(*testing.T, keystore.Store) keystore.Store {
			return soft.New(keyring)
		},
		MaxPlaintext: 4300,
	})
	keystoretest.RunKeyring(t, soft.New(keyring))
}

// countingSealer counts what is opened, and can be told to fail.
type countingSealer struct {
	rootkey.Sealer
	opened atomic.Int64
	failed error
}

func (s *countingSealer) Seal(purpose, context string, plaintext []byte) ([]byte, error) {
	if s.failed != nil {
		return nil, s.failed
	}
	return s.Sealer.Seal(purpose, context, plaintext)
}

func (s *countingSealer) Open(purpose, context string, sealed []byte) ([]byte, error) {
	s.opened.Add(1)
	return s.Sealer.Open(purpose, context, sealed)
}

func createKey(t testing.TB, s *soft.Store) keystore.Key {
	t.Helper()
	nk := keystoretest.RandomKey()
	m, err := s.CreateKey(context.Background(), keystore.Call{}, nk)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.ID) != 64 {
		t.Fatalf("the key material id is %q", m.ID)
	}
	return keystore.Key{ID: nk.ID, ARN: nk.ARN, Data: m.Data}
}

func TestMaterialDoesNotOpenForAnotherKey(t *testing.T) {
	t.Parallel()
	s := soft.New(newKeyring(t))
	mine, other := createKey(t, s), createKey(t, s)
	sealed, err := s.Encrypt(t.Context(), keystore.Call{}, mine, nil, []byte("x"), nil) // the material is in memory now
	if err != nil {
		t.Fatal(err)
	}
	region := mine
	region.ARN = strings.Replace(mine.ARN, "eu-central-1", "eu-west-1", 1)
	moved := other
	moved.Data = mine.Data
	cut := mine
	cut.Data = mine.Data[:len(mine.Data)-1]
	none := mine
	none.Data = nil
	for name, key := range map[string]keystore.Key{
		"the same id in another Region": region, "another key": moved, "material cut short": cut, "no material": none,
	} {
		got, err := s.Decrypt(t.Context(), keystore.Call{}, key, sealed, nil)
		if err == nil || got != nil {
			t.Errorf("%s: Decrypt gives %q, %v", name, got, err)
		}
		if code := kmsapi.CodeOf(err); code != kmsapi.KMSInternal {
			t.Errorf("%s: broken material is the caller's %s", name, code)
		}
	}
}

func TestAKeyInUseIsUnsealedOnce(t *testing.T) {
	t.Parallel()
	sealer := &countingSealer{Sealer: newKeyring(t)}
	s := soft.New(sealer)
	key := createKey(t, s)
	use := func() {
		if _, err := s.Encrypt(t.Context(), keystore.Call{}, key, nil, []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		use()
	}
	if n := sealer.opened.Load(); n != 1 {
		t.Errorf("ten uses opened the sealed material %d times", n)
	}
	if err := s.DeleteKey(t.Context(), keystore.Call{}, key); err != nil {
		t.Fatal(err)
	}
	if use(); sealer.opened.Load() != 2 {
		t.Error("DeleteKey left the material in memory")
	}
}

func TestMemoryForgetsKeysThatAreNotUsed(t *testing.T) {
	t.Parallel()
	sealer := &countingSealer{Sealer: newKeyring(t)}
	s := soft.NewWithLimit(sealer, 4)
	use := func(key keystore.Key) int64 {
		before := sealer.opened.Load()
		if _, err := s.Encrypt(t.Context(), keystore.Call{}, key, nil, []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
		return sealer.opened.Load() - before
	}
	busy, idle := createKey(t, s), createKey(t, s)
	use(busy)
	use(idle)
	for i := range 40 {
		use(createKey(t, s))
		if use(busy) != 0 {
			t.Fatalf("the busy key was forgotten after %d others", i+1)
		}
		if n := s.Cached(); n > 8 {
			t.Fatalf("%d keys are unsealed in memory", n)
		}
	}
	if use(idle) != 1 {
		t.Error("the idle key is still in memory")
	}
}

func TestCreateKeyReportsASealerThatFails(t *testing.T) {
	t.Parallel()
	failed := errors.New("no")
	s := soft.New(&countingSealer{Sealer: newKeyring(t), failed: failed})
	if m, err := s.CreateKey(t.Context(), keystore.Call{}, keystoretest.RandomKey()); !errors.Is(err, failed) || m.Data != nil {
		t.Errorf("CreateKey gives %v", err)
	}
}

func TestTheHotPathAllocatesWhatTheCipherDoes(t *testing.T) {
	s := soft.New(newKeyring(t))
	key, aad, plaintext := createKey(t, s), make([]byte, 60), make([]byte, 32)
	dst := make([]byte, 0, 256)
	bare, err := xaes.New(make([]byte, xaes.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	want := testing.AllocsPerRun(200, func() { bare.Seal(dst, plaintext, aad) })
	got := testing.AllocsPerRun(200, func() {
		if _, err := s.Encrypt(context.Background(), keystore.Call{}, key, dst, plaintext, aad); err != nil {
			t.Fatal(err)
		}
	})
	if got > want {
		t.Errorf("Encrypt allocates %v times, the cipher alone %v times", got, want)
	}
}
