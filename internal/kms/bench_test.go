package kms_test

import (
	"crypto/aes"
	"crypto/cipher"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/keystore/soft"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store/bolt"
)

// BenchmarkDo measures an operation from the door on: decision, key state,
// key store and audit record, with a bare AES-256-GCM beside it.
func BenchmarkDo(b *testing.B) {
	db, err := bolt.Create(filepath.Join(b.TempDir(), "db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	s, err := kms.Open(b.Context(), kms.Config{
		Store: db, Soft: soft.New(plainSealer{}), Sealer: plainSealer{}, Audit: audit.NewFile(io.Discard), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ops := map[string]*kms.Operation{}
	for _, op := range kms.Operations() {
		ops[op.Name] = op
	}
	run := func(b *testing.B, name string, in any) any {
		out, err := s.Do(b.Context(), ops[name], root(account), in)
		if err != nil {
			b.Fatal(err)
		}
		return out
	}
	key := run(b, "CreateKey", &kmsapi.CreateKeyRequest{}).(*kmsapi.CreateKeyResponse).KeyMetadata
	plaintext := secretBytes("0123456789abcdef0123456789abcdef")
	context := map[string]string{"purpose": "benchmark"}
	sealed := run(b, "Encrypt", &kmsapi.EncryptRequest{KeyID: key.Arn, Plaintext: plaintext, EncryptionContext: context}).(*kmsapi.EncryptResponse).CiphertextBlob

	b.Run("floor: AES-256-GCM alone", func(b *testing.B) {
		block, _ := aes.NewCipher(plaintext.Reveal())
		aead, _ := cipher.NewGCMWithRandomNonce(block)
		b.ReportAllocs()
		for b.Loop() {
			aead.Seal(nil, nil, plaintext.Reveal(), nil)
		}
	})
	for name, in := range map[string]any{
		"Encrypt":         &kmsapi.EncryptRequest{KeyID: key.Arn, Plaintext: plaintext, EncryptionContext: context},
		"Decrypt":         &kmsapi.DecryptRequest{CiphertextBlob: sealed, EncryptionContext: context},
		"GenerateDataKey": &kmsapi.GenerateDataKeyRequest{KeyID: key.Arn, KeySpec: kmsapi.DataKeyAES256, EncryptionContext: context},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				run(b, name, in)
			}
		})
	}
}
