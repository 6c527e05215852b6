//go:build cgo && unix

package pkcs11

import (
	"encoding/binary"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

const aesKeySize = 32

// findBatch is how many handles one C_FindObjects asks for.
const findBatch = 256

func secretKeyTemplate(t Template) []*p11.Attribute {
	attributes := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_TOKEN, t.Token),
		p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, true),
		p11.NewAttribute(p11.CKA_LABEL, t.Label),
		p11.NewAttribute(p11.CKA_ENCRYPT, t.Encrypt),
		p11.NewAttribute(p11.CKA_DECRYPT, t.Encrypt),
		p11.NewAttribute(p11.CKA_WRAP, t.Wrap),
		p11.NewAttribute(p11.CKA_UNWRAP, t.Wrap),
		p11.NewAttribute(p11.CKA_SIGN, false),
		p11.NewAttribute(p11.CKA_VERIFY, false),
		p11.NewAttribute(p11.CKA_DERIVE, false),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, t.Extractable),
	}
	if t.WrapWithTrusted {
		attributes = append(attributes, p11.NewAttribute(p11.CKA_WRAP_WITH_TRUSTED, true))
	}
	if len(t.ID) > 0 {
		attributes = append(attributes, p11.NewAttribute(p11.CKA_ID, t.ID))
	}
	return attributes
}

func mechanism(kind uint, parameter any) []*p11.Mechanism {
	return []*p11.Mechanism{p11.NewMechanism(kind, parameter)}
}

func objects(handles ...p11.ObjectHandle) message {
	numbers := make([]uint64, len(handles))
	for i, h := range handles {
		numbers[i] = uint64(h)
	}
	return message{numbers: numbers}
}

func (m *message) object(i int) p11.ObjectHandle { return p11.ObjectHandle(m.number(i)) }

func generateKey(_ *engine, s *session, m *message) (message, error) {
	template := append(secretKeyTemplate(templateOf(m.number(0), m.blob(0), m.blob(1))),
		p11.NewAttribute(p11.CKA_VALUE_LEN, aesKeySize))
	key, err := s.ctx.GenerateKey(s.sh(), mechanism(p11.CKM_AES_KEY_GEN, nil), template)
	if err != nil {
		return message{}, rvError("C_GenerateKey", err)
	}
	return objects(key), nil
}

func destroy(_ *engine, s *session, m *message) (message, error) {
	return message{}, rvError("C_DestroyObject", s.ctx.DestroyObject(s.sh(), m.object(0)))
}

func find(_ *engine, s *session, m *message) (message, error) {
	template := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_LABEL, m.blob(0)),
	}
	if m.number(0) != 0 {
		template = append(template, p11.NewAttribute(p11.CKA_ID, m.blob(1)))
	}
	found, err := s.find(template)
	if err != nil {
		return message{}, err
	}
	return objects(found...), nil
}

// find gives all objects that match.
func (s *session) find(template []*p11.Attribute) ([]p11.ObjectHandle, error) {
	if err := s.ctx.FindObjectsInit(s.sh(), template); err != nil {
		return nil, rvError("C_FindObjectsInit", err)
	}
	var found []p11.ObjectHandle
	for {
		batch, _, err := s.ctx.FindObjects(s.sh(), findBatch)
		if err != nil {
			return nil, rvError("C_FindObjects", err)
		}
		if len(batch) == 0 {
			break
		}
		found = append(found, batch...)
	}
	return found, rvError("C_FindObjectsFinal", s.ctx.FindObjectsFinal(s.sh()))
}

func list(_ *engine, s *session, _ *message) (message, error) {
	found, err := s.find([]*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY)})
	if err != nil {
		return message{}, err
	}
	answer := objects()
	for _, object := range found {
		values, err := s.values(object, p11.CKA_LABEL, p11.CKA_ID)
		if isRV(err, CKR_OBJECT_HANDLE_INVALID) {
			continue // destroyed meanwhile
		}
		if err != nil {
			return message{}, err
		}
		answer.numbers = append(answer.numbers, uint64(object))
		answer.blobs = append(answer.blobs, values[0], values[1])
	}
	if !answer.fits() {
		return message{}, fmt.Errorf("pkcs11: the token has too many keys to list: %d", len(found))
	}
	return answer, nil
}

