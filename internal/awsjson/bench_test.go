package awsjson_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/kmsapi"
)

// The floor is encoding/json with the same members and no constraints.

type plainEncryptRequest struct {
	KeyId               string
	Plaintext           []byte
	EncryptionContext   map[string]string
	GrantTokens         []string
	EncryptionAlgorithm string
	DryRun              bool
}

type plainEncryptResponse struct {
	CiphertextBlob      []byte
	KeyId               string
	EncryptionAlgorithm string
}

var (
	encryptBody = []byte(`{"KeyId":"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",` +
		`"Plaintext":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=","EncryptionContext":{"purpose":"test","tenant":"4711"},"EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`)
	ciphertext = make([]byte, 180)
)

const keyARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

func BenchmarkDecode(b *testing.B) {
	b.Run("awsjson", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := awsjson.Decode(encryptBody, new(kmsapi.EncryptRequest)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := json.Unmarshal(encryptBody, new(plainEncryptRequest)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	b.Run("awsjson", func(b *testing.B) {
		out := &kmsapi.EncryptResponse{CiphertextBlob: ciphertext, KeyID: keyARN, EncryptionAlgorithm: "SYMMETRIC_DEFAULT"}
		var buffer []byte
		b.ReportAllocs()
		for b.Loop() {
			buffer = awsjson.Append(buffer[:0], out)
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		out := &plainEncryptResponse{ciphertext, keyARN, "SYMMETRIC_DEFAULT"}
		var buffer bytes.Buffer
		encoder := json.NewEncoder(&buffer)
		b.ReportAllocs()
		for b.Loop() {
			buffer.Reset()
			if err := encoder.Encode(out); err != nil {
				b.Fatal(err)
			}
		}
	})
}
