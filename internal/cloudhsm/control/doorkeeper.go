package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

// doorkeeper lets crypto users of a cluster in at its HSMs.
type doorkeeper struct {
	s     *Service
	users string // the storage key of the cluster's users
}

var _ rack.Doorkeeper = (*doorkeeper)(nil)

// Enter implements rack.Doorkeeper.
func (d *doorkeeper) Enter(ctx context.Context, hsm, holder string, pin secret.Text) (leave func(), err error) {
	name, password, err := splitPIN(pin)
	if err != nil {
		return nil, rvOf("C_Login", err)
	}
	enter := func() (func(), error) {
		leave, err = d.s.sessions.enter(d.users, name, holder)
		return leave, err
	}
	if err := d.s.verify(ctx, d.users, name, cloudhsmapi.RoleCryptoUser, password, enter, hsm); err != nil {
		return nil, loginError("C_Login", err)
	}
	return leave, nil
}

// SetPIN implements rack.Doorkeeper. That the user has the new password already, since another HSM of
// the cluster was told before, is no error.
func (d *doorkeeper) SetPIN(ctx context.Context, hsm string, old, new secret.Text) error {
	name, before, err := splitPIN(old)
	if err != nil {
		return rvOf("C_SetPIN", err)
	}
	other, after, err := splitPIN(new)
	if err != nil || other != name {
		return rvOf("C_SetPIN", errBadPIN)
	}
	if table, err := d.s.loadUsers(ctx, d.users); err == nil && table.try(name, cloudhsmapi.RoleCryptoUser, after).Right {
		return nil
	}
	if err := d.s.verify(ctx, d.users, name, cloudhsmapi.RoleCryptoUser, before, nil, hsm); err != nil {
		return loginError("C_SetPIN", err)
	}
	if err := d.s.setPassword(ctx, d.users, name, cloudhsmapi.RoleCryptoUser, after); err != nil {
		return loginError("C_SetPIN", err)
	}
	return nil
}

// loginError is what a function of PKCS#11 returns; what is no matter of users stays what it is.
func loginError(function string, err error) error {
	var of *userError
	if errors.As(err, &of) {
		return rvOf(function, err)
	}
	return err
}

// verify compares a password with that of a user and counts the attempt on HSMs. The
// comparison takes its time, and is done outside of the transaction; so it is done again
// when the password was set meanwhile. A session is taken by enter, if that is not nil, before the attempt counts, and
// given back if it is refused: so no session outlives a change of the password.
func (s *Service) verify(ctx context.Context, users, name string, role cloudhsmapi.UserRole, password secret.Text, enter func() (leave func(), err error), hsms ...string) error {
	for {
		table, err := s.loadUsers(ctx, users)
		if err != nil {
			return err
		}
		a := table.try(name, role, password)
		leave, full := func() {}, error(nil)
		if a.Right && enter != nil {
			if leave, full = enter(); full != nil {
				leave = func() {}
			}
		}
		verdict, err := s.settle(ctx, users, a, hsms)
		if err == nil && verdict == nil {
			return full
		}
		leave()
		if err != nil {
			return err
		}
		if !errors.Is(verdict, errUserChanged) {
			return verdict
		}
	}
}

// settle counts an attempt in a transaction. err is that of the store.
func (s *Service) settle(ctx context.Context, users string, a attempt, hsms []string) (verdict, err error) {
	err = s.changeUsers(ctx, users, func(_ store.Tx, t *userTable) (write bool, _ error) {
		write, verdict = t.settle(a, hsms...)
		return write, nil
	})
	return verdict, err
}

// setPassword gives a user another password and ends its interactive sessions.
func (s *Service) setPassword(ctx context.Context, users, name string, role cloudhsmapi.UserRole, password secret.Text) error {
	table, err := s.loadUsers(ctx, users)
	if err != nil {
		return err
	}
	to, err := table.newUser(name, role, password)
	if err != nil {
		return err
	}
	err = s.changeUsers(ctx, users, func(_ store.Tx, t *userTable) (bool, error) { return true, t.changePassword(to) })
	if err == nil {
		s.fault("password set")
		s.sessions.endUser(users, name, role)
	}
	return err
}

// loadUsers gives the users of a cluster as they are now.
func (s *Service) loadUsers(ctx context.Context, at string) (table userTable, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		table, err = s.readUsers(r, at)
		return err
	})
	return table, err
}

func (s *Service) readUsers(r store.Reader, at string) (userTable, error) {
	table := userTable{Rounds: s.rounds}
	sealed, ok, err := r.Get(at)
	if err != nil || !ok {
		return table, err
	}
	text, err := s.sealer.Open(userPurpose, at, sealed)
	if err != nil {
		return table, fmt.Errorf("opening the users at %s: %w", at, err)
	}
	if err := json.Unmarshal(text, &table); err != nil {
		return table, fmt.Errorf("reading the users at %s failed", at) // the cause may quote them
	}
	table.Rounds = s.rounds
	return table, nil
}

// changeUsers changes the users of a cluster in one transaction, if fn says that they are to be written.
func (s *Service) changeUsers(ctx context.Context, at string, fn func(tx store.Tx, t *userTable) (write bool, err error)) error {
	_, err := s.db.Update(ctx, func(tx store.Tx) error {
		table, err := s.readUsers(tx, at)
		if err != nil {
			return err
		}
		write, err := fn(tx, &table)
		if err != nil || !write {
			return err
		}
		return s.writeUsers(tx, at, &table)
	})
	return err
}

func (s *Service) writeUsers(tx store.Tx, at string, table *userTable) error {
	text, err := json.Marshal(table)
	if err != nil {
		return errors.New("writing users failed")
	}
	sealed, err := s.sealer.Seal(userPurpose, at, text)
	if err != nil {
		return err
	}
	return tx.Put(at, sealed)
}
