package keystoretest_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/keystoretest"
	"kastellan.dev/internal/keystore/soft"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/store/bolt"
)

const defectVariable = "KASTELLAN_TEST_DEFECT"

// defects are stores that break the contract, each in one way, and the part of
// the suite that has to see it.
var defects = map[string]struct {
	caught string
	broken func(s keystore.Store) keystore.Store
}{
	"ignores authenticated data": {"other authenticated data does not decrypt", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, aad: func([]byte) []byte { return nil }}
	}},
	"cuts authenticated data": {"other authenticated data does not decrypt", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, aad: func(aad []byte) []byte { return aad[:min(len(aad), 59)] }}
	}},
	"does not append": {"results are appended and inputs left alone", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, dst: func([]byte) []byte { return nil }}
	}},
	"writes over dst": {"results are appended and inputs left alone", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, dst: func(dst []byte) []byte { clear(dst); return dst }}
	}},
	"takes bytes behind the end": {"whatever was touched does not decrypt", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, sealed: func(b []byte) []byte { return b[:min(len(b), 72)] }}
	}},
	"changes the sealed bytes": {"results are appended and inputs left alone", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, sealed: func(b []byte) []byte {
			kept := bytes.Clone(b)
			clear(b)
			return kept
		}}
	}},
	"has one key for all": {"two keys do not open each other's ciphertexts", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, oneKey: true}
	}},
	"goes on when the context is done": {"a call whose context is done fails and leaves the store well", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, context: func(context.Context) context.Context { return context.Background() }}
	}},
	"gives the reason away": {"whatever was touched does not decrypt", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, failure: kmsapi.Errorf(kmsapi.InvalidCiphertext, "The tag is wrong.")}
	}},
	"calls it an internal error": {"what is no ciphertext does not decrypt", func(s keystore.Store) keystore.Store {
		return &broken{Store: s, failure: kmsapi.Errorf(kmsapi.KMSInternal, "")}
	}},
}

// broken is a store with a defect at one of its joints.
type broken struct {
	keystore.Store
	aad     func([]byte) []byte
	dst     func([]byte) []byte
	sealed  func([]byte) []byte
	context func(context.Context) context.Context
	failure error
	oneKey  bool
	first   keystore.Material
}

func (b *broken) CreateKey(ctx context.Context, call keystore.Call, key keystore.NewKey) (keystore.Material, error) {
	if b.oneKey {
		key = keystore.NewKey{ID: "one", ARN: "one"}
	}
	m, err := b.Store.CreateKey(through(b.context, ctx), call, key)
	if b.oneKey && b.first.Data == nil {
		b.first = m
	}
	return m, err
}

func (b *broken) Encrypt(ctx context.Context, call keystore.Call, key keystore.Key, dst, plaintext, aad []byte) ([]byte, error) {
	return b.Store.Encrypt(through(b.context, ctx), call, b.key(key), through(b.dst, dst), plaintext, through(b.aad, aad))
}

func (b *broken) Decrypt(ctx context.Context, call keystore.Call, key keystore.Key, sealed, aad []byte) ([]byte, error) {
	plaintext, err := b.Store.Decrypt(through(b.context, ctx), call, b.key(key), through(b.sealed, sealed), through(b.aad, aad))
	if err != nil && b.failure != nil {
		err = b.failure
	}
	return plaintext, err
}

func (b *broken) key(key keystore.Key) keystore.Key {
	if b.oneKey {
		return keystore.Key{ID: "one", ARN: "one", Data: b.first.Data}
	}
	return key
}

func through[T any](fn func(T) T, v T) T {
	if fn == nil {
		return v
	}
	return fn(v)
}

func newStore(t *testing.T) keystore.Store {
	db, err := bolt.Create(filepath.Join(t.TempDir(), "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	keyring, err := rootkey.OpenKeyring(t.Context(), rootkey.Random(), db)
	if err != nil {
		t.Fatal(err)
	}
	return soft.New(keyring)
}

// TestSuiteOnBrokenStore is run in a process of its own, where it has to fail.
func TestSuiteOnBrokenStore(t *testing.T) {
	defect, ok := defects[os.Getenv(defectVariable)]
	if !ok {
		t.Skip("runs only as a child of TestTheSuiteSeesEachDefect")
	}
	s := defect.broken(newStore(t))
	keystoretest.Run(t, keystoretest.Options{
		New: func(*testing.T) (keystore.Store, func() keystore.NewKey) { return s, nil },
	})
}

func TestTheSuiteSeesEachDefect(t *testing.T) {
	t.Parallel()
	for name, defect := range defects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSuiteOnBrokenStore$")
			cmd.Env = append(os.Environ(), defectVariable+"="+name)
			out, err := cmd.CombinedOutput()
			want := "--- FAIL: TestSuiteOnBrokenStore/" + strings.ReplaceAll(defect.caught, " ", "_")
			if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("the suite ends with %v and does not say %q:\n%s", err, want, out)
			}
		})
	}
}
