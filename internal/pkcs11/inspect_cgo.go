//go:build cgo && unix

package pkcs11

import (
	p11 "github.com/miekg/pkcs11"
)

// readValue answers with the length of the value, and keeps the value.
func readValue(_ *engine, s *session, m *message) (message, error) {
	v, err := s.values(m.object(0), p11.CKA_VALUE)
	if err != nil {
		return message{}, err
	}
	length := len(v[0])
	clear(v[0])
	return message{numbers: []uint64{uint64(length)}}, nil
}

func wrapOnly(_ *engine, s *session, m *message) (message, error) {
	wrapped, err := s.ctx.WrapKey(s.sh(), mechanism(uint(m.number(2)), nil), m.object(0), m.object(1))
	clear(wrapped)
	return message{}, rvError("C_WrapKey", err)
}
