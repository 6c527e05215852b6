package keyspec_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"hash"
	"testing"

	"filippo.io/mldsa"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	gmsm "github.com/emmansun/gmsm/mlkem"
	"github.com/emmansun/gmsm/sm2"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

// Each benchmark here stands beside the bare call of the library that does the
// work, with the same key where the library takes it.

// beside runs two functions as "ours" and "bare".
func beside(b *testing.B, name string, ours, bare func() error) {
	for _, side := range []struct {
		name string
		do   func() error
	}{{"ours", ours}, {"bare", bare}} {
		b.Run(name+"/"+side.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := side.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func only[T any](_ T, err error) error { return err }

var benchMessage = make([]byte, 256)

// benchmarkSigning compares Sign and Verify of a key with those of a library.
func benchmarkSigning(b *testing.B, k keyspec.Key, alg kmsapi.SigningAlgorithmSpec, sign func() ([]byte, error), verify func(signature []byte) bool) {
	signature, err := k.Sign(alg, kmsapi.MessageRaw, benchMessage)
	if err != nil {
		b.Fatal(err)
	}
	name := string(k.Spec().Name) + "/" + string(alg)
	beside(b, "Sign/"+name,
		func() error { return only(k.Sign(alg, kmsapi.MessageRaw, benchMessage)) },
		func() error { return only(sign()) })
	beside(b, "Verify/"+name,
		func() error { return k.Verify(alg, kmsapi.MessageRaw, benchMessage, signature) },
		func() error {
			if !verify(signature) {
				b.Fatal("the library does not verify")
			}
			return nil
		})
}

func standard[K any](b *testing.B, name kmsapi.KeySpec) K {
	b.Helper()
	k, err := x509.ParsePKCS8PrivateKey(materialOf(keyspec.Of(name)))
	if err != nil {
		b.Fatal(err)
	}
	return k.(K)
}

func BenchmarkRSA(b *testing.B) {
	for _, name := range []kmsapi.KeySpec{kmsapi.RSA2048, kmsapi.RSA3072, kmsapi.RSA4096} {
		k, bare := keyOf(b, name), standard[*rsa.PrivateKey](b, name)
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		benchmarkSigning(b, k, kmsapi.RSASSAPssSHA256,
			func() ([]byte, error) {
				digest := sha256.Sum256(benchMessage)
				return rsa.SignPSS(rand.Reader, bare, crypto.SHA256, digest[:], options)
			},
			func(signature []byte) bool {
				digest := sha256.Sum256(benchMessage)
				return rsa.VerifyPSS(&bare.PublicKey, crypto.SHA256, digest[:], signature, options) == nil
			})
		ciphertext, err := k.Encrypt(kmsapi.RSAESOaepSHA256, benchMessage[:32])
		if err != nil {
			b.Fatal(err)
		}
		beside(b, "Encrypt/"+string(name),
			func() error { return only(k.Encrypt(kmsapi.RSAESOaepSHA256, benchMessage[:32])) },
			func() error {
				return only(rsa.EncryptOAEP(sha256.New(), rand.Reader, &bare.PublicKey, benchMessage[:32], nil))
			})
		beside(b, "Decrypt/"+string(name),
			func() error { return only(k.Decrypt(kmsapi.RSAESOaepSHA256, ciphertext)) },
			func() error { return only(rsa.DecryptOAEP(sha256.New(), nil, bare, ciphertext, nil)) })
	}
}

func BenchmarkNIST(b *testing.B) {
	for name, curve := range map[kmsapi.KeySpec]struct {
		alg  kmsapi.SigningAlgorithmSpec
		hash func() hash.Hash
	}{
		kmsapi.ECCNistP256: {kmsapi.ECDSASHA256, sha256.New},
		kmsapi.ECCNistP384: {kmsapi.ECDSASHA384, sha512.New384},
		kmsapi.ECCNistP521: {kmsapi.ECDSASHA512, sha512.New},
	} {
		k, bare := keyOf(b, name), standard[*ecdsa.PrivateKey](b, name)
		digest := func() []byte {
			h := curve.hash()
			h.Write(benchMessage)
			return h.Sum(nil)
		}
		benchmarkSigning(b, k, curve.alg,
			func() ([]byte, error) { return ecdsa.SignASN1(rand.Reader, bare, digest()) },
			func(signature []byte) bool { return ecdsa.VerifyASN1(&bare.PublicKey, digest(), signature) })
		private, err := bare.ECDH()
		if err != nil {
			b.Fatal(err)
		}
		var peer *ecdh.PublicKey = private.PublicKey()
		spki := k.SPKI()
		beside(b, "SharedSecret/"+string(name),
			func() error { return only(k.SharedSecret(spki)) },
			func() error { return only(private.ECDH(peer)) })
	}
}

func BenchmarkSecp256k1(b *testing.B) {
	k := keyOf(b, kmsapi.ECCSecgP256k1)
	bare, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		b.Fatal(err)
	}
	public, err := secp256k1.ParsePubKey(encodedPoint(b, k.SPKI()))
	if err != nil {
		b.Fatal(err)
	}
	benchmarkSigning(b, k, kmsapi.ECDSASHA256,
		func() ([]byte, error) {
			digest := sha256.Sum256(benchMessage)
			return secp.Sign(bare, digest[:]).Serialize(), nil
		},
		func(signature []byte) bool {
			digest := sha256.Sum256(benchMessage)
			s, err := secp.ParseDERSignature(signature)
			return err == nil && s.Verify(digest[:], public)
		})
}

// encodedPoint is the end of a public key on a curve of 256 bits.
func encodedPoint(b *testing.B, spki []byte) []byte {
	b.Helper()
	return spki[len(spki)-65:]
}

func BenchmarkEdwards(b *testing.B) {
	bare := standard[ed25519.PrivateKey](b, kmsapi.ECCNistEdwards)
	public := bare.Public().(ed25519.PublicKey)
	benchmarkSigning(b, keyOf(b, kmsapi.ECCNistEdwards), kmsapi.Ed25519SHA512,
		func() ([]byte, error) { return ed25519.Sign(bare, benchMessage), nil },
		func(signature []byte) bool { return ed25519.Verify(public, benchMessage, signature) })
}

func BenchmarkSM2(b *testing.B) {
	k := keyOf(b, kmsapi.SM2)
	bare, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	public, err := sm2.NewPublicKey(encodedPoint(b, k.SPKI()))
	if err != nil {
		b.Fatal(err)
	}
	benchmarkSigning(b, k, kmsapi.SM2DSA,
		func() ([]byte, error) { return bare.Sign(rand.Reader, benchMessage, sm2.DefaultSM2SignerOpts) },
		func(signature []byte) bool { return sm2.VerifyASN1WithSM2(public, nil, benchMessage, signature) })
	ours, err := k.Encrypt(kmsapi.SM2PKE, benchMessage)
	if err != nil {
		b.Fatal(err)
	}
	theirs, err := sm2.EncryptASN1(rand.Reader, &bare.PublicKey, benchMessage)
	if err != nil {
		b.Fatal(err)
	}
	beside(b, "Encrypt/SM2",
		func() error { return only(k.Encrypt(kmsapi.SM2PKE, benchMessage)) },
		func() error { return only(sm2.EncryptASN1(rand.Reader, public, benchMessage)) })
	beside(b, "Decrypt/SM2",
		func() error { return only(k.Decrypt(kmsapi.SM2PKE, ours)) },
		func() error { return only(sm2.Decrypt(bare, theirs)) })
}

func BenchmarkMLDSA(b *testing.B) {
	for name, parameters := range map[kmsapi.KeySpec]mldsa.Parameters{
		kmsapi.MLDSA44: mldsa.MLDSA44(), kmsapi.MLDSA65: mldsa.MLDSA65(), kmsapi.MLDSA87: mldsa.MLDSA87(),
	} {
		k := keyOf(b, name)
		bare, err := mldsa.NewPrivateKey(parameters, parsed[pkcs8](b, materialOf(k.Spec())).PrivateKey[2:])
		if err != nil {
			b.Fatal(err)
		}
		benchmarkSigning(b, k, kmsapi.MLDSAShake256,
			func() ([]byte, error) { return bare.Sign(nil, benchMessage, nil) },
			func(signature []byte) bool {
				return mldsa.Verify(bare.PublicKey(), benchMessage, signature, nil) == nil
			})
		mu := representative(bare.PublicKey().Bytes(), nil, benchMessage)
		signature, err := k.Sign(kmsapi.MLDSAShake256, kmsapi.MessageExternalMu, mu)
		if err != nil {
			b.Fatal(err)
		}
		beside(b, "VerifyMu/"+string(name),
			func() error { return k.Verify(kmsapi.MLDSAShake256, kmsapi.MessageExternalMu, mu, signature) },
			func() error { return mldsa.Verify(bare.PublicKey(), benchMessage, signature, nil) })
	}
}

func BenchmarkMLKEM(b *testing.B) {
	seed := func(name kmsapi.KeySpec) []byte {
		return parsed[pkcs8](b, materialOf(keyspec.Of(name))).PrivateKey[2:]
	}
	k512, err512 := gmsm.NewDecapsulationKeyFromSeed512(seed(kmsapi.MLKEM512))
	k768, err768 := mlkem.NewDecapsulationKey768(seed(kmsapi.MLKEM768))
	k1024, err1024 := mlkem.NewDecapsulationKey1024(seed(kmsapi.MLKEM1024))
	if err512 != nil || err768 != nil || err1024 != nil {
		b.Fatal(err512, err768, err1024)
	}
	for name, bare := range map[kmsapi.KeySpec]struct {
		encapsulate func() error
		decapsulate func(ciphertext []byte) ([]byte, error)
	}{
		kmsapi.MLKEM512:  {func() error { _, _, err := k512.EncapsulationKey().Encapsulate(rand.Reader); return err }, k512.Decapsulate},
		kmsapi.MLKEM768:  {func() error { k768.EncapsulationKey().Encapsulate(); return nil }, k768.Decapsulate},
		kmsapi.MLKEM1024: {func() error { k1024.EncapsulationKey().Encapsulate(); return nil }, k1024.Decapsulate},
	} {
		k := keyOf(b, name)
		_, ciphertext, err := k.Encapsulate()
		if err != nil {
			b.Fatal(err)
		}
		beside(b, "Encapsulate/"+string(name),
			func() error { _, _, err := k.Encapsulate(); return err },
			bare.encapsulate)
		beside(b, "Decapsulate/"+string(name),
			func() error { return only(k.Decapsulate(ciphertext)) },
			func() error { return only(bare.decapsulate(ciphertext)) })
	}
}

func BenchmarkHMAC(b *testing.B) {
	for name, h := range map[kmsapi.KeySpec]func() hash.Hash{
		kmsapi.HMAC224: sha256.New224, kmsapi.HMAC256: sha256.New, kmsapi.HMAC384: sha512.New384, kmsapi.HMAC512: sha512.New,
	} {
		k, material := keyOf(b, name), materialOf(keyspec.Of(name))
		alg := k.Spec().MacAlgorithms(kmsapi.GenerateVerifyMac)[0]
		beside(b, "MAC/"+string(name),
			func() error { return only(k.MAC(alg, benchMessage)) },
			func() error {
				m := hmac.New(h, material)
				m.Write(benchMessage)
				m.Sum(nil)
				return nil
			})
	}
}

// BenchmarkOpen measures what a cache of opened keys saves.
func BenchmarkOpen(b *testing.B) {
	for _, s := range keyspec.All() {
		material := materialOf(s)
		b.Run(string(s.Name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Open(material); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
