package keyspec

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
)

// nistFamily is ECDSA and ECDH on one of NIST's prime curves.
type nistFamily struct {
	*curve
	ecdsa elliptic.Curve
	ecdh  ecdh.Curve
}

func (nistFamily) group() Group { return GroupECC }

func (f nistFamily) generate() ([]byte, error) {
	k, err := ecdsa.GenerateKey(f.ecdsa, rand.Reader)
	if err != nil {
		return nil, err
	}
	scalar, err := k.Bytes()
	if err != nil {
		return nil, err
	}
	defer clear(scalar)
	point, err := k.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return f.marshalPrivate(scalar, point), nil
}

func (f nistFamily) open(material []byte) (opened, error) {
	scalar, given, err := f.parsePrivate(material)
	if err != nil {
		return opened{}, err
	}
	defer clear(scalar)
	k, err := ecdsa.ParseRawPrivateKey(f.ecdsa, scalar)
	if err != nil {
		return opened{}, wrongScalar
	}
	agreeing, err := f.ecdh.NewPrivateKey(scalar)
	if err != nil {
		return opened{}, wrongScalar
	}
	point := agreeing.PublicKey().Bytes()
	if !matches(given, point) {
		return opened{}, wrongPublic
	}
	return opened{f.marshalPublic(point), nistPublic{&k.PublicKey}, nistPrivate{k, f, agreeing}}, nil
}

func (f nistFamily) openPublic(spki []byte) (opened, error) {
	point, err := f.parsePublic(spki)
	if err != nil {
		return opened{}, err
	}
	k, err := ecdsa.ParseUncompressedPublicKey(f.ecdsa, point)
	if err != nil {
		return opened{}, wrongPoint
	}
	return opened{spki: f.marshalPublic(point), public: nistPublic{k}}, nil
}

type nistPublic struct{ k *ecdsa.PublicKey }

func (p nistPublic) verify(digest, signature []byte, _ crypto.SignerOpts) bool {
	return ecdsa.VerifyASN1(p.k, digest, signature)
}

// nistPrivate signs as what it embeds.
type nistPrivate struct {
	*ecdsa.PrivateKey
	family nistFamily
	ecdh   *ecdh.PrivateKey
}

func (p nistPrivate) agree(peerSPKI []byte) ([]byte, error) {
	point, err := p.family.parsePublic(peerSPKI)
	if err != nil {
		return nil, err
	}
	peer, err := p.family.ecdh.NewPublicKey(point)
	if err != nil {
		return nil, wrongPoint
	}
	return p.ecdh.ECDH(peer)
}
