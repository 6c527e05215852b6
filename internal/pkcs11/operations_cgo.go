//go:build cgo && unix

package pkcs11

import (
	"crypto/rand"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// operation is what the engine does for a code.
type operation struct {
	run            func(e *engine, s *session, m *message) (message, error)
	idempotent     bool // may be repeated on another session
	control        bool // needs the control session
	sessionObjects bool // makes objects that end with their session
	private        bool // would answer without a login, but not with the user's objects
	patience       int  // multiples of Config.CallTimeout; zero means 1
}

// keyPairPatience: making RSA keys takes hardware many seconds.
const keyPairPatience = 12

var operations = [opCount]operation{
	opInfo:            {run: opInfoRun, idempotent: true},
	opLogin:           {run: login, control: true},
	opLogout:          {run: logout, control: true},
	opSetPIN:          {run: setPIN, control: true},
	opRandom:          {run: random, idempotent: true},
	opGenerateKey:     {run: generateKey},
	opGenerateSession: {run: generateKey, control: true, sessionObjects: true},
	opFind:            {run: find, idempotent: true, private: true},
	opList:            {run: list, idempotent: true, private: true, patience: keyPairPatience},
	opAttributes:      {run: attributes, idempotent: true},
	// A handle of an earlier login must not destroy what has its number now:
	// on the control session no logout comes between.
	opDestroy:         {run: destroy, control: true},
	opEncrypt:         {run: encrypt, idempotent: true},
	opDecrypt:         {run: decrypt, idempotent: true},
	opWrap:            {run: wrap, idempotent: true},
	opUnwrap:          {run: unwrap},
	opUnwrapSession:   {run: unwrap, control: true, sessionObjects: true},
	opMakeTransport:   {run: makeTransport, control: true, sessionObjects: true, patience: keyPairPatience},
	opWrapTransport:   {run: wrapTransport, idempotent: true},
	opUnwrapTransport: {run: unwrapTransport, control: true, sessionObjects: true},
	opMarkTrusted:     {run: markTrusted},
	opDestroyAll:      {run: destroyAll, patience: keyPairPatience},
	opMakeSigning:     {run: makeSigning, patience: keyPairPatience},
	opFindSigning:     {run: findSigning, idempotent: true, private: true},
	opSign:            {run: sign, idempotent: true},
	opReadValue:       {run: readValue, idempotent: true},
	opWrapWith:        {run: wrapOnly, idempotent: true},
}

func opInfoRun(e *engine, _ *session, _ *message) (message, error) {
	info, err := e.pool.module.tokenInfo(e.pool.slot)
	if err != nil {
		return message{}, err
	}
	return info.message(), nil
}

// checkUser fails when the module says that the user is not logged in.
func (s *session) checkUser() error {
	info, err := s.ctx.GetSessionInfo(s.sh())
	switch err = rvError("C_GetSessionInfo", err); {
	case isRV(err, CKR_FUNCTION_NOT_SUPPORTED):
		return nil
	case err != nil:
		return err
	case info.State == p11.CKS_RO_PUBLIC_SESSION, info.State == p11.CKS_RW_PUBLIC_SESSION:
		return &Error{Function: "C_GetSessionInfo", RV: CKR_USER_NOT_LOGGED_IN}
	}
	return nil
}

func (s *session) sh() p11.SessionHandle { return p11.SessionHandle(s.handle) }

func login(_ *engine, s *session, m *message) (message, error) {
	return message{}, rvError("C_Login", s.ctx.Login(s.sh(), p11.CKU_USER, string(m.blob(0))))
}

func logout(e *engine, s *session, _ *message) (message, error) {
	e.epoch.Add(1)
	err := rvError("C_Logout", s.ctx.Logout(s.sh()))
	e.pool.drain()
	if isRV(err, CKR_USER_NOT_LOGGED_IN) {
		err = nil
	}
	return message{}, err
}

func setPIN(_ *engine, s *session, m *message) (message, error) {
	return message{}, rvError("C_SetPIN", s.ctx.SetPIN(s.sh(), string(m.blob(0)), string(m.blob(1))))
}

func random(_ *engine, s *session, m *message) (message, error) {
	b, err := s.ctx.GenerateRandom(s.sh(), int(m.number(0)))
	if err != nil {
		return message{}, rvError("C_GenerateRandom", err)
	}
	return message{blobs: [][]byte{b}}, nil
}

func encrypt(e *engine, s *session, m *message) (message, error) {
	iv, err := e.freshIV(s)
	if err != nil {
		return message{}, err
	}
	plaintext := m.blob(0)
	out, err := s.functions.encryptGCM(s.handle, uint(m.number(0)), iv, m.blob(1), plaintext)
	if err != nil {
		return message{}, err
	}
	n := len(plaintext) + gcmTagSize
	if e.iv == IVInOutput {
		if len(out) < n || !validIV(out[n:]) {
			return message{}, fmt.Errorf("pkcs11: the module does not append an IV as configured")
		}
		return message{blobs: [][]byte{out[n:], out[:n]}}, nil
	}
	if e.iv == IVByModule && isZero(iv) {
		return message{}, fmt.Errorf("pkcs11: the module does not make an IV as configured")
	}
	if len(out) != n {
		return message{}, fmt.Errorf("pkcs11: C_Encrypt gave %d bytes for %d", len(out), len(plaintext))
	}
	return message{blobs: [][]byte{iv, out}}, nil
}

func decrypt(_ *engine, s *session, m *message) (message, error) {
	plaintext, err := s.functions.decryptGCM(s.handle, uint(m.number(0)), m.blob(0), m.blob(2), m.blob(1))
	if err != nil {
		return message{}, err
	}
	return message{blobs: [][]byte{plaintext}}, nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// freshIV gives what goes in as the IV of an encryption.
func (e *engine) freshIV(s *session) ([]byte, error) {
	switch e.iv {
	case IVInOutput:
		return nil, nil
	case IVByModule:
		return make([]byte, gcmIVSize), nil
	case IVFromTokenRNG:
		iv, err := s.ctx.GenerateRandom(s.sh(), gcmIVSize)
		return iv, rvError("C_GenerateRandom", err)
	}
	iv := make([]byte, gcmIVSize)
	_, _ = rand.Read(iv) // never fails
	return iv, nil
}
