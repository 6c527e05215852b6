// Package keystoretest is the suite that every implementation of
// keystore.Store passes: the contract in that package, as tests.
//
// It knows nothing of how a store works, and asks for no backdoor: it makes
// keys, uses them rightly and wrongly, and looks at what comes back. What
// differs between kinds of stores by contract is said in [Options].
package keystoretest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"testing"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
)

// Options describes the store under test.
type Options struct {
	// New gives a store ready for use, and the function that describes the next
	// key to be made in it; nil for newKey means that a random id will
	// do. What New opens is closed by t.Cleanup. It is called once or twice.
	New func(t *testing.T) (s keystore.Store, newKey func() keystore.NewKey)

	// Restart gives a second store over the same keys, as a new process
	// would have it; nil leaves that test out.
	Restart func(t *testing.T, s keystore.Store) keystore.Store

	// DecryptFailures are the codes that a failed Decrypt may have; InvalidCiphertextException if empty.
	DecryptFailures []kmsapi.Code

	// Destroys says that after DeleteKey the store has the material no more, so
	// that the key cannot be used even by who kept its Data.
	Destroys bool

	// MaxPlaintext is the longest plaintext to try, in bytes; 4096 if zero.
	MaxPlaintext int
}

// Run runs the suite. Its parts run in parallel on one store.
func Run(t *testing.T, o Options) {
	if o.DecryptFailures == nil {
		o.DecryptFailures = []kmsapi.Code{kmsapi.InvalidCiphertext}
	}
	if o.MaxPlaintext == 0 {
		o.MaxPlaintext = 4096
	}
	f := newFixture(t, o)
	for _, part := range []struct {
		name string
		test func(*testing.T, *fixture)
	}{
		{"what is encrypted can be decrypted", testRoundTrips},
		{"the longest plaintext fits into a ciphertext blob", testFitsBlob},
		{"two encryptions of the same bytes differ", testFreshness},
		{"results are appended and inputs left alone", testBuffers},
		{"whatever was touched does not decrypt", testTampering},
		{"what is no ciphertext does not decrypt", testGarbage},
		{"other authenticated data does not decrypt", testWrongAAD},
		{"two keys do not open each other's ciphertexts", testTwoKeys},
		{"key material ids are well formed and distinct", testMaterialIDs},
		{"many goroutines use two keys at once", testConcurrency},
		{"a call whose context is done fails and leaves the store well", testCancelled},
		{"deleting takes one key, twice, and without its data", testDelete},
		{"random bytes have the asked length and do not repeat", testRandom},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, f)
		})
	}
	if o.Restart != nil {
		t.Run("keys survive a restart", func(t *testing.T) { testRestart(t, newFixture(t, o)) })
	}
}

// fixture is the store under test with what the tests do all the time.
type fixture struct {
	Options
	store  keystore.Store
	newKey func() keystore.NewKey
}

func newFixture(t *testing.T, o Options) *fixture {
	t.Helper()
	f := &fixture{Options: o}
	f.store, f.newKey = o.New(t)
	if f.newKey == nil {
		f.newKey = RandomKey
	}
	return f
}

// RandomKey describes a key with a random id, which no external key store knows.
func RandomKey() keystore.NewKey {
	b := hex.EncodeToString(randomBytes(16))
	id := b[:8] + "-" + b[8:12] + "-" + b[12:16] + "-" + b[16:20] + "-" + b[20:]
	return keystore.NewKey{ID: id, ARN: kmsapi.KeyARN("eu-central-1", "111122223333", id), Spec: kmsapi.SymmetricDefault}
}

func callFor(operation string) keystore.Call {
	return keystore.Call{
		PrincipalARN: "arn:aws:iam::111122223333:user/tester",
		Operation:    operation,
		RequestID:    RandomKey().ID,
	}
}

// context bounds one test, so that a store that hangs fails it.
func (f *fixture) context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// create makes a key and deletes it after the test.
func (f *fixture) create(t *testing.T) (keystore.Key, keystore.Material) {
	t.Helper()
	nk := f.newKey()
	m, err := f.store.CreateKey(f.context(t), callFor("CreateKey"), nk)
	if err != nil {
		t.Fatalf("CreateKey: %v", err)
	}
	key := keystore.Key{ID: nk.ID, ARN: nk.ARN, XksKeyID: nk.XksKeyID, Data: m.Data}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f.store.DeleteKey(ctx, callFor("ScheduleKeyDeletion"), key); err != nil {
			t.Errorf("DeleteKey after the test: %v", err)
		}
	})
	return key, m
}

func (f *fixture) encrypt(t *testing.T, key keystore.Key, plaintext, aad []byte) []byte {
	t.Helper()
	sealed, err := f.store.Encrypt(f.context(t), callFor("Encrypt"), key, nil, plaintext, aad)
	if err != nil {
		t.Fatalf("Encrypt of %d bytes with %d bytes of authenticated data: %v", len(plaintext), len(aad), err)
	}
	return sealed
}

func (f *fixture) mustDecrypt(t *testing.T, key keystore.Key, sealed, aad, want []byte) {
	t.Helper()
	got, err := f.store.Decrypt(f.context(t), callFor("Decrypt"), key, sealed, aad)
	if err != nil {
		t.Fatalf("Decrypt of %d bytes with %d bytes of authenticated data: %v", len(sealed), len(aad), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("Decrypt gave %d bytes that are not the %d encrypted ones", len(got), len(want))
	}
}

// mustNotDecrypt wants the failure that the contract names, and nothing beside it.
func (f *fixture) mustNotDecrypt(t *testing.T, what string, key keystore.Key, sealed, aad []byte) {
	t.Helper()
	got, err := f.store.Decrypt(f.context(t), callFor("Decrypt"), key, sealed, aad)
	if len(got) != 0 {
		t.Fatalf("%s: Decrypt gave %d bytes", what, len(got))
	}
	f.wantDecryptFailure(t, what, err)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
