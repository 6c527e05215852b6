package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// makeHSM brings an HSM from CREATE_IN_PROGRESS to ACTIVE: its token is initialised, and has every key that the
// cluster has. It begins at the beginning each time, so that what an attempt before has left is gone.
func (s *Service) makeHSM(rec *clusterRecord, h *hsmRecord) error {
	ctx, cancel := s.within()
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
	csr := rec.CSR
	if csr == "" && rec.Certificate == "" && rec.State == cloudhsmapi.ClusterUninitialized && rec.SourceBackup == "" {
		if csr, err = s.request(ctx, rec, made); err != nil {
			return fmt.Errorf("making the cluster's certificate signing request: %w", err)
		}
	}
	err = s.updateHSM(rec.path(), h, func(tx store.Tx, rec *clusterRecord, h *hsmRecord) error {
		h.State, h.Message, rec.Keyed, rec.Waned = cloudhsmapi.HsmActive, "", true, time.Time{}
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
	pins, err := s.pinsOf(h.Token)
	if err != nil {
		return nil, err
	}
	prepared, err := s.pools.Prepare(ctx, h.Token, h.ID, pins)
	if err != nil {
		return nil, fmt.Errorf("preparing a token of the pool %s: %w", h.Token.Pool, err)
	}
	return s.open(ctx, rack.HSM{ID: h.ID, Config: prepared.Config, PIN: prepared.PIN})
}

func (s *Service) pinsOf(at rack.Placement) (pins rack.PINs, err error) {
	err = s.db.View(s.ctx, func(r store.Reader) error {
		token, err := load[tokenRecord](r, tokenPath(at))
		if err != nil {
			return err
		}
		if token == nil || s.pools == nil {
			return fmt.Errorf("the token of the pool %s is not on record, or there are no pools any more", at.Pool)
		}
		pins, err = s.openPINs(token)
		return err
	})
	return pins, err
}

// fill gives a new HSM the keys of the cluster: those of its other HSMs; or, if it has none, those of a backup; or,
// if there has never been a key, a new cluster key.
func (s *Service) fill(ctx context.Context, rec *clusterRecord, made *site) error {
	peers, failure := s.openActive(ctx, rec, made.ID)
	defer peers.close()
	switch {
	case len(peers) > 0:
		n, err := hsm.Fill(ctx, rec.ID, peers.list(), made.Site, s.log)
		if err == nil {
			s.log.Info("an HSM was filled", "cluster", rec.ID, "hsm", made.ID, "keys", n)
		}
		return err
	case failure != nil: // the keys are there, and a backup may be older
		return fmt.Errorf("no active HSM of the cluster can be reached to copy its keys from: %w", failure)
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
	if !rec.works() { // it was never activated, so it has no users and no keys
		return hsm.Establish(ctx, rec.ID, []hsm.Site{made.Site}, s.log)
	}
	return errors.New("no HSM of the cluster is active to copy its keys from, and there is no backup")
}

// filled notes that there are keys on a token.
func filled(tx store.Tx, at rack.Placement) error {
	token, err := load[tokenRecord](tx, tokenPath(at))
	if err != nil || token == nil {
		return err
	}
	token.Filled = true
	return save(tx, token.path(), token)
}
