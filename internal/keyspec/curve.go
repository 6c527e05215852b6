package keyspec

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// curve is how keys on a Weierstrass curve are written down: RFC 5915 inside of
// PKCS #8, and RFC 5480, with the curve's name.
type curve struct {
	name      asn1.ObjectIdentifier
	algorithm pkix.AlgorithmIdentifier
	size      int // bytes of a scalar, and of a coordinate
}

var (
	p256      = namedCurve(32, 1, 2, 840, 10045, 3, 1, 7)
	p384      = namedCurve(48, 1, 3, 132, 0, 34)
	p521      = namedCurve(66, 1, 3, 132, 0, 35)
	p256k1    = namedCurve(32, 1, 3, 132, 0, 10)
	sm2p256v1 = namedCurve(32, 1, 2, 156, 10197, 1, 301)
)

func namedCurve(size int, name ...int) *curve {
	return &curve{name, algorithm(asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, marshal(asn1.ObjectIdentifier(name))), size}
}

// ecPrivateKey is that of RFC 5915.
type ecPrivateKey struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

// marshalPrivate writes a key as OpenSSL does: the public key is in it, the
// curve's name outside of it.
func (c *curve) marshalPrivate(scalar, point []byte) []byte {
	inner := marshal(ecPrivateKey{
		Version:    1,
		PrivateKey: scalar,
		PublicKey:  asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
	defer clear(inner)
	return marshalPKCS8(c.algorithm, inner)
}

// parsePrivate gives a scalar of c.size bytes, which may be out of range and
// which the caller clears, and what is said to be the public key, if anything.
func (c *curve) parsePrivate(material []byte) (scalar, point []byte, err error) {
	inner, outside, err := parsePKCS8(material, c.algorithm)
	if err != nil {
		return nil, nil, err
	}
	defer clear(inner)
	var k ecPrivateKey
	if !parse(inner, &k) || k.Version != 1 || k.PublicKey.BitLength%8 != 0 {
		return nil, nil, notPKCS8
	}
	defer clear(k.PrivateKey)
	if len(k.Curve) > 0 && !k.Curve.Equal(c.name) {
		return nil, nil, otherKind
	}
	point = bytes.Clone(k.PublicKey.Bytes) // before inner is cleared
	if len(outside) > 0 && len(point) > 0 && !bytes.Equal(outside, point) {
		return nil, nil, wrongPublic
	}
	if len(point) == 0 {
		point = outside
	}
	// Some programs write scalars without leading zeros, some with one too many.
	digits := bytes.TrimLeft(k.PrivateKey, "\x00")
	if len(digits) > c.size {
		return nil, nil, wrongScalar
	}
	scalar = make([]byte, c.size)
	copy(scalar[c.size-len(digits):], digits)
	return scalar, point, nil
}

// matches tells whether a point that came with a private key is the uncompressed
// point that belongs to it. It may be compressed, or not be there at all.
func matches(given, point []byte) bool {
	if len(given) == 0 || bytes.Equal(given, point) {
		return true
	}
	x := point[1 : 1+len(point)/2]
	parity := 2 | point[len(point)-1]&1
	return given[0] == parity && bytes.Equal(given[1:], x)
}

// parsePublic gives an uncompressed point, which need not be on the curve.
func (c *curve) parsePublic(spki []byte) ([]byte, error) {
	point, err := parseSPKI(spki, c.algorithm)
	if err != nil {
		return nil, err
	}
	if len(point) != 1+2*c.size || point[0] != 4 {
		return nil, wrongPoint
	}
	return point, nil
}

func (c *curve) marshalPublic(point []byte) []byte { return marshalSPKI(c.algorithm, point) }
