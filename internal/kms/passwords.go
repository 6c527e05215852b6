package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

// maxOlder is how many replaced passwords there may be while a further one is
// made: with the prepared and the current one they stay below the five wrong
// attempts that lock the kmsuser.
const maxOlder = 2

// errFenced tells a worker that the store's state has moved on without it.
var errFenced = errors.New("the key store's state was changed meanwhile")

// ledger implements keystore.Passwords on a store's record. It rotates only
// for the attempt to connect that it was made for.
type ledger struct {
	s          *Service
	account    string
	region     string
	id         string
	generation uint64
}

var _ keystore.Passwords = (*ledger)(nil)

func (s *Service) ledger(r *keyStoreRecord) *ledger {
	return &ledger{s: s, account: r.Account, region: r.Region, id: r.ID, generation: r.Generation}
}

// Candidates implements keystore.Passwords. A password that cannot be opened is left out.
func (l *ledger) Candidates() []secret.Text {
	rec := l.s.mirror.keyStore(l.account, l.region, l.id)
	if rec == nil || rec.HSM == nil {
		return nil
	}
	p := rec.HSM.Passwords
	var out []secret.Text
	for i, sealed := range slices.Concat([][]byte{p.Prepared, p.Current}, p.Older) {
		if i == 0 && (sealed == nil || p.again()) {
			continue
		}
		password, err := l.s.openPassword(rec, sealed)
		if err != nil {
			l.s.log.Error("a stored password cannot be opened", "keyStore", rec.ID, "error", err)
			continue
		}
		out = append(out, password)
	}
	return out
}

// again tells that all members are given the current password once more.
func (p *passwordsRecord) again() bool { return bytes.Equal(p.Prepared, p.Current) }

// Prepare implements keystore.Passwords. Where members were lost while their
// password was changed, there may be too many older ones although all members are
// there: then they get the current one, and a fresh one the next time.
func (l *ledger) Prepare(ctx context.Context, allMembers bool) (secret.Text, error) {
	fresh := newPassword()
	var prepared secret.Text
	err := l.change(ctx, func(rec *keyStoreRecord, p *passwordsRecord) (err error) {
		if !allMembers && len(p.Older) >= maxOlder {
			return keystore.ErrKeepPassword
		}
		if p.Prepared == nil && len(p.Older) > maxOlder {
			p.Prepared = p.Current
		}
		if p.Prepared != nil {
			prepared, err = l.s.openPassword(rec, p.Prepared)
			return err
		}
		prepared = fresh
		p.Prepared, err = l.s.sealPassword(rec, fresh)
		return err
	})
	if err == nil {
		l.s.fault("password: prepared")
	}
	return prepared, err
}

// Commit implements keystore.Passwords.
func (l *ledger) Commit(ctx context.Context, allMembers bool) error {
	err := l.change(ctx, func(_ *keyStoreRecord, p *passwordsRecord) error {
		if p.Prepared == nil {
			return errors.New("no password was prepared")
		}
		if !p.again() {
			p.Older = append([][]byte{p.Current}, p.Older...)
		}
		if allMembers {
			p.Older = nil
		}
		p.Current, p.Prepared = p.Prepared, nil
		return nil
	})
	if err == nil {
		l.s.fault("password: committed")
	}
	return err
}

// change edits the passwords in the record, unless the attempt is no longer wanted.
func (l *ledger) change(ctx context.Context, edit func(*keyStoreRecord, *passwordsRecord) error) error {
	at := path(keyStorePrefix, l.account, l.region, l.id)
	return l.s.update(ctx, func(tx store.Tx) error {
		rec, err := load[keyStoreRecord](tx, at)
		if err != nil {
			return err
		}
		if rec == nil || rec.State != kmsapi.Connecting || rec.Generation != l.generation || rec.Owner != l.s.node {
			return errFenced
		}
		if err := edit(rec, &rec.HSM.Passwords); err != nil {
			return err
		}
		return save(tx, at, rec)
	})
}

// newPassword makes 32 random characters of 0-9, A-Z and a-z.
func newPassword() secret.Text {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	out := make([]byte, 0, 32)
	for buf := make([]byte, 64); len(out) < cap(out); {
		_, _ = rand.Read(buf) // never fails
		for _, b := range buf {
			if limit := 256 - 256%len(alphabet); int(b) < limit && len(out) < cap(out) {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return secret.NewText(string(out))
}
