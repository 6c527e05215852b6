package keyspec

import (
	"crypto"
	"crypto/ed25519"
	"crypto/fips140"
	"crypto/rsa"
	_ "crypto/sha1" // for crypto.SHA1
	_ "crypto/sha256"
	_ "crypto/sha512"
	"slices"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	"github.com/emmansun/gmsm/sm2"

	"kastellan.dev/internal/kmsapi"
)

// form is how messages of one type are signed by one algorithm.
type form struct {
	size int               // the length that the message must have; 0 is any
	hash crypto.Hash       // what it is hashed with first; 0 is nothing
	opts crypto.SignerOpts // what the family's signer and verifier are told
}

// prepare gives what is signed for a message.
func (f form) prepare(message []byte) []byte {
	if f.hash == 0 {
		return message
	}
	h := f.hash.New()
	h.Write(message)
	return h.Sum(nil)
}

type forms map[kmsapi.MessageType]form

// hashed is for algorithms that sign a digest, whoever made it.
func hashed(hash crypto.Hash, opts crypto.SignerOpts) forms {
	return forms{
		kmsapi.MessageRaw:    {hash: hash, opts: opts},
		kmsapi.MessageDigest: {size: hash.Size(), opts: opts},
	}
}

func pss(hash crypto.Hash) forms {
	return hashed(hash, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
}

// signing is the table of signing algorithms: which types of messages each takes.
//
// Ed25519ph hashes once more what the caller says is a digest: AWS gives the
// digest to the whole scheme as its message. SM2 without options signs the
// 32 bytes that SM3 made of its identity prefix and the message.
var signing = map[kmsapi.SigningAlgorithmSpec]forms{
	kmsapi.RSASSAPssSHA256:   pss(crypto.SHA256),
	kmsapi.RSASSAPssSHA384:   pss(crypto.SHA384),
	kmsapi.RSASSAPssSHA512:   pss(crypto.SHA512),
	kmsapi.RSASSAPkcs1SHA256: hashed(crypto.SHA256, crypto.SHA256),
	kmsapi.RSASSAPkcs1SHA384: hashed(crypto.SHA384, crypto.SHA384),
	kmsapi.RSASSAPkcs1SHA512: hashed(crypto.SHA512, crypto.SHA512),
	kmsapi.ECDSASHA256:       hashed(crypto.SHA256, crypto.SHA256),
	kmsapi.ECDSASHA384:       hashed(crypto.SHA384, crypto.SHA384),
	kmsapi.ECDSASHA512:       hashed(crypto.SHA512, crypto.SHA512),
	kmsapi.SM2DSA: {
		kmsapi.MessageRaw:    {opts: sm2.DefaultSM2SignerOpts},
		kmsapi.MessageDigest: {size: 32},
	},
	kmsapi.MLDSAShake256: {
		kmsapi.MessageRaw:        {opts: &mldsa.Options{}},
		kmsapi.MessageExternalMu: {size: 64, opts: mldsacrypto.MLDSAMu},
	},
	kmsapi.Ed25519SHA512: {
		kmsapi.MessageRaw: {opts: &ed25519.Options{}},
	},
	kmsapi.Ed25519phSHA512: {
		kmsapi.MessageDigest: {size: 64, hash: crypto.SHA512, opts: &ed25519.Options{Hash: crypto.SHA512}},
	},
}

// formOf finds how a message is signed, or says why it is not.
func (s *Spec) formOf(alg kmsapi.SigningAlgorithmSpec, as kmsapi.MessageType, message []byte) (form, error) {
	if !slices.Contains(s.use(kmsapi.SignVerify).signing, alg) {
		return form{}, incompatible(alg, s)
	}
	if as == "" {
		as = kmsapi.MessageRaw
	}
	f, ok := signing[alg][as]
	if !ok {
		return form{}, kmsapi.Errorf(kmsapi.Validation, "Algorithm %s does not take messages of type %s.", alg, as)
	}
	if f.size != 0 && len(message) != f.size {
		return form{}, kmsapi.Errorf(kmsapi.Validation, "%s is invalid length for algorithm %s.", lengthOf[as], alg)
	}
	return f, nil
}

// lengthOf names what has a wrong length.
var lengthOf = map[kmsapi.MessageType]string{
	kmsapi.MessageDigest:     "Digest",
	kmsapi.MessageExternalMu: "External mu",
}

// encryptsWith refuses encryption algorithms that are not the spec's, or not to be used.
func (s *Spec) encryptsWith(alg kmsapi.EncryptionAlgorithmSpec) error {
	if !slices.Contains(s.use(kmsapi.EncryptDecrypt).encryption, alg) {
		return incompatible(alg, s)
	}
	if alg == kmsapi.RSAESOaepSHA1 && fips140.Enforced() {
		return unapproved("Algorithm", alg)
	}
	return nil
}
