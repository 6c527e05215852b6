package keyspec

import (
	"crypto"
	"crypto/rand"
	"io"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// secgFamily is ECDSA on secp256k1.
//
// The library's arithmetic modulo the group's order takes constant time, but
// multiplying points and inverting does not. Both get only scalars that are
// uniformly random and used once: instead of a secret s, the pair s−b and b, and
// instead of 1/s the product of b and 1/(s·b).
type secgFamily struct{ *curve }

func (secgFamily) group() Group { return GroupECC }

func (f secgFamily) generate() ([]byte, error) {
	d := randomScalar()
	defer d.Zero()
	scalar := d.Bytes()
	defer clear(scalar[:])
	return f.marshalPrivate(scalar[:], pointOf(d).SerializeUncompressed()), nil
}

func (f secgFamily) open(material []byte) (opened, error) {
	scalar, given, err := f.parsePrivate(material)
	if err != nil {
		return opened{}, err
	}
	defer clear(scalar)
	var d secp256k1.ModNScalar
	if overflow := d.SetByteSlice(scalar); overflow || d.IsZero() {
		return opened{}, wrongScalar
	}
	public := pointOf(&d)
	point := public.SerializeUncompressed()
	if !matches(given, point) {
		return opened{}, wrongPublic
	}
	return opened{f.marshalPublic(point), secgPublic{public}, &secgPrivate{d, public}}, nil
}

func (f secgFamily) openPublic(spki []byte) (opened, error) {
	point, err := f.parsePublic(spki)
	if err != nil {
		return opened{}, err
	}
	k, err := secp256k1.ParsePubKey(point)
	if err != nil {
		return opened{}, wrongPoint
	}
	return opened{spki: f.marshalPublic(point), public: secgPublic{k}}, nil
}

type secgPublic struct{ k *secp256k1.PublicKey }

func (p secgPublic) verify(digest, signature []byte, _ crypto.SignerOpts) bool {
	s, err := ecdsa.ParseDERSignature(signature)
	return err == nil && s.Verify(digest, p.k)
}

type secgPrivate struct {
	d      secp256k1.ModNScalar
	public *secp256k1.PublicKey
}

// Public implements crypto.Signer.
func (p *secgPrivate) Public() crypto.PublicKey { return p.public }

// Sign implements crypto.Signer. The nonce comes from the key, the digest and
// random bytes (RFC 6979, section 3.6), so that neither a bad random source nor a
// fault that repeats a digest gives the key away. Of the two signatures that a
// nonce leads to, the one with the smaller s is taken: some verifiers want it.
func (p *secgPrivate) Sign(random io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	var extra [32]byte
	if _, err := io.ReadFull(random, extra[:]); err != nil {
		return nil, err
	}
	d := p.d.Bytes()
	defer clear(d[:])
	for i := uint32(0); ; i++ {
		k := secp256k1.NonceRFC6979(d[:], digest, extra[:], nil, i)
		signature := p.signWith(k, digest)
		k.Zero()
		if signature != nil {
			return signature.Serialize(), nil
		}
	}
}

// signWith signs with a nonce, or gives nil if that leads to zeros, as one nonce in 2²⁵⁶ does.
func (p *secgPrivate) signWith(k *secp256k1.ModNScalar, digest []byte) *ecdsa.Signature {
	point := pointOf(k).SerializeUncompressed()
	var r, e, s secp256k1.ModNScalar
	r.SetByteSlice(point[1:33])
	e.SetByteSlice(digest)
	s.Mul2(&p.d, &r).Add(&e).Mul(inverseOf(k))
	if r.IsZero() || s.IsZero() {
		return nil
	}
	if s.IsOverHalfOrder() {
		s.Negate()
	}
	return ecdsa.NewSignature(&r, &s)
}

// pointOf multiplies the generator by a secret that is not zero.
func pointOf(s *secp256k1.ModNScalar) *secp256k1.PublicKey {
	b := randomScalar()
	var rest secp256k1.ModNScalar
	rest.NegateVal(b).Add(s)
	var one, other, sum secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(&rest, &one)
	secp256k1.ScalarBaseMultNonConst(b, &other)
	secp256k1.AddNonConst(&one, &other, &sum)
	rest.Zero()
	b.Zero()
	sum.ToAffine()
	return secp256k1.NewPublicKey(&sum.X, &sum.Y)
}

// inverseOf inverts a secret that is not zero.
func inverseOf(s *secp256k1.ModNScalar) *secp256k1.ModNScalar {
	b := randomScalar()
	var product secp256k1.ModNScalar
	product.Mul2(s, b).InverseNonConst().Mul(b)
	b.Zero()
	return &product
}

// randomScalar is uniform from 1 to the group's order less 1.
func randomScalar() *secp256k1.ModNScalar {
	var b [32]byte
	defer clear(b[:])
	for {
		rand.Read(b[:])
		var s secp256k1.ModNScalar
		if overflow := s.SetBytes(&b); overflow|s.IsZeroBit() == 0 {
			return &s
		}
	}
}
