package control

import (
	"errors"
	"fmt"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/store"
)

// removeHSM takes an HSM out of its cluster. If no other one is active, its keys are in a backup before,
// unless it cannot be reached; then its token waits to be wiped until they are.
func (s *Service) removeHSM(rec *clusterRecord, h *hsmRecord) error {
	token, err := s.token(h.Token)
	if err != nil {
		return err
	}
	// One that was never active may have some of the cluster's keys, which is no backup.
	if token.Filled && len(rec.active()) == 0 && rec.works() {
		if err := s.backUpLast(rec, h); err != nil && !errors.Is(err, errUnreachable) {
			return err
		}
	}
	s.fault("hsm backed up")
	err = s.updateHSM(rec.path(), h, func(tx store.Tx, rec *clusterRecord, h *hsmRecord) error {
		if err := giveUp(tx, h); err != nil {
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

// giveUp leaves the token of an HSM to be wiped.
func giveUp(tx store.Tx, h *hsmRecord) error {
	return unlessGone(changeToken(tx, h.Token, func(t *tokenRecord) { t.Wiping = true }))
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
	ctx, cancel := s.carrying()
	defer cancel()
	last, err := s.openRecorded(ctx, h)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	defer last.shared.Close()
	return s.backUp(ctx, rec, last, rec.keeps(last))
}

// errUnreachable: the HSM does not answer.
var errUnreachable = errors.New("the HSM cannot be reached")

// cluster gives a cluster as it is on record, or nil.
func (s *Service) cluster(at string) (rec *clusterRecord, err error) {
	err = s.db.View(s.ctx, func(r store.Reader) error {
		rec, err = load[clusterRecord](r, at)
		return err
	})
	return rec, err
}