// values reads attributes; those that the object does not have are nil.
func (s *session) values(object p11.ObjectHandle, types ...uint) ([][]byte, error) {
	wanted := make([]*p11.Attribute, len(types))
	for i, t := range types {
		wanted[i] = p11.NewAttribute(t, nil)
	}
	have, err := s.ctx.GetAttributeValue(s.sh(), object, wanted)
	if err != nil && len(types) > 1 && isRV(rvError("", err), CKR_ATTRIBUTE_TYPE_INVALID) {
		return s.valuesOneByOne(object, types)
	}
	if err != nil {
		return nil, rvError("C_GetAttributeValue", err)
	}
	values := make([][]byte, len(types))
	for i, a := range have {
		values[i] = a.Value
	}
	return values, nil
}

// valuesOneByOne is for modules that refuse all because of one.
func (s *session) valuesOneByOne(object p11.ObjectHandle, types []uint) ([][]byte, error) {
	values := make([][]byte, len(types))
	for i, t := range types {
		one, err := s.values(object, t)
		if isRV(err, CKR_ATTRIBUTE_TYPE_INVALID) {
			continue
		}
		if err != nil {
			return nil, err
		}
		values[i] = one[0]
	}
	return values, nil
}

func attributes(_ *engine, s *session, m *message) (message, error) {
	v, err := s.values(m.object(0), p11.CKA_LABEL, p11.CKA_ID, p11.CKA_KEY_TYPE, p11.CKA_VALUE_LEN,
		p11.CKA_SENSITIVE, p11.CKA_EXTRACTABLE, p11.CKA_NEVER_EXTRACTABLE, p11.CKA_LOCAL,
		p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_TRUSTED, p11.CKA_WRAP_WITH_TRUSTED)
	if err != nil {
		return message{}, err
	}
	a := Attributes{
		Label: string(v[0]), ID: v[1], KeyType: uint(ulong(v[2])), ValueLen: int(ulong(v[3])),
		Sensitive: truth(v[4]), Extractable: truth(v[5]), NeverExtractable: truth(v[6]), Local: truth(v[7]),
		Encrypt: truth(v[8]), Decrypt: truth(v[9]), Wrap: truth(v[10]), Unwrap: truth(v[11]),
		Trusted: truth(v[12]), WrapWithTrusted: truth(v[13]),
	}
	return a.message(), nil
}

// ulong reads a CK_ULONG: the machine's byte order and size.
func ulong(b []byte) uint64 {
	switch len(b) {
	case 4:
		return uint64(binary.NativeEndian.Uint32(b))
	case 8:
		return binary.NativeEndian.Uint64(b)
	}
	return 0
}

// truth reads a CK_BBOOL.
func truth(b []byte) bool { return len(b) == 1 && b[0] != 0 }

func markTrusted(_ *engine, s *session, m *message) (_ message, err error) {
	if err := s.ctx.Login(s.sh(), p11.CKU_SO, string(m.blob(0))); err != nil {
		return message{}, rvError("C_Login", err)
	}
	defer func() { err = errors.Join(err, rvError("C_Logout", s.ctx.Logout(s.sh()))) }()
	found, err := s.find([]*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_LABEL, m.blob(1)),
	})
	if err != nil {
		return message{}, err
	}
	for _, key := range found {
		trusted := []*p11.Attribute{p11.NewAttribute(p11.CKA_TRUSTED, true)}
		if err := s.ctx.SetAttributeValue(s.sh(), key, trusted); err != nil {
			return message{}, rvError("C_SetAttributeValue", err)
		}
	}
	return message{numbers: []uint64{uint64(len(found))}}, nil
}
