package xaes_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"kastellan.dev/internal/aeadtest"
	"kastellan.dev/internal/xaes"
)

// mustNotOpen wants the one error, no plaintext, and nothing left of one in
// the memory that was given for it.
func mustNotOpen(t *testing.T, what string, key, sealed, aad []byte) {
	t.Helper()
	const room = 0x5a
	memory := bytes.Repeat([]byte{room}, 512)
	dst := memory[:8]
	got, err := newAEAD(t, key).Open(dst, sealed, aad)
	if err != xaes.ErrOpen { // itself, so that all failures look alike
		t.Fatalf("%s: %v", what, err)
	}
	if got != nil {
		t.Fatalf("%s: %x is given beside the error", what, got)
	}
	for i, b := range memory {
		if b != room && (i < len(dst) || b != 0) {
			t.Fatalf("%s: byte %d of the memory is %#x", what, i, b)
		}
	}
}

func TestNothingThatWasChangedOpens(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, xaes.KeySize)
	a := newAEAD(t, key)
	for name, message := range map[string]struct{ plaintext, aad string }{
		"nothing":                 {"", ""},
		"nothing, but with data":  {"", "additional data"},
		"a byte":                  {"x", ""},
		"a block":                 {"sixteen letters.", "aad"},
		"two blocks and a byte":   {"two blocks of sixteen letters, 33", "sixteen letters."},
		"as long as a nonce half": {"twelve chars", "twelve chars"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plaintext, aad := []byte(message.plaintext), []byte(message.aad)
			sealed := a.Seal(nil, plaintext, aad)
			for change, mutant := range aeadtest.Mutants(sealed, 12, 24, len(sealed)-16) {
				mustNotOpen(t, change, key, mutant, aad)
			}
			for change, mutant := range aeadtest.Mutants(aad, len(aad)/2) {
				mustNotOpen(t, "additional data: "+change, key, sealed, mutant)
			}
			for change, mutant := range aeadtest.Mutants(key, 16) {
				if len(mutant) == xaes.KeySize {
					mustNotOpen(t, "key: "+change, mutant, sealed, aad)
				}
			}
			if message.aad != message.plaintext {
				mustNotOpen(t, "plaintext and additional data exchanged", key, a.Seal(nil, aad, plaintext), aad)
			}
			other := a.Seal(nil, plaintext, aad)
			for at, what := range map[int]string{12: "the derived key", 24: "the nonce", len(sealed) - 16: "all but the tag"} {
				mustNotOpen(t, what+" of another message", key, append(bytes.Clone(other[:at]), sealed[at:]...), aad)
			}
			if got, err := a.Open([]byte("so: "), sealed, aad); err != nil || string(got) != "so: "+message.plaintext {
				t.Errorf("the original opens to %q, %v", got, err)
			}
		})
	}
}

func TestPublishedVectorsOpenInNoOtherForm(t *testing.T) {
	t.Parallel()
	sealed, err := hex.DecodeString(hex.EncodeToString([]byte("ABCDEFGHIJKLMNOPQRSTUVWX")) + "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d")
	if err != nil {
		t.Fatal(err)
	}
	key, aad := bytes.Repeat([]byte{3}, xaes.KeySize), []byte("c2sp.org/XAES-256-GCM")
	for change, mutant := range aeadtest.Mutants(sealed, 12, 24, len(sealed)-16) {
		mustNotOpen(t, change, key, mutant, aad)
	}
	mustNotOpen(t, "the other vector's key", bytes.Repeat([]byte{1}, xaes.KeySize), sealed, aad)
	if _, err := newAEAD(t, key).Open(nil, sealed, aad); err != nil {
		t.Errorf("the vector itself: %v", err)
	}
}
