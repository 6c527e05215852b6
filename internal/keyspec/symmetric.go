package keyspec

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"

	"kastellan.dev/internal/secret"
)

// symmetricFamily is SYMMETRIC_DEFAULT: 32 bytes that encrypt elsewhere.
type symmetricFamily struct{}

func (symmetricFamily) group() Group { return GroupSymmetric }

const symmetricSize = 32

func (symmetricFamily) generate() ([]byte, error) { return randomBytes(symmetricSize), nil }

func (symmetricFamily) open(material []byte) (opened, error) {
	if len(material) != symmetricSize {
		return opened{}, wrongLength
	}
	return opened{}, nil
}

func (symmetricFamily) openPublic([]byte) (opened, error) { return opened{}, noPublic }

// hmacFamily is HMAC with one hash; keys are as long as its results.
type hmacFamily struct{ hash crypto.Hash }

func (hmacFamily) group() Group { return GroupSymmetric }

func (f hmacFamily) generate() ([]byte, error) { return randomBytes(f.hash.Size()), nil }

func (f hmacFamily) open(material []byte) (opened, error) {
	if len(material) != f.hash.Size() {
		return opened{}, wrongLength
	}
	return opened{private: hmacKey{f.hash, secret.New(bytes.Clone(material))}}, nil
}

func (hmacFamily) openPublic([]byte) (opened, error) { return opened{}, noPublic }

type hmacKey struct {
	hash  crypto.Hash
	bytes secret.Bytes
}

func (k hmacKey) mac(message []byte) []byte {
	h := hmac.New(k.hash.New, k.bytes.Reveal())
	h.Write(message)
	return h.Sum(nil)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
