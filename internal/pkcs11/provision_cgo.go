//go:build cgo && unix

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"kastellan.dev/internal/secret"
)

// InitToken initialises a token and its user PIN in a child process of its own, and
// describes the result; its Serial makes a URI that names just this token. What was in
// the slot before is lost. The SlotID is not to be relied on: SoftHSM2 moves a
// token to another slot when it is initialised.
func InitToken(ctx context.Context, cfg ProvisionConfig) (TokenInfo, error) {
	if err := cfg.check(); err != nil {
		return TokenInfo{}, err
	}
	question := cfg.message()
	defer question.wipe()
	answer, err := askOnce(ctx, Config{URI: URI{ModulePath: cfg.ModulePath}, Env: cfg.Env}, true, &question)
	if err != nil {
		return TokenInfo{}, err
	}
	return infoOf(&answer), nil
}

// ReinitToken initialises the token that the configuration describes once more, in a child process
// of its own: C_InitToken with the security officer's PIN, which the token keeps, and C_InitPIN
// unless the user's PIN is empty. All of its objects are lost. The label, of 1 to 32
// bytes, replaces the old one, and a URI that names that no longer describes the token.
func ReinitToken(ctx context.Context, cfg Config, label string, soPIN, userPIN secret.Text) (TokenInfo, error) {
	if err := cfg.check(); err != nil {
		return TokenInfo{}, err
	}
	if err := checkInit(label, soPIN); err != nil {
		return TokenInfo{}, err
	}
	question := message{
		code:  opReinitToken,
		blobs: [][]byte{[]byte(label), []byte(soPIN.Reveal()), []byte(userPIN.Reveal()), []byte(cfg.URI.String())},
	}
	defer question.wipe()
	answer, err := askOnce(ctx, cfg, true, &question)
	if err != nil {
		return TokenInfo{}, err
	}
	return infoOf(&answer), nil
}

// DestroyObjects destroys all objects of the token that its user sees, in a child process of its
// own, and tells how many there were. One that cannot be destroyed is an error.
func DestroyObjects(ctx context.Context, cfg Config, pin secret.Text) (int, error) {
	if err := cfg.check(); err != nil {
		return 0, err
	}
	return askAll(ctx, cfg, pin, false)
}

// CountObjects tells how many objects of the token its user sees, in a child process of its own.
func CountObjects(ctx context.Context, cfg Config, pin secret.Text) (int, error) {
	if err := cfg.check(); err != nil {
		return 0, err
	}
	return askAll(ctx, cfg, pin, true)
}

func askAll(ctx context.Context, cfg Config, pin secret.Text, countOnly bool) (int, error) {
	question := message{code: opDestroyAll, numbers: []uint64{bits(countOnly)}, blobs: [][]byte{[]byte(pin.Reveal())}}
	defer question.wipe()
	answer, err := askOnce(ctx, cfg, false, &question)
	return int(answer.number(0)), err
}

// MarkTrusted sets CKA_TRUSTED on the secret keys with the label, as the
// security officer, in a child process of its own. That there is none is an error.
func MarkTrusted(ctx context.Context, cfg Config, soPIN secret.Text, label string) error {
	if err := cfg.check(); err != nil {
		return err
	}
	question := message{code: opMarkTrusted, blobs: [][]byte{[]byte(soPIN.Reveal()), []byte(label)}}
	defer question.wipe()
	answer, err := askOnce(ctx, cfg, false, &question)
	if err == nil && answer.number(0) == 0 {
		return errors.New("pkcs11: the security officer sees no key with this label")
	}
	return err
}

// askOnce starts a child for one question.
func askOnce(ctx context.Context, cfg Config, bare bool, question *message) (message, error) {
	c, err := startChild(ctx, cfg, bare, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		return message{}, err
	}
	defer c.stop()
	return c.ask(ctx, question)
}

// initToken does C_InitToken, and C_InitPIN if there is a user PIN.
func (m *module) initToken(q *message) (message, error) {
	slot := uint(q.number(1))
	var free bool
	if spread(q.number(0), &free); free {
		var err error
		if slot, err = m.freeSlot(); err != nil {
			return message{}, err
		}
	}
	return m.initSlot(slot, q)
}

// reinitToken does the same to the token that a URI describes.
func (m *module) reinitToken(q *message) (message, error) {
	u, err := ParseURI(string(q.blob(3)))
	if err != nil {
		return message{}, err
	}
	slot, err := m.findSlot(u)
	if err != nil {
		return message{}, err
	}
	return m.initSlot(slot, q)
}

func (m *module) initSlot(slot uint, q *message) (message, error) {
	label, soPIN, userPIN := string(q.blob(0)), string(q.blob(1)), string(q.blob(2))
	if err := m.ctx.InitToken(slot, soPIN, label); err != nil {
		return message{}, rvError("C_InitToken", err)
	}
	if userPIN != "" {
		if err := m.initPIN(slot, soPIN, userPIN); err != nil {
			return message{}, err
		}
	}
	info, err := m.tokenInfo(slot)
	return info.message(), err
}

func (m *module) initPIN(slot uint, soPIN, userPIN string) error {
	session, err := m.ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return rvError("C_OpenSession", err)
	}
	defer m.ctx.CloseSession(session)
	if err := m.ctx.Login(session, p11.CKU_SO, soPIN); err != nil {
		return rvError("C_Login", err)
	}
	err = rvError("C_InitPIN", m.ctx.InitPIN(session, userPIN))
	return errors.Join(err, rvError("C_Logout", m.ctx.Logout(session)))
}

func (m *module) freeSlot() (uint, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return 0, rvError("C_GetSlotList", err)
	}
	for _, slot := range slots {
		info, err := m.tokenInfo(slot)
		if err == nil && info.Flags&CKF_TOKEN_INITIALIZED == 0 {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("%w: no slot is free", ErrNoToken)
}

// destroyAll logs the user in and destroys whatever can be found then, unless that is to be counted only.
func destroyAll(_ *engine, s *session, m *message) (_ message, err error) {
	if err := s.ctx.Login(s.sh(), p11.CKU_USER, string(m.blob(0))); err != nil {
		return message{}, rvError("C_Login", err)
	}
	defer func() { err = errors.Join(err, rvError("C_Logout", s.ctx.Logout(s.sh()))) }()
	found, err := s.storage()
	var countOnly bool
	if spread(m.number(0), &countOnly); err != nil || countOnly {
		return message{numbers: []uint64{uint64(len(found))}}, err
	}
	for _, object := range found {
		if err := s.ctx.DestroyObject(s.sh(), object); err != nil {
			return message{}, rvError("C_DestroyObject", err)
		}
	}
	left, err := s.storage()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("pkcs11: %d objects are left", len(left))
	}
	return message{numbers: []uint64{uint64(len(found))}}, err
}

// storage gives all objects that are stored, and not those by which a token describes itself.
func (s *session) storage() ([]p11.ObjectHandle, error) {
	found, err := s.find(nil)
	if err != nil {
		return nil, err
	}
	var stored []p11.ObjectHandle
	for _, object := range found {
		v, err := s.values(object, p11.CKA_CLASS)
		if err != nil {
			return nil, err
		}
		if class := uint(ulong(v[0])); !slices.Contains([]uint{p11.CKO_HW_FEATURE, p11.CKO_MECHANISM, classProfile}, class) {
			stored = append(stored, object)
		}
	}
	return stored, nil
}

// classProfile is CKO_PROFILE of PKCS#11 v3.0.
const classProfile = 0x9
