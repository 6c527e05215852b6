package keyspec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"

	"github.com/emmansun/gmsm/ecdh"
	"github.com/emmansun/gmsm/sm2"

	"kastellan.dev/internal/kmsapi"
)

// sm2Family is SM2 (GB/T 32918): signatures with SM3 and the default identity,
// encryption whose ciphertexts are ASN.1 (GM/T 0009), and plain ECDH.
type sm2Family struct{ *curve }

func (sm2Family) group() Group { return GroupECC }

// sm2Limit is how much AWS encrypts at once, in bytes.
const sm2Limit = 1024

func (f sm2Family) generate() ([]byte, error) {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	scalar := k.Bytes()
	defer clear(scalar)
	return f.marshalPrivate(scalar, k.PublicKey().Bytes()), nil
}

func (f sm2Family) open(material []byte) (opened, error) {
	scalar, given, err := f.parsePrivate(material)
	if err != nil {
		return opened{}, err
	}
	defer clear(scalar)
	k, err := sm2.NewPrivateKey(scalar)
	if err != nil {
		return opened{}, wrongScalar
	}
	agreeing, err := ecdh.P256().NewPrivateKey(scalar)
	if err != nil {
		return opened{}, wrongScalar
	}
	point := agreeing.PublicKey().Bytes()
	if !matches(given, point) {
		return opened{}, wrongPublic
	}
	return opened{f.marshalPublic(point), sm2Public{&k.PublicKey}, sm2Private{k, f, agreeing}}, nil
}

func (f sm2Family) openPublic(spki []byte) (opened, error) {
	point, err := f.parsePublic(spki)
	if err != nil {
		return opened{}, err
	}
	k, err := sm2.NewPublicKey(point)
	if err != nil {
		return opened{}, wrongPoint
	}
	return opened{spki: f.marshalPublic(point), public: sm2Public{k}}, nil
}

type sm2Public struct{ k *ecdsa.PublicKey }

func (p sm2Public) verify(prepared, signature []byte, opts crypto.SignerOpts) bool {
	if opts == nil {
		return sm2.VerifyASN1(p.k, prepared, signature)
	}
	return sm2.VerifyASN1WithSM2(p.k, nil, prepared, signature)
}

func (sm2Public) limit(kmsapi.EncryptionAlgorithmSpec) int { return sm2Limit }

func (p sm2Public) encrypt(_ kmsapi.EncryptionAlgorithmSpec, plaintext []byte) ([]byte, error) {
	return encryptSM2(p.k, plaintext)
}

// sm2Private signs as what it embeds.
type sm2Private struct {
	*sm2.PrivateKey
	family sm2Family
	ecdh   *ecdh.PrivateKey
}

func (p sm2Private) decrypt(_ kmsapi.EncryptionAlgorithmSpec, ciphertext []byte) ([]byte, error) {
	return decryptSM2(p.PrivateKey, ciphertext)
}

func (p sm2Private) agree(peerSPKI []byte) ([]byte, error) {
	point, err := p.family.parsePublic(peerSPKI)
	if err != nil {
		return nil, err
	}
	peer, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, wrongPoint
	}
	return p.ecdh.ECDH(peer)
}
