//go:build cgo && unix

package pkcs11

import (
	"slices"

	p11 "github.com/miekg/pkcs11"
)

// Signing keys are RSA-2048, as those of AWS CloudHSM's cluster CSRs are.
const signingBits = 2048

// digestInfo is what precedes a SHA-256 digest in a signature of PKCS#1 v1.5: the DER of a
// DigestInfo up to its octets (RFC 8017, section 9.2). CKM_RSA_PKCS leaves it to the caller.
var digestInfo = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

func makeSigning(_ *engine, s *session, m *message) (message, error) {
	public := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_LABEL, m.blob(0)),
		p11.NewAttribute(p11.CKA_MODULUS_BITS, signingBits),
		p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		p11.NewAttribute(p11.CKA_VERIFY, true),
		p11.NewAttribute(p11.CKA_ENCRYPT, false),
		p11.NewAttribute(p11.CKA_WRAP, false),
	}
	private := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_LABEL, m.blob(0)),
		p11.NewAttribute(p11.CKA_SENSITIVE, true),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
		p11.NewAttribute(p11.CKA_SIGN, true),
		p11.NewAttribute(p11.CKA_DECRYPT, false),
		p11.NewAttribute(p11.CKA_UNWRAP, false),
	}
	_, key, err := s.ctx.GenerateKeyPair(s.sh(), mechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), public, private)
	if err != nil {
		return message{}, rvError("C_GenerateKeyPair", err)
	}
	return s.describeSigning(key)
}

func findSigning(_ *engine, s *session, m *message) (message, error) {
	found, err := s.find([]*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_RSA),
		p11.NewAttribute(p11.CKA_SIGN, true),
		p11.NewAttribute(p11.CKA_LABEL, m.blob(0)),
	})
	if err != nil {
		return message{}, err
	}
	return s.describeSigning(found...)
}

// describeSigning gives private keys with their public halves, of which every private RSA key knows.
func (s *session) describeSigning(keys ...p11.ObjectHandle) (message, error) {
	answer := objects(keys...)
	for _, key := range keys {
		v, err := s.values(key, p11.CKA_MODULUS, p11.CKA_PUBLIC_EXPONENT)
		if err != nil {
			return message{}, err
		}
		answer.blobs = append(answer.blobs, v...)
	}
	return answer, nil
}

func sign(_ *engine, s *session, m *message) (message, error) {
	if err := s.ctx.SignInit(s.sh(), mechanism(p11.CKM_RSA_PKCS, nil), m.object(0)); err != nil {
		return message{}, rvError("C_SignInit", err)
	}
	signature, err := s.ctx.Sign(s.sh(), slices.Concat(digestInfo, m.blob(0)))
	if err != nil {
		return message{}, rvError("C_Sign", err)
	}
	return message{blobs: [][]byte{signature}}, nil
}
