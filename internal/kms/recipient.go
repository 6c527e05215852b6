package kms

import (
	"fmt"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/nitro"
)

// recipient is a Nitro enclave or a NitroTPM instance for which alone an answer is meant.
type recipient struct{ attestation *nitro.Attestation }

// recipient verifies who the answer is to be for; nil means the caller.
func (s *Service) recipient(in *kmsapi.RecipientInfo) (*recipient, error) {
	if in == nil {
		return nil, nil
	}
	if len(in.AttestationDocument) == 0 {
		return nil, invalid("Recipient needs an attestation document.")
	}
	a, err := s.nitro.Verify(in.AttestationDocument, s.now())
	if err != nil {
		return nil, invalid("The attestation document is not valid: %v.", err)
	}
	if a.PublicKey == nil {
		return nil, invalid("The attestation document holds no public key.")
	}
	return &recipient{a}, nil
}

// seal encrypts a secret for the recipient, and overwrites it.
func (r *recipient) seal(plaintext []byte) ([]byte, error) {
	defer clear(plaintext)
	out, err := r.attestation.EncryptFor(plaintext)
	if err != nil {
		return nil, fmt.Errorf("encrypting for the recipient: %w", err)
	}
	return out, nil
}
