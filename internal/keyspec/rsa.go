package keyspec

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"

	"kastellan.dev/internal/kmsapi"
)

// rsaFamily is RSA with a modulus of so many bits. New keys have the exponent 65537.
type rsaFamily struct{ bits int }

func (rsaFamily) group() Group { return GroupRSA }

var rsaEncryption = algorithm(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullBytes)

func (f rsaFamily) generate() ([]byte, error) {
	k, err := rsa.GenerateKey(rand.Reader, f.bits)
	if err != nil {
		return nil, err
	}
	inner := x509.MarshalPKCS1PrivateKey(k)
	defer clear(inner)
	return marshalPKCS8(rsaEncryption, inner), nil
}

func (f rsaFamily) open(material []byte) (opened, error) {
	inner, _, err := parsePKCS8(material, rsaEncryption)
	if err != nil {
		return opened{}, err
	}
	defer clear(inner)
	if len(inner) > f.longest() {
		return opened{}, wrongModulus
	}
	k, err := x509.ParsePKCS1PrivateKey(inner)
	if err != nil || len(k.Primes) != 2 {
		return opened{}, wrongRSA
	}
	if k.N.BitLen() != f.bits {
		return opened{}, wrongModulus
	}
	if !works(k) {
		return opened{}, wrongRSA
	}
	return opened{f.spki(&k.PublicKey), rsaPublic{&k.PublicKey}, rsaPrivate{k}}, nil
}

// longest is how many bytes a private key takes at most: two numbers as long as the
// modulus, five half as long, and some for the rest. Longer ones are not looked
// at, because to check them takes a time that grows with the cube of their length.
func (f rsaFamily) longest() int { return 9*f.bits/16 + 128 }

// works has a key sign something. The library compares the result with what it
// came from; that finds factors that are not prime, which reading the key does not.
func works(k *rsa.PrivateKey) bool {
	_, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, make([]byte, crypto.SHA256.Size()))
	return err == nil
}

func (f rsaFamily) openPublic(spki []byte) (opened, error) {
	inner, err := parseSPKI(spki, rsaEncryption)
	if err != nil {
		return opened{}, err
	}
	k, err := x509.ParsePKCS1PublicKey(inner)
	if err != nil || k.E < 3 || k.E%2 == 0 || k.N.Bit(0) == 0 {
		return opened{}, wrongRSA
	}
	if k.N.BitLen() != f.bits {
		return opened{}, wrongModulus
	}
	return opened{spki: f.spki(k), public: rsaPublic{k}}, nil
}

func (rsaFamily) spki(k *rsa.PublicKey) []byte {
	return marshalSPKI(rsaEncryption, x509.MarshalPKCS1PublicKey(k))
}

// oaepHash is the hash of an encryption algorithm, and of its mask generation.
var oaepHash = map[kmsapi.EncryptionAlgorithmSpec]crypto.Hash{
	kmsapi.RSAESOaepSHA1:   crypto.SHA1,
	kmsapi.RSAESOaepSHA256: crypto.SHA256,
}

type rsaPublic struct{ k *rsa.PublicKey }

func (p rsaPublic) verify(digest, signature []byte, opts crypto.SignerOpts) bool {
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		return rsa.VerifyPSS(p.k, pss.Hash, digest, signature, pss) == nil
	}
	return rsa.VerifyPKCS1v15(p.k, opts.HashFunc(), digest, signature) == nil
}

func (p rsaPublic) limit(alg kmsapi.EncryptionAlgorithmSpec) int {
	return p.k.Size() - 2*oaepHash[alg].Size() - 2
}

func (p rsaPublic) encrypt(alg kmsapi.EncryptionAlgorithmSpec, plaintext []byte) ([]byte, error) {
	return rsa.EncryptOAEP(oaepHash[alg].New(), rand.Reader, p.k, plaintext, nil)
}

// rsaPrivate signs as what it embeds.
type rsaPrivate struct{ *rsa.PrivateKey }

func (p rsaPrivate) decrypt(alg kmsapi.EncryptionAlgorithmSpec, ciphertext []byte) ([]byte, error) {
	return rsa.DecryptOAEP(oaepHash[alg].New(), nil, p.PrivateKey, ciphertext, nil)
}
