package keywrap_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"kastellan.dev/internal/keywrap"
	"kastellan.dev/internal/rootkey"
)

// BenchmarkUnwrap stands beside BenchmarkBareOAEP, its floor for RSA.
func BenchmarkUnwrap(b *testing.B) {
	for _, p := range pairs {
		material := random(32)
		if isHybrid(p.alg) {
			material = random(1217) // an RSA-2048 private key
		}
		b.Run(string(p.alg)+"/"+string(p.spec), func(b *testing.B) {
			k := key(p.spec)
			wrapped := wrap(b, p, k, material)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Unwrap(p.alg, wrapped); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBareOAEP(b *testing.B) {
	for _, spec := range specs[:3] {
		b.Run(string(spec), func(b *testing.B) {
			pkcs8, err := key(spec).Marshal()
			if err != nil {
				b.Fatal(err)
			}
			parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
			if err != nil {
				b.Fatal(err)
			}
			private := parsed.(*rsa.PrivateKey)
			wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &private.PublicKey, random(32), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := rsa.DecryptOAEP(sha256.New(), nil, private, wrapped, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpenToken is what ImportKeyMaterial does in front of Unwrap.
func BenchmarkOpenToken(b *testing.B) {
	sealer := rootkey.Random().Direct()
	for _, p := range pairs[len(pairs)-4:] {
		b.Run(string(p.spec), func(b *testing.B) {
			sealed := sealToken(b, sealer, keywrap.Token{KeyARN: arn, Algorithm: p.alg, Key: key(p.spec), NotAfter: noon})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := keywrap.OpenToken(sealer, sealed, arn, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
