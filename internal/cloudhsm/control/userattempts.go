package control

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"strings"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
)

const (
	usualRounds  = 210_000 // of PBKDF2 with HMAC-SHA-512
	saltSize     = 16      // bytes
	verifierSize = 32      // bytes
)

// verifier tells a password from others and does not give it away: PBKDF2 with
// HMAC-SHA-512.
type verifier struct {
	Salt   []byte `json:"salt"`
	Rounds int    `json:"rounds"`
	Hash   []byte `json:"hash"`
}

func newVerifier(password secret.Text, rounds int) (verifier, error) {
	v := verifier{Salt: make([]byte, saltSize), Rounds: rounds}
	_, _ = rand.Read(v.Salt) // never fails
	var err error
	v.Hash, err = v.hash(password)
	return v, err
}

func (v verifier) hash(password secret.Text) ([]byte, error) {
	return pbkdf2.Key(sha512.New, password.Reveal(), v.Salt, v.Rounds, verifierSize)
}

func (v verifier) matches(password secret.Text) bool {
	hash, err := v.hash(password)
	return err == nil && subtle.ConstantTimeCompare(hash, v.Hash) == 1
}

// attempt is what came of comparing a password with that of a user, before an HSM
// has its say.
type attempt struct {
	Name  string
	Role  cloudhsmapi.UserRole
	Right bool   // for the password that was set last when they were compared
	set   uint64 // which that was; 0: there was no such user
}

// try compares a password with a user's. That takes tens of milliseconds, also where there is no
// such user, so it is called on a copy of the table, and settle in the transaction that follows.
func (t userTable) try(name string, role cloudhsmapi.UserRole, password secret.Text) attempt {
	a := attempt{Name: name, Role: role}
	u := t.find(name, role)
	if u == nil {
		verifier{Salt: make([]byte, saltSize), Rounds: t.rounds()}.matches(password)
		return a
	}
	a.set = u.Set
	a.Right = u.Verifier.matches(password)
	return a
}

// settle counts an attempt on each of the HSMs, and tells whether the table has to
// be stored. The error is nil if one of the HSMs lets the user in. It is errNoUser,
// errWrongPassword, errUserLocked on all of the HSMs, errNoHSM without any, and
// errUserChanged if the password was set again since it was tried: the table is
// then as it was, and try has to be called again.
func (t *userTable) settle(a attempt, hsms ...string) (write bool, err error) {
	u := t.edit(a.Name, a.Role)
	switch {
	case len(hsms) == 0:
		return false, errNoHSM
	case u == nil:
		return false, errNoUser
	case u.Set != a.set:
		return false, errUserChanged
	}
	locked, in := 0, 0
	for _, hsm := range hsms {
		switch {
		case u.locked(hsm): // whether the password was right is not told
			locked++
		case a.Right:
			in++
			write = u.count(hsm, 0) || write
		default:
			write = u.count(hsm, u.Wrong[hsm]+1) || write
		}
	}
	switch {
	case in > 0:
		return write, nil
	case locked == len(hsms):
		return write, errUserLocked
	default:
		return write, errWrongPassword
	}
}

// splitPIN takes a PIN apart at the first colon.
func splitPIN(pin secret.Text) (name string, password secret.Text, err error) {
	name, rest, found := strings.Cut(pin.Reveal(), ":")
	if !found {
		return "", secret.Text{}, errBadPIN
	}
	return name, secret.NewText(rest), nil
}
