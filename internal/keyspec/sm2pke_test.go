package keyspec_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"

	"kastellan.dev/internal/kmsapi"
)

// TestShortPlaintextsOfSM2 goes often enough through what is rare that the
// library's mistakes would show.
func TestShortPlaintextsOfSM2(t *testing.T) {
	t.Parallel()
	k := keyOf(t, kmsapi.SM2)
	for i := range 3000 {
		plaintext := []byte{byte(i)}
		ciphertext, err := k.Encrypt(kmsapi.SM2PKE, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Decrypt(kmsapi.SM2PKE, ciphertext); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("round %d: %x comes back as %x, %v", i, plaintext, got, err)
		}
	}
}

// sm2Parts is a ciphertext of SM2PKE.
type sm2Parts struct {
	X, Y       *big.Int
	Hash, Mask []byte
}

// TestCiphertextsOfSM2ThatAreAllZero decrypts what others may make, and nothing that was tampered with.
func TestCiphertextsOfSM2ThatAreAllZero(t *testing.T) {
	t.Parallel()
	k := keyOf(t, kmsapi.SM2)
	public, err := smx509.ParsePKIXPublicKey(k.SPKI())
	if err != nil {
		t.Fatal(err)
	}
	for found := 0; found < 5; {
		plaintext := []byte{0x5a}
		ciphertext, err := sm2.EncryptASN1(rand.Reader, public.(*ecdsa.PublicKey), plaintext)
		if err != nil {
			t.Fatal(err)
		}
		var parts sm2Parts
		if _, err := asn1.Unmarshal(ciphertext, &parts); err != nil {
			t.Fatal(err)
		}
		if parts.Mask[0] != 0 {
			continue
		}
		found++
		if got, err := k.Decrypt(kmsapi.SM2PKE, ciphertext); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("%x comes back as %x, %v", plaintext, got, err)
		}
		for name, tamper := range map[string]func(*sm2Parts){
			"the hash":              func(p *sm2Parts) { p.Hash = bytes.Repeat([]byte{1}, 32) },
			"the size":              func(p *sm2Parts) { p.Mask = []byte{0, 0} },
			"a point off the curve": func(p *sm2Parts) { p.X = new(big.Int).Add(p.X, big.NewInt(1)) },
			"a negative point":      func(p *sm2Parts) { p.Y = new(big.Int).Neg(p.Y) },
			"a long point":          func(p *sm2Parts) { p.Y = new(big.Int).Lsh(p.Y, 256) },
			"no plaintext":          func(p *sm2Parts) { p.Mask = nil },
		} {
			bad := parts
			tamper(&bad)
			der, err := asn1.Marshal(bad)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := k.Decrypt(kmsapi.SM2PKE, der); kmsapi.CodeOf(err) != kmsapi.InvalidCiphertext {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
