package control

import (
	"context"
	"errors"
	"fmt"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// retire wipes the token of an HSM that is no more, and gives it back to its pool. A key that
// only this token has is saved first: the HSM may have been lost before the others had it. Who has
// the token open loses it before that, so that no key is made on it that is not saved.
func (s *Service) retire(token *tokenRecord) error {
	switch {
	case !token.Wiping:
		return nil
	case s.pools == nil:
		return errNoPools
	}
	pins, err := s.openPINs(token)
	if err != nil {
		return err
	}
	s.takeOut(token, pins)
	if err := s.empty(token); err != nil {
		return fmt.Errorf("saving what only the token of %s has: %w", token.HSM, err)
	}
	s.takeOut(token, pins)
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

// takeOut closes a token, whoever has it open.
func (s *Service) takeOut(token *tokenRecord, pins rack.PINs) {
	at, err := s.pools.Reach(token.Placement, pins)
	if err != nil {
		return // then nobody can have opened it since it was wiped or lost
	}
	if err := s.rack.Remove(rack.HSM{ID: token.HSM, Config: at.Config, PIN: at.PIN}); err != nil {
		s.log.Warn("a token that is to be wiped could not be closed", "hsm", token.HSM, "error", err)
	}
}

// empty sees that nothing is on a token that is not elsewhere, and puts that on record: once the token is half wiped
// it cannot be asked again.
func (s *Service) empty(token *tokenRecord) error {
	if !token.Filled {
		return nil
	}
	err := s.salvage(token)
	switch {
	case err == nil:
	case s.hopeless(token, err):
		s.log.Error("what was on a token that is to be wiped is gone; a key that no other HSM of the cluster has is lost",
			"pool", token.Placement.Pool, "hsm", token.HSM, "cause", err)
	default:
		return err
	}
	_, err = s.db.Update(s.ctx, func(tx store.Tx) error {
		return changeToken(tx, token.Placement, func(t *tokenRecord) { t.Filled = false })
	})
	if err == nil {
		s.fault("token saved")
	}
	return err
}

// hopeless tells whether a token that could not be opened has nothing left that could be saved, for as long as an HSM may be lost.
func (s *Service) hopeless(token *tokenRecord, why error) bool {
	lasted := s.tending.lasting(token.path(), s.pools.Vanished(token.Placement, why), s.now())
	return lasted >= s.timing.ReplaceAfter && lasted > 0
}

// salvage copies keys that only a token has to the active HSMs of its cluster, or into a backup if there are none, also if the
// cluster was deleted meanwhile. A cluster that has not been activated has no keys.
func (s *Service) salvage(token *tokenRecord) error {
	rec, err := s.cluster(token.Cluster)
	if err != nil || rec == nil || !rec.works() && !rec.Worked {
		return err
	}
	ctx, cancel := s.carrying()
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
	if len(peers) == 0 {
		if err := s.mayLeave(rec); err != nil {
			return err
		}
		if known, err := s.backedUp(ctx, rec, old); err != nil || known {
			return err
		}
		return s.backUp(ctx, rec, old, nil)
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

// backedUp tells whether the backups that the next HSM of the cluster is filled from have all keys of a token.
func (s *Service) backedUp(ctx context.Context, rec *clusterRecord, old *site) (bool, error) {
	sources, err := s.sourcesOf(rec)
	if err != nil || len(sources) == 0 {
		return false, err
	}
	type name struct{ label, id string }
	known := make(map[name]bool)
	err = s.db.View(ctx, func(r store.Reader) error {
		for _, b := range sources {
			keys, err := s.loadContent(r, b)
			if err != nil {
				return err
			}
			for _, k := range keys {
				known[name{k.Label, string(k.ID)}] = true
			}
		}
		return nil
	})
	if err != nil {
		s.log.Error("a backup cannot be read; another one is taken", "cluster", rec.ID, "error", err)
		return false, nil
	}
	objects, err := old.Token.ListKeys(ctx)
	for _, o := range objects {
		if !hsm.IsOwn(o.Label, o.ID) && !known[name{o.Label, string(o.ID)}] {
			return false, err
		}
	}
	return err == nil, err
}

// mayLeave fails while an HSM is made out of backups: it might not see the one that is about to be taken.
func (s *Service) mayLeave(rec *clusterRecord) error {
	for _, h := range rec.HSMs {
		if h.State != cloudhsmapi.HsmCreateInProgress {
			continue
		}
		if sources, err := s.sourcesOf(rec); err != nil || len(sources) > 0 {
			return errors.Join(fmt.Errorf("%s, to which the keys are copied, is not active yet", h.ID), err)
		}
	}
	return nil
}
