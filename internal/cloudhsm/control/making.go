package control

import (
	"context"
	"errors"
	"fmt"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// makeHSM brings an HSM from CREATE_IN_PROGRESS to ACTIVE: its token is initialised, and has every key that the
// cluster has. It begins at the beginning each time, so that what an attempt before has left is gone.
func (s *Service) makeHSM(rec *clusterRecord, h *hsmRecord) error {
	ctx, cancel := s.carrying()
	defer cancel()
	made, err := s.prepare(ctx, rec, h)
	if err != nil {
		return err
	}
	defer made.shared.Close()
	s.fault("hsm prepared")
	if err := s.fill(ctx, rec, made); err != nil {
		return err
	}
	s.fault("hsm filled")
	s.trust(ctx, rec, h)
	csr := rec.CSR
	if csr == "" && rec.Certificate == "" && rec.State == cloudhsmapi.ClusterUninitialized && rec.SourceBackup == "" {
		if csr, err = s.request(ctx, rec, made); err != nil {
			return fmt.Errorf("making the cluster's certificate signing request: %w", err)
		}
	}
	err = s.updateHSM(rec.path(), h, func(tx store.Tx, rec *clusterRecord, h *hsmRecord) error {
		h.State, h.Message, rec.Keyed, rec.Waned = cloudhsmapi.HsmActive, "", true, 0
		if rec.Certificate == "" {
			rec.CSR = csr
		}
		if rec.Becomes != "" { // it was made from a backup, and this is its first HSM
			rec.State, rec.Becomes = rec.Becomes, ""
		}
		return filled(tx, h.Token)
	})
	if err != nil {
		return err
	}
	s.log.Info("an HSM is active", "cluster", rec.ID, "hsm", h.ID, "availabilityZone", h.Zone)
	s.event("CreateHsm", rec.Account, rec.Region, rec.arn(), audit.Data{"hsmId": h.ID, "state": string(cloudhsmapi.HsmActive)}, nil)
	s.fault("hsm active")
	s.tending.forget(rec.path() + "/compare") // what was made while it was filled
	s.changed(rec.ID)
	s.kick()
	return nil
}

// prepare initialises the token and opens it.
func (s *Service) prepare(ctx context.Context, rec *clusterRecord, h *hsmRecord) (*site, error) {
	token, err := s.token(h.Token)
	if err != nil {
		return nil, err
	}
	if token.Filled || token.HSM != h.ID {
		return nil, fmt.Errorf("the token of the pool %s is not one to be initialised", h.Token.Pool)
	}
	pins, err := s.openPINs(token)
	if err != nil {
		return nil, err
	}
	prepared, err := s.prepareToken(ctx, token, h.ID, pins)
	if err != nil {
		return nil, fmt.Errorf("preparing a token of the pool %s: %w", h.Token.Pool, err)
	}
	return s.open(ctx, rack.HSM{ID: h.ID, Config: prepared.Config, PIN: prepared.PIN})
}

// token gives the record of an HSM's token.
func (s *Service) token(at rack.Placement) (token *tokenRecord, err error) {
	err = s.db.View(s.ctx, func(r store.Reader) error {
		token, err = load[tokenRecord](r, tokenPath(at))
		return err
	})
	if err == nil && (token == nil || s.pools == nil) {
		err = fmt.Errorf("the token of the pool %s is not on record, or there are no pools any more", at.Pool)
	}
	return token, err
}

// fill gives a new HSM the keys of the cluster: those of its other HSMs; or, if it has none, those of a backup; or,
// if there has never been a key, a new cluster key.
func (s *Service) fill(ctx context.Context, rec *clusterRecord, made *site) error {
	peers, err := s.openActive(ctx, rec, made.ID)
	defer peers.close()
	switch {
	case err != nil: // it may have a key that no other one has, nor a backup
		return fmt.Errorf("not all active HSMs can be reached to copy their keys from: %w", err)
	case len(peers) > 0:
		n, err := hsm.Fill(ctx, rec.ID, peers.list(), made.Site, s.log)
		if err == nil {
			s.log.Info("an HSM was filled", "cluster", rec.ID, "hsm", made.ID, "keys", n)
		}
		return err
	case !rec.Keyed && rec.SourceBackup == "":
		return hsm.Establish(ctx, rec.ID, []hsm.Site{made.Site}, s.log)
	}
	sources, err := s.sourcesOf(rec)
	if err != nil {
		return err
	}
	if len(sources) > 0 {
		err := s.restoreAll(ctx, sources, rec, made)
		if err == nil {
			s.fault("keys restored")
		}
		return err
	}
	if !rec.works() && rec.SourceBackup == "" && !rec.degraded() { // it was never activated, so it has no users and no keys
		return hsm.Establish(ctx, rec.ID, []hsm.Site{made.Site}, s.log)
	}
	return errors.New("no HSM of the cluster is active to copy its keys from, and there is no backup")
}

// trust marks the cluster key trusted, so that KMS keys made from then on leave an HSM under no other key. Where the token does not
// let it, keys are made without that: it keeps out only who has the PIN of the token's user, which is the server.
func (s *Service) trust(ctx context.Context, rec *clusterRecord, h *hsmRecord) {
	done, err := s.pools.Trust(ctx, h.Token, hsm.ClusterKeyLabel(rec.ID))
	switch {
	case err != nil:
		s.log.Info("a cluster key cannot be marked trusted", "cluster", rec.ID, "hsm", h.ID, "error", err)
	case done:
		s.log.Info("a cluster key was marked trusted", "cluster", rec.ID, "hsm", h.ID)
	}
}

// filled notes that there are keys on a token.
func filled(tx store.Tx, at rack.Placement) error {
	return unlessGone(changeToken(tx, at, func(t *tokenRecord) { t.Filled = true }))
}
