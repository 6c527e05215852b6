package keywrap

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"

	"github.com/emmansun/gmsm/sm2"

	"kastellan.dev/internal/kmsapi"
)

// asn1Sequence is the first byte of every ciphertext of SM2PKE.
const asn1Sequence = 0x30

// sm2PKE is SM2 public key encryption, with ciphertexts in ASN.1.
type sm2PKE struct{}

func (sm2PKE) goesWith(spec kmsapi.WrappingKeySpec) bool { return spec == kmsapi.WrappingSM2 }

func (sm2PKE) approved() bool { return false }

func (sm2PKE) wrap(public crypto.PublicKey, material []byte) ([]byte, error) {
	return sm2.EncryptASN1(rand.Reader, public.(*ecdsa.PublicKey), material)
}

func (sm2PKE) unwrap(private crypto.PrivateKey, wrapped []byte) ([]byte, error) {
	if len(wrapped) == 0 || wrapped[0] != asn1Sequence { // the library takes other encodings as well
		return nil, sm2.ErrDecryption
	}
	return sm2.Decrypt(private.(*sm2.PrivateKey), wrapped)
}
