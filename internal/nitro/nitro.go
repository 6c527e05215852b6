// Package nitro takes the word of AWS Nitro hardware for who is calling: it
// verifies attestation documents of Nitro Enclaves and of NitroTPM, and
// encrypts answers so that only what was attested can read them.
//
// A document is a COSE_Sign1 message (RFC 9052) with ES384, untagged or with
// tag 18. Its payload is a CBOR map:
//
//	module_id      text, not empty
//	digest         "SHA384"
//	timestamp      milliseconds since 1970
//	pcrs           0…31 → 32, 48 or 64 bytes: the registers of an enclave
//	nitrotpm_pcrs  the same for 0…23: the registers of a NitroTPM, in place of pcrs
//	certificate    DER, of the key that signed
//	cabundle       DER, from the root down to the issuer of certificate
//	public_key     1…1024 bytes: an RSA key as DER SubjectPublicKeyInfo; may be null or absent
//	user_data      at most 512 bytes; may be null or absent
//	nonce          at most 512 bytes; may be null or absent
//
// The map may be of indefinite length: hypervisors write it so. There must be
// nothing else in it, no key twice, and nothing around it. The certificates must
// be the whole chain in its order, up to a root that is trusted.
//
// The package decides whether a document is true, not whether what it says is
// welcome: an enclave in debug mode has registers of zeros, and it is for the
// key's policy to refuse it. A document may be shown again as long as it is
// young; whoever shows it gains nothing without the enclave's private key.
package nitro

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// DefaultMaxAge is how old a document may be if nobody says otherwise.
const DefaultMaxAge = 5 * time.Minute

// MaxSkew is how far in the future the timestamp of a document may be: the
// clocks of the two machines differ.
const MaxSkew = 5 * time.Minute

// What is wrong with a document. Errors wrap one of these, and their texts say
// what was found; nothing in them is secret.
var (
	ErrMalformed = errors.New("nitro: the attestation document is malformed")
	ErrUntrusted = errors.New("nitro: the certificates of the attestation document are not trusted")
	ErrSignature = errors.New("nitro: the signature of the attestation document does not match")
	ErrTimestamp = errors.New("nitro: the attestation document is not of this time")
	ErrPublicKey = errors.New("nitro: the attestation document has no public key that can be used")
)

// Verifier verifies attestation documents against the roots it trusts. It may
// be used from many goroutines at once, once MaxAge is set.
type Verifier struct {
	// MaxAge is how old the timestamp of a document may be. How old a document
	// AWS KMS accepts is not known; its certificate alone would do for
	// about three hours. New sets [DefaultMaxAge].
	MaxAge time.Duration

	roots *x509.CertPool
}

// New gives a verifier that trusts these roots and no others. It keeps a copy
// and refuses to trust nobody.
func New(roots *x509.CertPool) (*Verifier, error) {
	if roots == nil || roots.Equal(x509.NewCertPool()) {
		return nil, errors.New("nitro: there is no root certificate to trust")
	}
	return &Verifier{MaxAge: DefaultMaxAge, roots: roots.Clone()}, nil
}

// Attestation is what a verified document says.
type Attestation struct {
	ModuleID     string
	Timestamp    time.Time      // when the document was made, in UTC
	PCRs         map[int][]byte // 0…31, of an enclave; nil for a NitroTPM
	NitroTPMPCRs map[int][]byte // 0…23, of a NitroTPM; nil for an enclave
	PublicKey    *rsa.PublicKey // 2048 to 4096 bits; nil if the document has none
	UserData     []byte         // nil if the document has none
	Nonce        []byte         // nil if the document has none
}

// ImageSHA384 is the digest of the enclave's image, which is its PCR0, in lower-case
// hexadecimal digits; "" for a document without it.
func (a *Attestation) ImageSHA384() string { return hex.EncodeToString(a.PCRs[0]) }

// Verify says what a document attests if it is true at the time now: well
// formed, signed by the key of its certificate, and certified by one of the
// roots; its timestamp at most [Verifier.MaxAge] old and at most [MaxSkew]
// ahead. The error is one of this package.
func (v *Verifier) Verify(document []byte, now time.Time) (*Attestation, error) {
	m, err := parseMessage(document)
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(m.Payload)
	if err != nil {
		return nil, err
	}
	a, err := c.attestation()
	if err != nil {
		return nil, err
	}
	if err := v.checkTimestamp(a.Timestamp, now); err != nil {
		return nil, err
	}
	signer, err := v.trust(c, now)
	if err != nil {
		return nil, err
	}
	if err := m.verify(signer); err != nil {
		return nil, err
	}
	return a, nil
}

func (v *Verifier) checkTimestamp(made, now time.Time) error {
	if made.After(now.Add(MaxSkew)) {
		return fmt.Errorf("%w: it was made at %s, more than %s from now", ErrTimestamp, made.Format(time.RFC3339), MaxSkew)
	}
	if made.Before(now.Add(-v.MaxAge)) {
		return fmt.Errorf("%w: it was made at %s, more than %s ago", ErrTimestamp, made.Format(time.RFC3339), v.MaxAge)
	}
	return nil
}
