package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// maxWrong is how many wrong passwords one member is sent in a row: real HSMs lock
// the user at the fifth.
const maxWrong = 4

// flagFinalTry is CKF_USER_PIN_FINAL_TRY of CK_TOKEN_INFO: the next wrong PIN locks.
const flagFinalTry = 0x00020000

// login is one stay of the kmsuser at a member. It ends when the member is
// lost; the handles found during it end with it.
type login struct {
	*member
	stay
	password secret.Text // of the one that supervises or connects
	handles  sync.Map    // KMS key id → pkcs11.Handle
}

// logIn tries passwords until one is right. It keeps count of the wrong ones
// over all attempts, so that repeating them cannot lock the user.
func (m *member) logIn(ctx context.Context, token pkcs11.Token, candidates []secret.Text) (*login, error) {
	err := error(errNoPassword)
	for _, password := range candidates {
		if contains(m.refused, password) {
			continue
		}
		if err := m.mayTry(ctx, token); err != nil {
			return nil, err
		}
		err = token.Login(ctx, m.pin(password))
		if err == nil {
			m.refused = nil
			return &login{member: m, password: password, stay: stay{
				id: m.decl.ID, token: token, keyLabel: m.keyLabel, notes: m.log, objects: m.objects,
			}}, nil
		}
		if !isWrongPassword(err) {
			return nil, err
		}
		m.refused = append(m.refused, password)
	}
	return nil, err
}

// mayTry tells why another password must not be tried.
func (m *member) mayTry(ctx context.Context, token pkcs11.Token) error {
	if len(m.refused) == 0 {
		return nil
	}
	if len(m.refused) >= maxWrong {
		return errNoPassword
	}
	info, err := token.Info(ctx)
	if err != nil {
		return err
	}
	if info.Flags&flagFinalTry != 0 {
		return errFinalTry
	}
	return nil
}

func contains(list []secret.Text, text secret.Text) bool {
	for _, t := range list {
		if t.Equal(text) {
			return true
		}
	}
	return false
}

// changePassword makes the HSM know the user by another password. An HSM that
// does so already, because it was told through another member or by another process, is fine.
func (l *login) changePassword(ctx context.Context, to secret.Text) error {
	if l.password.Equal(to) {
		return nil
	}
	err := l.token.SetPIN(ctx, l.pin(l.password), l.pin(to))
	if hasRV(err, pkcs11.CKR_PIN_INCORRECT) { // not the one that was right before
		if again := l.logInWith(ctx, to); again != nil {
			return errors.Join(errNotLoggedIn, err, again)
		}
		err = nil
	}
	if err == nil {
		l.password = to
	}
	return err
}

func (l *login) logInWith(ctx context.Context, password secret.Text) error {
	if err := l.token.Logout(ctx); err != nil {
		return err
	}
	return l.token.Login(ctx, l.pin(password))
}

// confirm fails when the HSM has forgotten the login. It looks for a key that
// there is none of, which needs a login; logging in to find out could lock the
// user after its password was changed by others.
func (l *login) confirm(ctx context.Context) error {
	_, err := l.find(ctx, "kastellan login", nil)
	return err
}

// handle gives the object of a KMS key; data is what was kept with the key.
func (l *login) handle(ctx context.Context, id string, data []byte) (pkcs11.Handle, error) {
	if h, ok := l.handles.Load(id); ok {
		return h.(pkcs11.Handle), nil
	}
	m, err := parseMaterial(data)
	if err != nil {
		return pkcs11.Handle{}, err
	}
	h, err := l.locate(ctx, m)
	if err == nil {
		l.handles.Store(id, h)
	}
	return h, err
}

// locate finds the object of a KMS key that gives the known answer.
func (l *login) locate(ctx context.Context, m material) (pkcs11.Handle, error) {
	found, err := l.find(ctx, m.label, []byte(m.id))
	if err != nil {
		return pkcs11.Handle{}, fmt.Errorf("finding the key: %w", err)
	}
	for _, h := range found {
		switch err := l.answers(ctx, h, m); {
		case err == nil:
			return h, nil
		case isLost(err), isBusy(err), ctx.Err() != nil:
			return pkcs11.Handle{}, fmt.Errorf("testing the key: %w", err)
		default:
			l.log.Error("a key object has the label of a KMS key and is not that key", "key", m.label, "error", err)
		}
	}
	return pkcs11.Handle{}, errKeyMissing
}

// answers tells why a key object does not give the known answer.
func (l *login) answers(ctx context.Context, h pkcs11.Handle, m material) error {
	sealed, ok := parseBody(m.known)
	if !ok {
		return errMaterial
	}
	text, err := l.token.DecryptGCM(ctx, h, sealed, []byte(m.label))
	if err != nil {
		return err
	}
	if string(text) != string(knownText) {
		return errors.New("the known answer is another one")
	}
	return nil
}
