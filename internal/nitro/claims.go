package nitro

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Limits of the members of a payload, in bytes where they are of bytes.
const (
	maxCertificateSize = 1024
	maxBundle          = 16
	maxPublicKeySize   = 1024
	maxUserDataSize    = 512
	maxNonceSize       = 512

	enclaveRegisters = 32
	tpmRegisters     = 24

	maxTimestamp = 1 << 53 // milliseconds; far beyond any date, and no overflow
)

// claims is the payload of a document.
type claims struct {
	ModuleID     string             `cbor:"module_id"`
	Digest       string             `cbor:"digest"`
	Timestamp    uint64             `cbor:"timestamp"`
	PCRs         map[any]byteString `cbor:"pcrs"`
	NitroTPMPCRs map[any]byteString `cbor:"nitrotpm_pcrs"`
	Certificate  byteString         `cbor:"certificate"`
	CABundle     []byteString       `cbor:"cabundle"`
	PublicKey    byteString         `cbor:"public_key"`
	UserData     byteString         `cbor:"user_data"`
	Nonce        byteString         `cbor:"nonce"`
}

var claimsMode = decodeMode(cbor.IndefLengthAllowed)

// parseClaims decodes the payload and checks its members by themselves.
func parseClaims(payload []byte) (*claims, error) {
	var c claims
	if err := claimsMode.Unmarshal(payload, &c); err != nil {
		return nil, fmt.Errorf("%w: its payload is not as it must be: %s", ErrMalformed, reason(err))
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return &c, nil
}

func (c *claims) check() error {
	switch {
	case c.ModuleID == "":
		return errors.New("module_id is missing or empty")
	case c.Digest != "SHA384":
		return errors.New("digest is missing or not SHA384")
	case c.Timestamp == 0 || c.Timestamp > maxTimestamp:
		return errors.New("timestamp is missing or out of range")
	case (c.PCRs == nil) == (c.NitroTPMPCRs == nil):
		return errors.New("it must have pcrs or nitrotpm_pcrs, and not both")
	case len(c.CABundle) == 0:
		return errors.New("cabundle is missing or empty")
	}
	if err := checkSize("certificate", c.Certificate, 1, maxCertificateSize); err != nil {
		return err
	}
	for i, certificate := range c.CABundle {
		if err := checkSize(fmt.Sprintf("cabundle[%d]", i), certificate, 1, maxCertificateSize); err != nil {
			return err
		}
	}
	if c.PublicKey != nil {
		if err := checkSize("public_key", c.PublicKey, 1, maxPublicKeySize); err != nil {
			return err
		}
	}
	if err := checkSize("user_data", c.UserData, 0, maxUserDataSize); err != nil {
		return err
	}
	return checkSize("nonce", c.Nonce, 0, maxNonceSize)
}

func checkSize(name string, b byteString, least, most int) error {
	if len(b) < least || len(b) > most {
		return fmt.Errorf("%s has %d bytes, want %d to %d", name, len(b), least, most)
	}
	return nil
}

// attestation is what the claims say, in Go's terms.
func (c *claims) attestation() (*Attestation, error) {
	a := &Attestation{
		ModuleID:  c.ModuleID,
		Timestamp: time.UnixMilli(int64(c.Timestamp)).UTC(),
		UserData:  c.UserData,
		Nonce:     c.Nonce,
	}
	var err error
	if a.PCRs, err = registers("pcrs", c.PCRs, enclaveRegisters); err != nil {
		return nil, err
	}
	if a.NitroTPMPCRs, err = registers("nitrotpm_pcrs", c.NitroTPMPCRs, tpmRegisters); err != nil {
		return nil, err
	}
	if c.PublicKey != nil {
		a.PublicKey, err = parsePublicKey(c.PublicKey)
	}
	return a, err
}

// registers checks indices and sizes. The keys come as any, so that an index is
// an unsigned integer and not something that can be converted to one.
func registers(name string, found map[any]byteString, limit uint64) (map[int][]byte, error) {
	if found == nil {
		return nil, nil
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: %s is empty", ErrMalformed, name)
	}
	out := make(map[int][]byte, len(found))
	for key, value := range found {
		index, ok := key.(uint64)
		if !ok || index >= limit {
			return nil, fmt.Errorf("%w: %s has an index that is not an integer from 0 to %d", ErrMalformed, name, limit-1)
		}
		switch len(value) {
		case 32, 48, 64:
			out[int(index)] = value
		default:
			return nil, fmt.Errorf("%w: %s[%d] has %d bytes, want 32, 48 or 64", ErrMalformed, name, index, len(value))
		}
	}
	return out, nil
}

func parsePublicKey(der []byte) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: public_key is not a DER SubjectPublicKeyInfo", ErrPublicKey)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is not an RSA key", ErrPublicKey)
	}
	if err := checkPublicKey(key); err != nil {
		return nil, err
	}
	_, err = encryptKey(key, nil) // as a trial, so that no answer is made in vain
	return key, err
}
