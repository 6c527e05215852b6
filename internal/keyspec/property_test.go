package keyspec_test

import (
	"bytes"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"kastellan.dev/internal/kmsapi"
)

// TestRoundTrips gives random messages to every legal algorithm.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	for _, s := range available() {
		t.Run(string(s.Name), func(t *testing.T) {
			t.Parallel()
			k := open(t, s, materialOf(s))
			rapid.Check(t, func(t *rapid.T) {
				message := rapid.SliceOfN(rapid.Byte(), 1, 190).Draw(t, "message")
				other := rapid.SliceOfN(rapid.Byte(), 1, 190).Draw(t, "other")
				for _, alg := range s.SigningAlgorithms(kmsapi.SignVerify) {
					as := kmsapi.MessageRaw
					if alg == kmsapi.Ed25519phSHA512 {
						as, message, other = kmsapi.MessageDigest, stretch(message), stretch(other)
					}
					signature, err := k.Sign(alg, as, message)
					if err != nil || k.Verify(alg, as, message, signature) != nil {
						t.Fatalf("%s: %v", alg, err)
					}
					if err := k.Verify(alg, as, other, signature); (err == nil) != bytes.Equal(message, other) {
						t.Fatalf("%s verifies another message: %v", alg, err)
					}
				}
				for _, alg := range s.EncryptionAlgorithms(kmsapi.EncryptDecrypt) {
					if s.Symmetric() || enforced() && alg == kmsapi.RSAESOaepSHA1 {
						continue
					}
					ciphertext, err := k.Encrypt(alg, message)
					if err != nil {
						t.Fatal(err)
					}
					if got, err := k.Decrypt(alg, ciphertext); err != nil || !bytes.Equal(got, message) {
						t.Fatalf("%s: %v", alg, err)
					}
					if _, err := k.Decrypt(alg, other); kmsapi.CodeOf(err) != kmsapi.InvalidCiphertext {
						t.Fatalf("%s decrypts anything: %v", alg, err)
					}
				}
				for _, alg := range s.MacAlgorithms(kmsapi.GenerateVerifyMac) {
					mac, err := k.MAC(alg, message)
					if err != nil || k.VerifyMAC(alg, message, mac) != nil {
						t.Fatalf("%s: %v", alg, err)
					}
					if err := k.VerifyMAC(alg, other, mac); (err == nil) != bytes.Equal(message, other) {
						t.Fatalf("%s verifies another message: %v", alg, err)
					}
				}
				if s.Allows(kmsapi.EncapsulateDecapsulate) {
					shared, ciphertext, err := k.Encapsulate()
					if err != nil {
						t.Fatal(err)
					}
					if got, err := k.Decapsulate(ciphertext); err != nil || !bytes.Equal(got, shared) {
						t.Fatalf("another secret: %v", err)
					}
				}
			})
		})
	}
}

// stretch makes 64 bytes of a message, as a digest has, different for different messages up to there.
func stretch(message []byte) []byte {
	return append(bytes.Clone(message), make([]byte, 64)...)[:64]
}

// TestManyGoroutines uses one key from many sides; the race detector looks on.
func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	for _, s := range available() {
		k := open(t, s, materialOf(s))
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for _, alg := range s.SigningAlgorithms(kmsapi.SignVerify) {
					as := kmsapi.MessageRaw
					if alg == kmsapi.Ed25519phSHA512 {
						as = kmsapi.MessageDigest
					}
					signature, err := k.Sign(alg, as, make([]byte, 64))
					if err != nil || k.Verify(alg, as, make([]byte, 64), signature) != nil {
						t.Errorf("%s: %v", alg, err)
					}
				}
				if s.Allows(kmsapi.KeyAgreement) {
					if _, err := k.SharedSecret(k.SPKI()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
}
