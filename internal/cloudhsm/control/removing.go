package control

import (
	"errors"
	"fmt"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// removeHSM takes an HSM out of its cluster. If no other one is active, its keys are in a backup before,
// unless it cannot be reached; then its token waits to be wiped until another HSM has them. One that has never been
// ACTIVE may not have them all, and is no source of a backup.
func (s *Service) removeHSM(rec *clusterRecord, h *hsmRecord) error {
	token, err := s.token(h.Token)
	if err != nil {
		return err
	}
	saved := false
	if len(rec.active()) == 0 && rec.works() && token.Filled {
		err := s.backUpLast(rec, h)
		if err != nil && !errors.Is(err, errUnreachable) {
			return err
		}
		saved = err == nil
	}
	s.fault("hsm backed up")
	err = s.updateHSM(rec.path(), h, func(tx store.Tx, rec *clusterRecord, h *hsmRecord) error {
		if err := giveUp(tx, h, saved); err != nil {
			return err
		}
		rec.remove(h.ID)
		if err := s.forgetAttempts(tx, rec, h.ID); err != nil {
			return err
		}
		if len(rec.HSMs) == 0 && rec.State == cloudhsmapi.ClusterUninitialized {
			rec.CSR = "" // the key is gone with the HSM that made it
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.log.Info("an HSM has left its cluster", "cluster", rec.ID, "hsm", h.ID)
	s.event("DeleteHsm", rec.Account, rec.Region, rec.arn(), audit.Data{"hsmId": h.ID, "state": string(cloudhsmapi.HsmDeleted)}, nil)
	s.fault("hsm removed")
	s.changed(rec.ID)
	s.kick()
	return nil
}

// giveUp leaves the token of an HSM to be wiped. saved tells that its keys are in a backup.
func giveUp(tx store.Tx, h *hsmRecord, saved bool) error {
	token, err := load[tokenRecord](tx, tokenPath(h.Token))
	if err != nil || token == nil {
		return err
	}
	token.Wiping, token.Saved = true, saved
	return save(tx, token.path(), token)
}

// forgetAttempts drops what an HSM that leaves has counted of wrong passwords.
func (s *Service) forgetAttempts(tx store.Tx, rec *clusterRecord, hsm string) error {
	table, err := s.readUsers(tx, rec.usersPath())
	if err != nil || !table.activated() {
		return err
	}
	table.forget(hsm)
	return s.writeUsers(tx, rec.usersPath(), &table)
}

func (c *clusterRecord) remove(id string) {
	kept := make([]hsmRecord, 0, len(c.HSMs))
	for _, h := range c.HSMs {
		if h.ID != id {
			kept = append(kept, h)
		}
	}
	c.HSMs = kept
}

// backUpLast backs the last HSM of a cluster up.
func (s *Service) backUpLast(rec *clusterRecord, h *hsmRecord) error {
	ctx, cancel := s.within()
	defer cancel()
	last, err := s.openRecorded(ctx, h)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	defer last.shared.Close()
	return s.backUp(ctx, rec, last)
}

// errUnreachable: the HSM does not answer.
var errUnreachable = errors.New("the HSM cannot be reached")

// retire wipes the token of an HSM that is no more, and gives it back to its pool. A key that
// only this token has is saved first: the HSM may have been lost before the others had it.
func (s *Service) retire(token *tokenRecord) error {
	if !token.Wiping {
		return nil
	}
	pins, err := s.openPINs(token)
	if err != nil {
		return err
	}
	if err := s.salvage(token); err != nil {
		return fmt.Errorf("saving what only the token of %s has: %w", token.HSM, err)
	}
	if at, err := s.pools.Reach(token.Placement, pins); err == nil {
		if err := s.rack.Remove(rack.HSM{ID: token.HSM, Config: at.Config, PIN: at.PIN}); err != nil {
			s.log.Warn("a token that is to be wiped could not be closed", "hsm", token.HSM, "error", err)
		}
	}
	ctx, cancel := s.within()
	defer cancel()
	if err := s.pools.Wipe(ctx, token.Placement, pins); err != nil {
		return fmt.Errorf("wiping a token of the pool %s: %w", token.Placement.Pool, err)
	}
	s.fault("token wiped")
	_, err = s.db.Update(s.ctx, func(tx store.Tx) error { return tx.Delete(token.path()) })
	if err == nil {
		s.log.Info("a token was wiped and is free", "pool", token.Placement.Pool, "hsm", token.HSM)
	}
	return err
}

// salvage copies keys that only a token has to the active HSMs of its cluster, and waits for one if there is none: a backup of
// this token would be younger than that of an HSM which had more keys. A cluster that has not been activated has none, and those of a
// deleted one are not wanted.
func (s *Service) salvage(token *tokenRecord) error {
	rec, err := s.cluster(token.Cluster)
	if err != nil {
		return err
	}
	if rec == nil || !rec.works() || !token.Filled || token.Saved {
		return nil
	}
	if len(rec.active()) == 0 {
		return errors.New("the cluster has no active HSM to save them to")
	}
	ctx, cancel := s.within()
	defer cancel()
	old, err := s.openRecorded(ctx, &hsmRecord{ID: token.HSM, Token: token.Placement})
	if err != nil {
		return err
	}
	defer old.shared.Close()
	peers, err := s.openActive(ctx, rec, "")
	defer peers.close()
	if err != nil {
		return err
	}
	for _, peer := range peers {
		n, err := hsm.Fill(ctx, rec.ID, []hsm.Site{old.Site}, peer.Site, s.log)
		if err != nil {
			return err
		}
		if n > 0 {
			s.log.Warn("keys that only a lost HSM had were saved", "cluster", rec.ID, "from", token.HSM, "to", peer.ID, "keys", n)
		}
	}
	return nil
}

// cluster gives a cluster as it is on record, or nil.
func (s *Service) cluster(at string) (rec *clusterRecord, err error) {
	err = s.db.View(s.ctx, func(r store.Reader) error {
		rec, err = load[clusterRecord](r, at)
		return err
	})
	return rec, err
}
