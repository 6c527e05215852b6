package check

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"

	"kastellan.dev/internal/xksapi"
)

const (
	encryptPath = "/keys/{key}/encrypt"
	decryptPath = "/keys/{key}/decrypt"
)

var exampleAAD = []byte("project=nile,department=marketing")

func encryptBody(plaintext, aad []byte) object {
	o := object{"requestMetadata": metadata("Encrypt"), "plaintext": plaintext, "encryptionAlgorithm": xksapi.AlgorithmAESGCM}
	if aad != nil {
		o["additionalAuthenticatedData"] = aad
	}
	return o
}

func decryptBody(e xksapi.EncryptResponse, aad []byte) object {
	o := object{
		"requestMetadata": metadata("Decrypt"), "encryptionAlgorithm": xksapi.AlgorithmAESGCM,
		"ciphertext": e.Ciphertext, "initializationVector": e.InitializationVector, "authenticationTag": e.AuthenticationTag,
	}
	if len(e.CiphertextMetadata) > 0 {
		o["ciphertextMetadata"] = e.CiphertextMetadata
	}
	if aad != nil {
		o["additionalAuthenticatedData"] = aad
	}
	return o
}

// encrypted encrypts body and checks the form of what comes.
func (p *prober) encrypted(ctx context.Context, key string, body object) (e xksapi.EncryptResponse, seen string, err error) {
	a, err := p.post(ctx, keyPath(key, "encrypt"), body)
	if err != nil {
		return e, "", err
	}
	if seen, err = a.wantOK(&e); err != nil {
		return e, seen, err
	}
	plaintext, _ := body["plaintext"].([]byte)
	switch {
	case len(e.Ciphertext) != len(plaintext):
		err = fmt.Errorf("%d bytes of plaintext gave %d of ciphertext", len(plaintext), len(e.Ciphertext))
	case len(e.InitializationVector) != 12 && len(e.InitializationVector) != 16:
		err = fmt.Errorf("the initialization vector has %d bytes", len(e.InitializationVector))
	case len(e.AuthenticationTag) != xksapi.TagSize:
		err = fmt.Errorf("the tag has %d bytes", len(e.AuthenticationTag))
	case len(e.CiphertextMetadata) > xksapi.MaxCiphertextMetadata:
		err = fmt.Errorf("the metadata have %d bytes", len(e.CiphertextMetadata))
	}
	return e, seen, err
}

func (p *prober) decrypted(ctx context.Context, key string, body object, want []byte) (seen string, err error) {
	a, err := p.post(ctx, keyPath(key, "decrypt"), body)
	if err != nil {
		return "", err
	}
	var d xksapi.DecryptResponse
	if seen, err = a.wantOK(&d); err != nil {
		return seen, err
	}
	if !bytes.Equal(d.Plaintext, want) || d.Plaintext == nil {
		return "another plaintext", errNotMet
	}
	return seen, nil
}

// roundTrip encrypts and decrypts; the additional data of both may be written differently.
func (p *prober) roundTrip(ctx context.Context, plaintext, aad, aadBack []byte) (seen string, err error) {
	e, seen, err := p.encrypted(ctx, p.o.KeyID, encryptBody(plaintext, aad))
	if err != nil {
		return seen, err
	}
	return p.decrypted(ctx, p.o.KeyID, decryptBody(e, aadBack), plaintext)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
