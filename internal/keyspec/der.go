package keyspec

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// maxDER bounds what is parsed at all, in bytes: the longest key here has 2.4 kB.
const maxDER = 8192

// privateKeyInfo is the OneAsymmetricKey of RFC 5958, which includes PKCS #8.
type privateKeyInfo struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	Attributes []asn1.RawValue `asn1:"optional,tag:0"`
	PublicKey  asn1.BitString  `asn1:"optional,tag:1"`
}

// publicKeyInfo is the SubjectPublicKeyInfo of RFC 5280.
type publicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	PublicKey asn1.BitString
}

// algorithm makes an identifier; parameters is their DER, nil if there are none.
func algorithm(oid asn1.ObjectIdentifier, parameters []byte) pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.RawValue{FullBytes: parameters}}
}

func same(a, b pkix.AlgorithmIdentifier) bool {
	return a.Algorithm.Equal(b.Algorithm) && bytes.Equal(a.Parameters.FullBytes, b.Parameters.FullBytes)
}

// parse reads all of der into value, and nothing else. Bit strings of value are
// parts of der, octet strings are copies.
func parse(der []byte, value any) bool {
	if len(der) > maxDER {
		return false
	}
	rest, err := asn1.Unmarshal(der, value)
	return err == nil && len(rest) == 0
}

// marshal is for structures that can be encoded whatever bytes they hold.
func marshal(value any) []byte {
	der, err := asn1.Marshal(value)
	if err != nil {
		panic("keyspec: " + err.Error()) // the types are all ours
	}
	return der
}

// parsePKCS8 gives the private key inside, a copy, and the public key if there is one.
func parsePKCS8(der []byte, want pkix.AlgorithmIdentifier) (private, public []byte, err error) {
	var info privateKeyInfo
	if !parse(der, &info) || info.Version < 0 || info.Version > 1 || info.PublicKey.BitLength%8 != 0 {
		return nil, nil, notPKCS8
	}
	if !same(info.Algorithm, want) {
		clear(info.PrivateKey)
		return nil, nil, otherKind
	}
	return info.PrivateKey, bytes.Clone(info.PublicKey.Bytes), nil
}

func marshalPKCS8(alg pkix.AlgorithmIdentifier, private []byte) []byte {
	return marshal(struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		PrivateKey []byte
	}{0, alg, private})
}

func parseSPKI(der []byte, want pkix.AlgorithmIdentifier) ([]byte, error) {
	var info publicKeyInfo
	if !parse(der, &info) || info.PublicKey.BitLength%8 != 0 {
		return nil, notSPKI
	}
	if !same(info.Algorithm, want) {
		return nil, otherKind
	}
	return bytes.Clone(info.PublicKey.Bytes), nil
}

func marshalSPKI(alg pkix.AlgorithmIdentifier, public []byte) []byte {
	return marshal(publicKeyInfo{alg, asn1.BitString{Bytes: public, BitLength: 8 * len(public)}})
}

// seedIn takes a seed out of its DER: a tag, a length of one byte, and the seed.
func seedIn(private []byte, tag byte, size int) ([]byte, error) {
	if len(private) != 2+size || private[0] != tag || int(private[1]) != size {
		return nil, wrongSeed
	}
	return private[2:], nil
}

// withTag undoes seedIn.
func withTag(seed []byte, tag byte) []byte {
	return append([]byte{tag, byte(len(seed))}, seed...)
}

const (
	tagOctets = 0x04 // OCTET STRING
	tagSeed   = 0x80 // [0] IMPLICIT OCTET STRING, the seed-only choice of RFC 9881 and RFC 9935
)
