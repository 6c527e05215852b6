// The package must do without whatever FIPS 140-3 does not approve.
//
//go:debug fips140=only
package xaes_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"kastellan.dev/internal/xaes"
)

func newAEAD(t testing.TB, key []byte) *xaes.AEAD {
	t.Helper()
	a, err := xaes.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The two published vectors: under the one key the CMAC subkey needs a
// reduction, under the other it does not.
func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name, aad, sealed string
		key               byte
	}{
		{name: "without authenticated data", key: 1, sealed: "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{name: "with authenticated data", key: 3, aad: "c2sp.org/XAES-256-GCM", sealed: "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			sealed, err := hex.DecodeString(v.sealed)
			if err != nil {
				t.Fatal(err)
			}
			sealed = append([]byte("ABCDEFGHIJKLMNOPQRSTUVWX"), sealed...)
			got, err := newAEAD(t, bytes.Repeat([]byte{v.key}, 32)).Open(nil, sealed, []byte(v.aad))
			if err != nil || string(got) != "XAES-256-GCM" {
				t.Errorf("Open = %q, %v", got, err)
			}
		})
	}
}

func TestSealedOpensAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	key := make([]byte, xaes.KeySize)
	rand.Read(key)
	a := newAEAD(t, key)
	plaintext, aad := []byte("attack at dawn"), []byte("to: general")
	sealed := a.Seal([]byte("prefix"), plaintext, aad)
	sealed, ok := bytes.CutPrefix(sealed, []byte("prefix"))
	if !ok || len(sealed) != len(plaintext)+xaes.Overhead {
		t.Fatalf("Seal appended %d bytes, prefix kept: %v", len(sealed), ok)
	}
	if got, err := a.Open([]byte("so: "), sealed, aad); err != nil || string(got) != "so: attack at dawn" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	for i := range sealed {
		touched := bytes.Clone(sealed)
		touched[i] ^= 0x10
		if _, err := a.Open(nil, touched, aad); !errors.Is(err, xaes.ErrOpen) {
			t.Fatalf("with byte %d changed: %v", i, err)
		}
		if _, err := a.Open(nil, sealed[:i], aad); !errors.Is(err, xaes.ErrOpen) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := a.Open(nil, sealed, nil); !errors.Is(err, xaes.ErrOpen) {
		t.Fatalf("without the authenticated data: %v", err)
	}
	key[31] ^= 1
	if _, err := newAEAD(t, key).Open(nil, sealed, aad); !errors.Is(err, xaes.ErrOpen) {
		t.Fatalf("under another key: %v", err)
	}
}

func TestBothHalvesOfTheNonceAreFresh(t *testing.T) {
	t.Parallel()
	a := newAEAD(t, make([]byte, xaes.KeySize))
	first, second := make(map[string]bool), make(map[string]bool)
	for range 100 {
		sealed := a.Seal(nil, nil, nil)
		first[string(sealed[:12])], second[string(sealed[12:24])] = true, true
	}
	if len(first) != 100 || len(second) != 100 {
		t.Errorf("100 messages had %d and %d different halves", len(first), len(second))
	}
}

func TestNewRefusesOtherKeySizes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 24, 31, 33} {
		if _, err := xaes.New(make([]byte, n)); err == nil {
			t.Errorf("New takes a key of %d bytes", n)
		}
	}
}

func TestAnAEADPrintsNothingOfItsKey(t *testing.T) {
	t.Parallel()
	a := newAEAD(t, make([]byte, xaes.KeySize))
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		if out := fmt.Sprintf(verb, a); strings.ContainsAny(out, "[{") || out != "XAES-256-GCM" {
			t.Errorf("%s prints %q", verb, out)
		}
	}
}
