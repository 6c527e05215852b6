package keywrap

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"

	"kastellan.dev/internal/kmsapi"
)

// oaep is RSAES-OAEP, with the hash also in MGF1.
type oaep struct{ hash crypto.Hash }

func (oaep) goesWith(spec kmsapi.WrappingKeySpec) bool { return rsaBits[spec] != 0 }

func (o oaep) approved() bool { return o.hash != crypto.SHA1 }

func (o oaep) wrap(public crypto.PublicKey, material []byte) ([]byte, error) {
	return rsa.EncryptOAEP(o.hash.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
}

func (o oaep) unwrap(private crypto.PrivateKey, wrapped []byte) ([]byte, error) {
	key := private.(*rsa.PrivateKey)
	if len(wrapped) != key.Size() { // fewer bytes could be the same number
		return nil, rsa.ErrDecryption
	}
	return rsa.DecryptOAEP(o.hash.New(), nil, key, wrapped, nil)
}

// rsaAES wraps material of any size under an AES key that is made for it, and that
// key with OAEP.
type rsaAES struct{ oaep }

// aesKeySize is the size in bytes of the AES keys that wrap makes.
const aesKeySize = 32

func (r rsaAES) wrap(public crypto.PublicKey, material []byte) ([]byte, error) {
	kek := make([]byte, aesKeySize)
	defer clear(kek)
	rand.Read(kek)
	wrapped, err := r.oaep.wrap(public, kek)
	if err != nil {
		return nil, err
	}
	padded, err := wrapKWP(kek, material)
	if err != nil {
		return nil, err
	}
	return append(wrapped, padded...), nil
}

// unwrap deciphers the material even if there is no AES key for it, under one of zeros,
// so that the time does not tell which of the two steps failed.
func (r rsaAES) unwrap(private crypto.PrivateKey, wrapped []byte) ([]byte, error) {
	size := min(private.(*rsa.PrivateKey).Size(), len(wrapped))
	kek, err := r.oaep.unwrap(private, wrapped[:size])
	if err == nil && !isAESKeySize(len(kek)) {
		err = errKWP
	}
	if err != nil {
		kek = make([]byte, aesKeySize)
	}
	defer clear(kek)
	material, kwpErr := unwrapKWP(kek, wrapped[size:])
	if err != nil || kwpErr != nil {
		clear(material)
		return nil, errKWP
	}
	return material, nil
}

func isAESKeySize(n int) bool { return n == 16 || n == 24 || n == 32 }
