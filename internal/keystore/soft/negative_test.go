package soft_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"kastellan.dev/internal/aeadtest"
	"kastellan.dev/internal/blob"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/keystoretest"
	"kastellan.dev/internal/keystore/soft"
	"kastellan.dev/internal/kmsapi"
)

// envelope does what the domain does with soft keys: the whole way from the
// bytes that a caller sends to the plaintext.
type envelope struct {
	t     *testing.T
	store *soft.Store
}

func (e *envelope) seal(key keystore.Key, plaintext []byte, context map[string]string) []byte {
	e.t.Helper()
	header, err := blob.AppendHeader(nil, blob.Header{Kind: blob.Soft, KeyID: key.ID, MaterialID: strings.Repeat("a5", 32)})
	if err != nil {
		e.t.Fatal(err)
	}
	out, err := e.store.Encrypt(e.t.Context(), keystore.Call{}, key, header, plaintext, blob.AppendAAD(nil, header, context))
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

func (e *envelope) open(key keystore.Key, ciphertext []byte, context map[string]string) ([]byte, error) {
	_, header, body, err := blob.Parse(ciphertext) // the domain would look for the header's key: here it is always found
	if err != nil {
		return nil, err
	}
	return e.store.Decrypt(e.t.Context(), keystore.Call{}, key, body, blob.AppendAAD(nil, header, context))
}

// mustNotOpen wants the refusal that a caller sees: one exception, without a text.
func (e *envelope) mustNotOpen(what string, plaintext []byte, err error) {
	e.t.Helper()
	if plaintext != nil {
		e.t.Fatalf("%s: %x is given", what, plaintext)
	}
	var shown *kmsapi.Error
	switch {
	case errors.Is(err, blob.ErrMalformed):
	case errors.As(err, &shown) && shown.Code == kmsapi.InvalidCiphertext && shown.Message == "":
	default:
		e.t.Fatalf("%s: error %v", what, err)
	}
}

func TestNoChangedCiphertextIsDecrypted(t *testing.T) {
	t.Parallel()
	e := &envelope{t, soft.New(newKeyring(t))}
	key, other := createKey(t, e.store), createKey(t, e.store)
	context := map[string]string{"tenant": "a", "purpose": "backup"}
	for _, plaintext := range []string{"", "x", "a data key of thirty-two bytes.."} {
		ciphertext := e.seal(key, []byte(plaintext), context)
		for change, mutant := range aeadtest.Mutants(ciphertext, 1, 2, 3, 4, 20, 52, 64, 76, len(ciphertext)-16) {
			got, err := e.open(key, mutant, context)
			e.mustNotOpen(change, got, err)
		}
		for what, wrong := range map[string]map[string]string{
			"no context":         nil,
			"half of it":         {"tenant": "a"},
			"the other half":     {"purpose": "backup"},
			"a pair more":        {"tenant": "a", "purpose": "backup", "": ""},
			"values exchanged":   {"tenant": "backup", "purpose": "a"},
			"keys for values":    {"a": "tenant", "backup": "purpose"},
			"another case":       {"Tenant": "a", "purpose": "backup"},
			"a pair within one":  {"tenant": "a\x00\x00\x00\x07purpose\x00\x00\x00\x06backup"},
			"a blank at the end": {"tenant": "a ", "purpose": "backup"},
		} {
			got, err := e.open(key, ciphertext, wrong)
			e.mustNotOpen(what, got, err)
		}
		if got, err := e.open(key, ciphertext, context); err != nil || string(got) != plaintext {
			t.Errorf("the original opens to %q, %v", got, err)
		}
		got, err := e.open(other, ciphertext, context)
		e.mustNotOpen("another key", got, err)
	}
}

// The key store gets authenticated data as bytes, and must not know what they mean.
func TestAuthenticatedDataIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	e := &envelope{t, soft.New(newKeyring(t))}
	key := createKey(t, e.store)
	header := []byte("header")
	aad := blob.AppendAAD(nil, header, map[string]string{"k": "v"})
	pair := aad[4+len(header):]
	sealed, err := e.store.Encrypt(t.Context(), keystore.Call{}, key, nil, []byte("secret"), aad)
	if err != nil {
		t.Fatal(err)
	}
	for change, mutant := range aeadtest.Mutants(aad, 4, 4+len(header), len(aad)-5) {
		got, err := e.store.Decrypt(t.Context(), keystore.Call{}, key, sealed, mutant)
		e.mustNotOpen(change, got, err)
	}
	for what, wrong := range map[string][]byte{
		"a pair twice":        append(bytes.Clone(aad), pair...),
		"a pair of nothing":   append(bytes.Clone(aad), make([]byte, 8)...),
		"pairs without order": append(binary.BigEndian.AppendUint32(nil, 0), append(bytes.Clone(pair), aad...)...),
		"nothing":             nil,
	} {
		got, err := e.store.Decrypt(t.Context(), keystore.Call{}, key, sealed, wrong)
		e.mustNotOpen(what, got, err)
	}
}

// What is stored of a key opens as that key's only; that it does not is the
// service's trouble, not the caller's.
func TestNoChangedMaterialIsUsed(t *testing.T) {
	t.Parallel()
	store := soft.New(newKeyring(t))
	key := createKey(t, store)
	sealed, err := store.Encrypt(t.Context(), keystore.Call{}, key, nil, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	mustNotUse := func(what string, key keystore.Key) {
		t.Helper()
		got, err := store.Decrypt(t.Context(), keystore.Call{}, key, sealed, nil)
		if got != nil || kmsapi.CodeOf(err) != kmsapi.KMSInternal {
			t.Fatalf("%s: Decrypt gives %x, %v", what, got, err)
		}
		out, err := store.Encrypt(t.Context(), keystore.Call{}, key, nil, []byte("x"), nil)
		if out != nil || kmsapi.CodeOf(err) != kmsapi.KMSInternal {
			t.Fatalf("%s: Encrypt gives %x, %v", what, out, err)
		}
	}
	for change, mutant := range aeadtest.Mutants(key.Data, 1, 5, 17, 29, len(key.Data)-16) {
		mustNotUse("data: "+change, keystore.Key{ID: key.ID, ARN: key.ARN, Data: mutant})
	}
	for change, mutant := range aeadtest.Mutants([]byte(key.ARN), 20) {
		mustNotUse("ARN: "+change, keystore.Key{ID: key.ID, ARN: string(mutant), Data: key.Data})
	}
	other := keystoretest.RandomKey()
	mustNotUse("another key's ARN", keystore.Key{ID: other.ID, ARN: other.ARN, Data: key.Data})
	if got, err := store.Decrypt(t.Context(), keystore.Call{}, key, sealed, nil); err != nil || string(got) != "secret" {
		t.Errorf("the original: %q, %v", got, err)
	}
}
