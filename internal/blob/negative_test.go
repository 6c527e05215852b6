package blob_test

import (
	"bytes"
	"errors"
	"maps"
	"testing"

	"kastellan.dev/internal/aeadtest"
	"kastellan.dev/internal/blob"
)

// A changed ciphertext is no blob, or one whose key store is asked to open
// something else: another body, or with other authenticated data. So nothing of
// what a blob says can be changed without the key store noticing.
func TestEveryChangeIsRefusedOrAuthenticated(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			ciphertext := unhex(t, g.Ciphertext)
			_, header, body, err := blob.Parse(ciphertext)
			if err != nil {
				t.Fatal(err)
			}
			aad := blob.AppendAAD(nil, header, g.EncryptionContext)
			cuts := []int{1, 2, 3, 4, 20}
			if len(header) > 20 {
				cuts = append(cuts, len(header))
			}
			for change, mutant := range aeadtest.Mutants(ciphertext, cuts...) {
				h, otherHeader, otherBody, err := blob.Parse(mutant)
				if err != nil {
					if err != blob.ErrMalformed || h != (blob.Header{}) || otherHeader != nil || otherBody != nil {
						t.Fatalf("%s: %v, %x, %x, %v", change, h, otherHeader, otherBody, err)
					}
					continue
				}
				if bytes.Equal(otherBody, body) && bytes.Equal(blob.AppendAAD(nil, otherHeader, g.EncryptionContext), aad) {
					t.Fatalf("%s: key store and key would open it as the original", change)
				}
				again, err := blob.AppendHeader(nil, h)
				if err != nil || !bytes.Equal(again, otherHeader) {
					t.Fatalf("%s: the header %x is written as %x, %v", change, otherHeader, again, err)
				}
			}
		})
	}
}

// Whatever an attacker makes of the bytes of authenticated data, AppendAAD
// makes it of no header and context but the original ones.
func TestEveryChangeOfAContextIsAuthenticated(t *testing.T) {
	t.Parallel()
	original := map[string]string{"tenant": "a", "purpose": "backup", "": "empty", "a": ""}
	header := unhex(t, goldens(t)[0].Ciphertext)[:20]
	aad := blob.AppendAAD(nil, header, original)
	differs := func(what string, header []byte, context map[string]string) {
		t.Helper()
		if bytes.Equal(blob.AppendAAD(nil, header, context), aad) {
			t.Errorf("%s: authenticated as the original", what)
		}
	}
	changed := func(change func(map[string]string)) map[string]string {
		context := maps.Clone(original)
		change(context)
		return context
	}
	for key, value := range original {
		differs("without a pair", header, changed(func(c map[string]string) { delete(c, key) }))
		differs("a value as key and the key as value", header, changed(func(c map[string]string) { delete(c, key); c[value] = key }))
		for change, mutant := range aeadtest.Mutants([]byte(value), len(value)/2) {
			differs("a value: "+change, header, changed(func(c map[string]string) { c[key] = string(mutant) }))
		}
		for change, mutant := range aeadtest.Mutants([]byte(key), len(key)/2) {
			differs("a key: "+change, header, changed(func(c map[string]string) { delete(c, key); c[string(mutant)] = value }))
		}
		for other := range original {
			if key != other {
				differs("two values exchanged", header, changed(func(c map[string]string) { c[key], c[other] = c[other], c[key] }))
			}
		}
	}
	differs("a pair more", header, changed(func(c map[string]string) { c["b"] = "" }))
	differs("no pairs", header, nil)
	differs("no header", nil, original)
	for change, mutant := range aeadtest.Mutants(header, 4) {
		differs("the header: "+change, mutant, original)
	}
	if again := blob.AppendAAD(nil, header, maps.Clone(original)); !bytes.Equal(again, aad) {
		t.Error("the same context is authenticated in two ways")
	}
}

func TestNothingIsNoBlob(t *testing.T) {
	t.Parallel()
	for _, nothing := range [][]byte{nil, {}} {
		if _, _, _, err := blob.Parse(nothing); !errors.Is(err, blob.ErrMalformed) {
			t.Errorf("error %v", err)
		}
	}
	if _, _, _, err := blob.Parse(make([]byte, blob.MaxSize+1)); !errors.Is(err, blob.ErrMalformed) {
		t.Errorf("error %v", err)
	}
}
