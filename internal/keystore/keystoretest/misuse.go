package keystoretest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
)

// wantDecryptFailure checks the code of a failed Decrypt. An
// InvalidCiphertextException tells the caller nothing more.
func (f *fixture) wantDecryptFailure(t *testing.T, what string, err error) {
	t.Helper()
	if got := kmsapi.CodeOf(err); !slices.Contains(f.DecryptFailures, got) {
		t.Fatalf("%s: Decrypt ended with code %q (%v), want %s", what, got, err, f.DecryptFailures)
	}
	var e *kmsapi.Error
	if errors.As(err, &e) && e.Code == kmsapi.InvalidCiphertext && e.Message != "" {
		t.Fatalf("%s: the InvalidCiphertextException has the text %q", what, e.Message)
	}
}

func testTampering(t *testing.T, f *fixture) {
	key, _ := f.create(t)
	plaintext, aad := randomBytes(32), randomBytes(60)
	sealed := f.encrypt(t, key, plaintext, aad)
	for i := range sealed {
		touched := bytes.Clone(sealed)
		touched[i] ^= 1 << (i % 8)
		f.mustNotDecrypt(t, fmt.Sprintf("a bit changed in byte %d of %d", i, len(sealed)), key, touched, aad)
	}
	for n := range sealed {
		f.mustNotDecrypt(t, fmt.Sprintf("cut to %d of %d bytes", n, len(sealed)), key, sealed[:n:n], aad)
	}
	for n := 1; n < len(sealed); n += 7 {
		f.mustNotDecrypt(t, fmt.Sprintf("the first %d bytes cut off", n), key, sealed[n:], aad)
	}
	f.mustNotDecrypt(t, "a zero appended", key, append(bytes.Clone(sealed), 0), aad)
	f.mustNotDecrypt(t, "a zero put in front", key, append([]byte{0}, sealed...), aad)
	f.mustNotDecrypt(t, "twice in a row", key, append(bytes.Clone(sealed), sealed...), aad)
	f.mustDecrypt(t, key, sealed, aad, plaintext)
}

func testGarbage(t *testing.T, f *fixture) {
	key, _ := f.create(t)
	for _, n := range []int{0, 1, 12, 16, 28, 40, 100, 6144} {
		f.mustNotDecrypt(t, fmt.Sprintf("%d random bytes", n), key, randomBytes(n), nil)
		f.mustNotDecrypt(t, fmt.Sprintf("%d zeros", n), key, make([]byte, n), nil)
	}
}

func testWrongAAD(t *testing.T, f *fixture) {
	key, _ := f.create(t)
	plaintext, aad := randomBytes(32), randomBytes(60)
	sealed := f.encrypt(t, key, plaintext, aad)
	for i := range aad {
		other := bytes.Clone(aad)
		other[i] ^= 1 << (i % 8)
		f.mustNotDecrypt(t, fmt.Sprintf("a bit of authenticated byte %d changed", i), key, sealed, other)
	}
	f.mustNotDecrypt(t, "no authenticated data", key, sealed, nil)
	f.mustNotDecrypt(t, "authenticated data cut short", key, sealed, aad[:59:59])
	f.mustNotDecrypt(t, "authenticated data with a zero appended", key, sealed, append(bytes.Clone(aad), 0))

	bare := f.encrypt(t, key, plaintext, nil)
	f.mustNotDecrypt(t, "authenticated data where there was none", key, bare, []byte{0})
	f.mustDecrypt(t, key, bare, []byte{}, plaintext)
}

func testTwoKeys(t *testing.T, f *fixture) {
	a, _ := f.create(t)
	b, _ := f.create(t)
	plaintext, aad := randomBytes(32), randomBytes(60)
	fromA, fromB := f.encrypt(t, a, plaintext, aad), f.encrypt(t, b, plaintext, aad)
	f.mustNotDecrypt(t, "the first key's ciphertext under the second key", b, fromA, aad)
	f.mustNotDecrypt(t, "the second key's ciphertext under the first key", a, fromB, aad)
	f.mustDecrypt(t, a, fromA, aad, plaintext)
	f.mustDecrypt(t, b, fromB, aad, plaintext)
}

// usable reports whether a key still works.
func (f *fixture) usable(t *testing.T, key keystore.Key) bool {
	_, err := f.store.Encrypt(f.context(t), callFor("Encrypt"), key, nil, []byte("still there?"), nil)
	return err == nil
}
