package control

import (
	"fmt"
	"sync"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// tolerated is how often in a row an HSM may miss a look before it counts as lost: a module's process that was
// replaced fails once.
const tolerated = 2

// checkHealth looks at all HSMs at the same time. What is lost turns DEGRADED, and after a while another
// token takes its place; what is back turns ACTIVE once it has what the others have.
func (s *Service) checkHealth(rec *clusterRecord) {
	var looking sync.WaitGroup
	for i := range rec.HSMs {
		h := &rec.HSMs[i]
		if h.State != cloudhsmapi.HsmActive && h.State != cloudhsmapi.HsmDegraded {
			continue
		}
		looking.Go(func() { s.paced(rec.path()+"/"+h.ID, func() error { return s.lookAfter(rec, h) }) })
	}
	looking.Wait()
}

func (s *Service) lookAfter(rec *clusterRecord, h *hsmRecord) error {
	ctx, cancel := s.within()
	defer cancel()
	seen, err := s.openRecorded(ctx, h)
	if err == nil {
		defer seen.shared.Close()
	} else if s.ctx.Err() != nil {
		return nil
	}
	misses := s.tending.missed(rec.path()+"/"+h.ID, err == nil)
	switch {
	case err == nil && h.State == cloudhsmapi.HsmDegraded:
		return s.takeBack(rec, h, seen)
	case err != nil && h.State == cloudhsmapi.HsmActive && misses >= tolerated:
		return s.degrade(rec, h, err)
	case err != nil && h.State == cloudhsmapi.HsmDegraded && s.now().Sub(h.Lost) >= s.timing.ReplaceAfter:
		return s.replace(rec, h)
	default:
		return nil
	}
}

// degrade takes an HSM that is lost out of those whose keys count.
func (s *Service) degrade(rec *clusterRecord, h *hsmRecord, why error) error {
	err := s.updateHSM(rec.path(), h, func(_ store.Tx, rec *clusterRecord, h *hsmRecord) error {
		h.State, h.Lost, h.Message = cloudhsmapi.HsmDegraded, s.now().UTC(), shownCause(why)
		rec.wane()
		return nil
	})
	if err == nil {
		s.fault("hsm degraded")
	}
	return s.told(rec, h, cloudhsmapi.HsmDegraded, why, err)
}

// takeBack makes an HSM that answers again ACTIVE, once it has what the others have; they get what it has with the
// next comparison.
func (s *Service) takeBack(rec *clusterRecord, h *hsmRecord, back *site) error {
	if err := s.catchUp(rec, back); err != nil {
		return fmt.Errorf("bringing %s up to date: %w", h.ID, err)
	}
	err := s.updateHSM(rec.path(), h, func(_ store.Tx, rec *clusterRecord, h *hsmRecord) error {
		h.State, h.Lost, h.Message, rec.Waned = cloudhsmapi.HsmActive, time.Time{}, "", 0
		return nil
	})
	if err == nil {
		s.fault("hsm taken back")
	}
	s.tending.forget(rec.path() + "/compare")
	return s.told(rec, h, cloudhsmapi.HsmActive, nil, err)
}

// catchUp gives an HSM that was lost what the active ones have; if there are none, what they had when they left, which
// is in backups.
func (s *Service) catchUp(rec *clusterRecord, back *site) error {
	ctx, cancel := s.carrying()
	defer cancel()
	peers, err := s.openActive(ctx, rec, back.ID)
	defer peers.close()
	switch {
	case err != nil: // it may have a key that no other one has; if it is lost, it counts no more soon
		return err
	case len(peers) > 0:
		_, err = hsm.Fill(ctx, rec.ID, peers.list(), back.Site, s.log)
		return err
	}
	since, err := s.backupsSince(rec, rec.Waned)
	if err != nil {
		return err
	}
	return s.restoreAll(ctx, since, rec, back)
}

// replace gives an HSM that is lost another token. The old one is wiped when it is back, after what
// only it has was saved. While no other HSM is active there is nothing to fill a new token with but
// a backup, which may be older than the lost one: that is not done unasked.
func (s *Service) replace(rec *clusterRecord, h *hsmRecord) error {
	if len(rec.active()) == 0 {
		return nil
	}
	if err := s.swapToken(rec, h); err != nil {
		return fmt.Errorf("replacing %s: %w", h.ID, err)
	}
	s.fault("hsm replaced")
	return s.told(rec, h, cloudhsmapi.HsmCreateInProgress, nil, nil)
}

// swapToken has an HSM made anew with another token of a pool.
func (s *Service) swapToken(rec *clusterRecord, h *hsmRecord) error {
	return s.updateHSM(rec.path(), h, func(tx store.Tx, rec *clusterRecord, h *hsmRecord) error {
		old := *h
		h.Type = rec.HsmType
		var err error
		if h.Token, err = s.takeToken(tx, rec, h); err != nil {
			return err
		}
		h.State, h.Lost, h.Message = cloudhsmapi.HsmCreateInProgress, time.Time{}, "It is replaced."
		return giveUp(tx, &old)
	})
}

// told logs and records a change that was made, unless it was not.
func (s *Service) told(rec *clusterRecord, h *hsmRecord, to cloudhsmapi.HsmState, why, err error) error {
	if err != nil {
		return unlessGone(err)
	}
	details := audit.Data{"hsmId": h.ID, "state": string(to)}
	if why != nil {
		details["cause"] = cut(why.Error(), maxStateMessage)
	}
	s.log.Warn("an HSM has changed its state", "cluster", rec.ID, "hsm", h.ID, "state", to, "cause", why)
	s.event("HsmStateChange", rec.Account, rec.Region, rec.arn(), details, nil)
	s.changed(rec.ID)
	s.kick()
	return nil
}
