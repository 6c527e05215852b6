package keyspec_test

import (
	"bytes"
	"testing"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

// FuzzOpen gives any bytes to every spec. Whatever opens must work, and say the
// same public key when it is opened again; whatever does not is refused with one code.
func FuzzOpen(f *testing.F) {
	specs := keyspec.All()
	for i, s := range specs {
		f.Add(byte(i), materialOf(s))
		f.Add(byte(i), materialOf(s)[1:])
	}
	f.Fuzz(func(t *testing.T, i byte, material []byte) {
		s := specs[int(i)%len(specs)]
		before := bytes.Clone(material)
		k, err := s.Open(material)
		if !bytes.Equal(before, material) {
			t.Fatal("the caller's bytes are changed")
		}
		if err != nil {
			if e, ok := err.(*kmsapi.Error); !ok || e.Code != kmsapi.IncorrectKeyMaterial || e.Unwrap() != nil {
				t.Fatal(err)
			}
			return
		}
		usable(t, k)
		if !s.Asymmetric() {
			return
		}
		public, err := s.OpenPublic(k.SPKI())
		if err != nil || !bytes.Equal(public.SPKI(), k.SPKI()) {
			t.Fatalf("the public key does not open: %v", err)
		}
	})
}

// FuzzOpenPublic gives any bytes to every spec as a public key, and as a peer's key.
func FuzzOpenPublic(f *testing.F) {
	specs := keyspec.All()
	for i, s := range specs {
		f.Add(byte(i), keyOf(f, s.Name).SPKI())
	}
	f.Fuzz(func(t *testing.T, i byte, spki []byte) {
		s := specs[int(i)%len(specs)]
		k, err := s.OpenPublic(spki)
		if s.Allows(kmsapi.KeyAgreement) {
			_, agreeing := keyOf(t, s.Name).SharedSecret(spki)
			if (agreeing == nil) != (err == nil) || agreeing != nil && kmsapi.CodeOf(agreeing) != kmsapi.Validation {
				t.Fatalf("a public key is good for one thing only: %v, %v", err, agreeing)
			}
		}
		if err != nil {
			wantCode(t, err, kmsapi.Validation)
			return
		}
		again, err := s.OpenPublic(k.SPKI())
		if err != nil || !bytes.Equal(again.SPKI(), k.SPKI()) {
			t.Fatalf("what opened does not open again: %v", err)
		}
		for _, alg := range s.SigningAlgorithms(kmsapi.SignVerify) {
			if err := k.Verify(alg, kmsapi.MessageDigest, make([]byte, 32), make([]byte, 64)); err == nil {
				t.Fatal("zeros are a signature")
			}
		}
		for _, alg := range s.EncryptionAlgorithms(kmsapi.EncryptDecrypt) {
			if _, err := k.Encrypt(alg, []byte("a")); err != nil {
				t.Fatal(err)
			}
		}
		if s.Allows(kmsapi.EncapsulateDecapsulate) {
			if _, _, err := k.Encapsulate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzForeignBytes gives any bytes to Verify, Decrypt and Decapsulate.
func FuzzForeignBytes(f *testing.F) {
	specs := keyspec.All()
	for i, s := range specs {
		k := keyOf(f, s.Name)
		for _, alg := range s.SigningAlgorithms(kmsapi.SignVerify) {
			if signature, err := k.Sign(alg, "", []byte("message")); err == nil {
				f.Add(byte(i), []byte("other"), signature)
			}
		}
		if ciphertext, err := k.Encrypt(kmsapi.SM2PKE, []byte("message")); err == nil {
			f.Add(byte(i), []byte("other"), ciphertext)
		}
		if _, ciphertext, err := k.Encapsulate(); err == nil {
			f.Add(byte(i), []byte("other"), ciphertext)
		}
	}
	types := []kmsapi.MessageType{"", kmsapi.MessageDigest, kmsapi.MessageExternalMu}
	f.Fuzz(func(t *testing.T, i byte, message, foreign []byte) {
		s := specs[int(i)%len(specs)]
		k := keyOf(t, s.Name)
		for _, alg := range s.SigningAlgorithms(kmsapi.SignVerify) {
			for _, as := range types {
				if err := k.Verify(alg, as, message, foreign); kmsapi.CodeOf(err) == kmsapi.KMSInternal {
					t.Fatal(err)
				}
			}
		}
		for _, alg := range s.EncryptionAlgorithms(kmsapi.EncryptDecrypt) {
			if _, err := k.Decrypt(alg, foreign); err != nil && !s.Symmetric() {
				wantError(t, err, kmsapi.InvalidCiphertext, "")
			}
		}
		if s.Allows(kmsapi.EncapsulateDecapsulate) {
			if shared, err := k.Decapsulate(foreign); err != nil {
				wantError(t, err, kmsapi.InvalidCiphertext, "")
			} else if len(shared) != 32 {
				t.Fatalf("a secret of %d bytes", len(shared))
			}
		}
	})
}

// usable does what a key can.
func usable(t *testing.T, k keyspec.Key) {
	t.Helper()
	s := k.Spec()
	for _, alg := range s.SigningAlgorithms(kmsapi.SignVerify) {
		message, as := []byte("message"), kmsapi.MessageRaw
		if alg == kmsapi.Ed25519phSHA512 {
			message, as = make([]byte, 64), kmsapi.MessageDigest
		}
		signature, err := k.Sign(alg, as, message)
		if err != nil || k.Verify(alg, as, message, signature) != nil {
			t.Fatalf("%s: %v", alg, err)
		}
	}
	for _, alg := range s.EncryptionAlgorithms(kmsapi.EncryptDecrypt) {
		if s.Symmetric() {
			continue
		}
		ciphertext, err := k.Encrypt(alg, []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Decrypt(alg, ciphertext); err != nil || string(got) != "message" {
			t.Fatalf("%s: %v", alg, err)
		}
	}
	if s.Allows(kmsapi.KeyAgreement) {
		if _, err := k.SharedSecret(k.SPKI()); err != nil {
			t.Fatal(err)
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
}
