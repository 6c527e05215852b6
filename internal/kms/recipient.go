package kms

import (
	"fmt"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/nitro"
)

// recipient is a Nitro enclave or a NitroTPM instance for which alone an answer is meant.
type recipient struct{ attestation *nitro.Attestation }

// lazyRecipient is a recipient that is verified once: for policies, or for the operation.
type lazyRecipient struct {
	verified  bool
	recipient *recipient
	err       error
}

// recipient verifies who the answer is to be for; nil means the caller.
func (c *call) recipient(in *kmsapi.RecipientInfo) (*recipient, error) {
	if in == nil {
		return nil, nil
	}
	if !c.to.verified {
		r, err := c.s.recipient(in)
		c.to = lazyRecipient{true, r, err}
		c.noteRecipient(r)
	}
	return c.to.recipient, c.to.err
}

// recipientOf is the member of the five requests that have it.
func recipientOf(in any) *kmsapi.RecipientInfo {
	switch in := in.(type) {
	case *kmsapi.DecryptRequest:
		return in.Recipient
	case *kmsapi.DeriveSharedSecretRequest:
		return in.Recipient
	case *kmsapi.GenerateDataKeyRequest:
		return in.Recipient
	case *kmsapi.GenerateDataKeyPairRequest:
		return in.Recipient
	case *kmsapi.GenerateRandomRequest:
		return in.Recipient
	default:
		return nil
	}
}

func (s *Service) recipient(in *kmsapi.RecipientInfo) (*recipient, error) {
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
