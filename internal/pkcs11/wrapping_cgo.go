//go:build cgo && unix

package pkcs11

import (
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"
)

// A wrapped key begins with a byte that names the mechanism, since the module that
// unwraps may prefer another one than the module that wrapped:
//
//	0x01  CKM_AES_KEY_WRAP
//	0x02  CKM_AES_KEY_WRAP_PAD
//	0x11  CKM_RSA_PKCS_OAEP, SHA-1 and MGF1 with SHA-1
//	0x12  CKM_RSA_PKCS_OAEP, SHA-256 and MGF1 with SHA-256
const (
	wrapAES        = 0x01
	wrapAESPad     = 0x02
	wrapOAEPSHA1   = 0x11
	wrapOAEPSHA256 = 0x12
)

// wrappedKeySize is how long AES key wrap, with padding or without, makes an AES-256 key.
const wrappedKeySize = aesKeySize + 8

// Transport keys are RSA-3072 with the exponent 65537.
const transportBits = 3072

var errWrapping = errors.New("pkcs11: the wrapped key names no known mechanism")

func wrapMechanism(kind byte) ([]*p11.Mechanism, error) {
	switch kind {
	case wrapAES:
		return mechanism(p11.CKM_AES_KEY_WRAP, nil), nil
	case wrapAESPad:
		return mechanism(p11.CKM_AES_KEY_WRAP_PAD, nil), nil
	case wrapOAEPSHA1:
		return mechanism(p11.CKM_RSA_PKCS_OAEP, p11.NewOAEPParams(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, p11.CKZ_DATA_SPECIFIED, nil)), nil
	case wrapOAEPSHA256:
		return mechanism(p11.CKM_RSA_PKCS_OAEP, p11.NewOAEPParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, p11.CKZ_DATA_SPECIFIED, nil)), nil
	}
	return nil, errWrapping
}

// isUnsupported tells that a module refused a mechanism or its parameters.
func isUnsupported(err error) bool {
	return isRV(err, CKR_MECHANISM_INVALID) || isRV(err, CKR_MECHANISM_PARAM_INVALID) || isRV(err, CKR_ARGUMENTS_BAD)
}

// wrapWith wraps with the first of the kinds that the module accepts.
func (s *session) wrapWith(wrapping, key p11.ObjectHandle, kinds ...byte) (message, error) {
	var last error
	for _, kind := range kinds {
		m, err := wrapMechanism(kind)
		if err != nil {
			return message{}, err
		}
		wrapped, err := s.ctx.WrapKey(s.sh(), m, wrapping, key)
		if err == nil {
			return message{blobs: [][]byte{append([]byte{kind}, wrapped...)}}, nil
		}
		if last = rvError("C_WrapKey", err); !isUnsupported(last) {
			break
		}
	}
	return message{}, last
}

// unwrapWith undoes wrapWith; only the kinds are acceptable.
func (s *session) unwrapWith(with p11.ObjectHandle, m *message, kinds ...byte) (message, error) {
	wrapped := m.blob(0)
	if len(wrapped) < 2 || !slices.Contains(kinds, wrapped[0]) {
		return message{}, errWrapping
	}
	if (wrapped[0] == wrapAES || wrapped[0] == wrapAESPad) && len(wrapped)-1 != wrappedKeySize {
		return message{}, fmt.Errorf("pkcs11: the wrapped key has %d bytes, not %d", len(wrapped)-1, wrappedKeySize)
	}
	mech, err := wrapMechanism(wrapped[0])
	if err != nil {
		return message{}, err
	}
	template := secretKeyTemplate(templateOf(m.number(1), m.blob(1), m.blob(2)))
	key, err := s.ctx.UnwrapKey(s.sh(), mech, with, wrapped[1:], template)
	if err != nil {
		return message{}, rvError("C_UnwrapKey", err)
	}
	return s.checkUnwrapped(key)
}

