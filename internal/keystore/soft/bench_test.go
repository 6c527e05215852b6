package soft_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/soft"
	"kastellan.dev/internal/xaes"
)

// BenchmarkEncrypt has two floors beside it: AES-256-GCM under a ready key, and
// XAES-256-GCM, which sets a key up for each message.
func BenchmarkEncrypt(b *testing.B) { benchmark(b, false) }

// BenchmarkDecrypt has the same floors.
func BenchmarkDecrypt(b *testing.B) { benchmark(b, true) }

func benchmark(b *testing.B, decrypt bool) {
	plaintext, aad := make([]byte, 32), make([]byte, 60)
	dst := make([]byte, 0, 256)
	run := func(name string, seal func() []byte, open func(sealed []byte) error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			sealed := append([]byte(nil), seal()...)
			for b.Loop() {
				if !decrypt {
					seal()
				} else if err := open(sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}

	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	run("floor=AES-256-GCM",
		func() []byte { return gcm.Seal(dst, nil, plaintext, aad) },
		func(sealed []byte) error { _, err := gcm.Open(nil, nil, sealed, aad); return err })

	x, err := xaes.New(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	run("floor=XAES-256-GCM",
		func() []byte { return x.Seal(dst, plaintext, aad) },
		func(sealed []byte) error { _, err := x.Open(nil, sealed, aad); return err })

	s, ctx := soft.New(newKeyring(b)), context.Background()
	key := createKey(b, s)
	run("soft",
		func() []byte {
			sealed, err := s.Encrypt(ctx, keystore.Call{}, key, dst, plaintext, aad)
			if err != nil {
				b.Fatal(err)
			}
			return sealed
		},
		func(sealed []byte) error {
			_, err := s.Decrypt(ctx, keystore.Call{}, key, sealed, aad)
			return err
		})
}
