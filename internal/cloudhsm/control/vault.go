package control

import (
	"context"
	"errors"
	"fmt"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/store"
)

// vaultHSM is what the backup HSM is called where HSMs have ids.
const vaultHSM = "backup-hsm"

// vault is the backup HSM, open.
type vault struct {
	*site
	at rack.Placement
}

var errNoVault = errors.New("no backup HSM is configured (hsm.vault)")

// openVault opens the backup HSM. Its token is taken and initialised when it is needed for the first time, and never again:
// the cluster keys on it are all that opens backups.
func (s *Service) openVault(ctx context.Context) (*vault, error) {
	if s.vaultIn == "" || s.pools == nil {
		return nil, errNoVault
	}
	token, err := s.vaultToken(ctx)
	if err == nil && !token.Filled {
		s.vaultTurn.Lock()
		defer s.vaultTurn.Unlock()
		token, err = s.vaultToken(ctx) // somebody else may have initialised it meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("finding the backup HSM: %w", err)
	}
	pins, err := s.openPINs(token)
	if err != nil {
		return nil, err
	}
	at, err := s.pools.Reach(token.Placement, pins)
	if !token.Filled {
		at, err = s.prepareToken(ctx, token, vaultHSM, pins)
	}
	if err != nil {
		return nil, fmt.Errorf("reaching the backup HSM: %w", err)
	}
	if !token.Filled {
		s.fault("vault prepared")
	}
	opened, err := s.open(ctx, rack.HSM{ID: vaultHSM, Config: at.Config, PIN: at.PIN})
	if err != nil {
		return nil, err
	}
	if token.Filled {
		return &vault{opened, token.Placement}, nil
	}
	_, err = s.db.Update(ctx, func(tx store.Tx) error { return filled(tx, token.Placement) })
	if err != nil {
		_ = opened.shared.Close()
		return nil, err
	}
	return &vault{opened, token.Placement}, nil
}

// vaultToken gives the record of the backup HSM's token, and takes one if there is none.
func (s *Service) vaultToken(ctx context.Context) (token *tokenRecord, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		token, err = s.vaultOnRecord(r)
		return err
	})
	if err != nil || token != nil {
		return token, err
	}
	_, err = s.db.Update(ctx, func(tx store.Tx) error {
		if token, err = s.vaultOnRecord(tx); err != nil || token != nil {
			return err
		}
		taken, err := takenTokens(tx) // one that was the backup HSM under another name too: there are cluster keys on it
		if err != nil {
			return err
		}
		at, err := s.pools.ChooseIn(s.vaultIn, taken)
		if err != nil {
			return err
		}
		token = &tokenRecord{Placement: at, HSM: vaultHSM}
		if token.PINs, err = s.sealPINs(at, rack.PINs{SO: randomPIN(), User: randomPIN()}); err != nil {
			return err
		}
		return save(tx, token.path(), token)
	})
	return token, err
}

// vaultOnRecord gives the record of the backup HSM's token, or nil. One in a pool of another name was replaced.
func (s *Service) vaultOnRecord(r store.Reader) (*tokenRecord, error) {
	taken, err := scan[tokenRecord](r, tokenPrefix+s.vaultIn+"/")
	if err != nil || len(taken) == 0 {
		return nil, err
	}
	return taken[0], nil
}