// checkUnwrapped destroys a key that turned out not to be AES-256. SoftHSM2
// does not know how long a key is that it unwrapped, and says 0; AES key wrap has
// told the length before, and RSA-OAEP is used between members of one cluster only.
func (s *session) checkUnwrapped(key p11.ObjectHandle) (message, error) {
	v, err := s.values(key, p11.CKA_VALUE_LEN)
	if err == nil && (ulong(v[0]) == aesKeySize || ulong(v[0]) == 0) {
		return objects(key), nil
	}
	if err == nil {
		err = fmt.Errorf("pkcs11: the unwrapped key has %d bytes", ulong(v[0]))
	}
	return message{}, errors.Join(err, rvError("C_DestroyObject", s.ctx.DestroyObject(s.sh(), key)))
}

func wrap(e *engine, s *session, m *message) (message, error) {
	return s.wrapWith(m.object(0), m.object(1), wrapAESPad, wrapAES)
}

func unwrap(_ *engine, s *session, m *message) (message, error) {
	return s.unwrapWith(m.object(0), m, wrapAESPad, wrapAES)
}

func makeTransport(_ *engine, s *session, _ *message) (message, error) {
	public := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, false),
		p11.NewAttribute(p11.CKA_MODULUS_BITS, transportBits),
		p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		p11.NewAttribute(p11.CKA_WRAP, true),
		p11.NewAttribute(p11.CKA_ENCRYPT, false),
		p11.NewAttribute(p11.CKA_VERIFY, false),
	}
	private := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, false),
		p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, true),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
		p11.NewAttribute(p11.CKA_UNWRAP, true),
		p11.NewAttribute(p11.CKA_DECRYPT, false),
		p11.NewAttribute(p11.CKA_SIGN, false),
	}
	pub, priv, err := s.ctx.GenerateKeyPair(s.sh(), mechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), public, private)
	if err != nil {
		return message{}, rvError("C_GenerateKeyPair", err)
	}
	v, err := s.values(pub, p11.CKA_MODULUS, p11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return message{}, err
	}
	answer := objects(priv, pub)
	answer.numbers = append(answer.numbers, bits(!s.unwrapsSHA256(priv)))
	answer.blobs = v
	return answer, nil
}

// unwrapsSHA256 finds out whether the module takes SHA-256 in OAEP: it gets
// something that cannot be unwrapped, and may complain about that, but not about the mechanism.
func (s *session) unwrapsSHA256(private p11.ObjectHandle) bool {
	m, err := wrapMechanism(wrapOAEPSHA256)
	if err != nil {
		return false
	}
	garbage := make([]byte, transportBits/8)
	garbage[len(garbage)-1] = 2
	_, err = s.ctx.UnwrapKey(s.sh(), m, private, garbage, secretKeyTemplate(Template{}))
	return !isUnsupported(rvError("C_UnwrapKey", err))
}

func wrapTransport(_ *engine, s *session, m *message) (_ message, err error) {
	public, err := s.ctx.CreateObject(s.sh(), []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_RSA),
		p11.NewAttribute(p11.CKA_TOKEN, false),
		p11.NewAttribute(p11.CKA_WRAP, true),
		p11.NewAttribute(p11.CKA_MODULUS, m.blob(0)),
		p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, m.blob(1)),
	})
	if err != nil {
		return message{}, rvError("C_CreateObject", err)
	}
	defer func() { err = errors.Join(err, rvError("C_DestroyObject", s.ctx.DestroyObject(s.sh(), public))) }()
	if m.number(1) != 0 {
		return s.wrapWith(public, m.object(0), wrapOAEPSHA1)
	}
	return s.wrapWith(public, m.object(0), wrapOAEPSHA256, wrapOAEPSHA1)
}

func unwrapTransport(_ *engine, s *session, m *message) (message, error) {
	return s.unwrapWith(m.object(0), m, wrapOAEPSHA256, wrapOAEPSHA1)
}
