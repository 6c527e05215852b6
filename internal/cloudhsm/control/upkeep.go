package control

import (
	"fmt"
	"slices"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// tendKeys does what the keys of a cluster need now and then: the HSMs are compared, backed up, and get another type.
func (s *Service) tendKeys(rec *clusterRecord) {
	switch {
	case !rec.works():
	case rec.State != cloudhsmapi.ClusterActive:
		s.paced(rec.path()+"/type", func() error { return s.changeType(rec) })
	default:
		if s.tending.due(rec.path()+"/compare", s.now(), s.timing.Compare) {
			s.paced(rec.path()+"/comparison", func() error { return s.compare(rec) })
		}
		s.begin(rec.path()+"/backup", func() error { return s.backUpIfDue(rec) }) // health does not wait for it
	}
}

// compare finds keys that not all active HSMs have, and copies them to where they are missing.
func (s *Service) compare(rec *clusterRecord) error {
	ctx, cancel := s.carrying()
	defer cancel()
	active, _ := s.openActive(ctx, rec, "") // what cannot be reached is looked after elsewhere
	defer active.close()
	if len(active) < 2 {
		return nil
	}
	missing, err := hsm.Compare(ctx, rec.ID, active.list())
	if err != nil {
		s.tending.forget(rec.path() + "/compare")
		return fmt.Errorf("comparing the HSMs of %s: %w", rec.ID, err)
	}
	for i, one := range active {
		if len(missing[one.ID]) == 0 {
			continue
		}
		s.log.Warn("an HSM lacks keys that others of its cluster have; they are copied to it", "cluster", rec.ID, "hsm", one.ID, "keys", len(missing[one.ID]))
		others := slices.Delete(active.list(), i, i+1)
		if _, err := hsm.Fill(ctx, rec.ID, others, one.Site, s.log); err != nil {
			s.tending.forget(rec.path() + "/compare")
			return fmt.Errorf("filling %s: %w", one.ID, err)
		}
		s.changed(rec.ID)
	}
	return nil
}

// changeType gives the HSMs of a cluster the type that it is to have, one after the other: those whose pool does not
// have that type get a token of one that has. It ends when all have it.
func (s *Service) changeType(rec *clusterRecord) error {
	for i := range rec.HSMs {
		h := &rec.HSMs[i]
		if h.State != cloudhsmapi.HsmActive {
			return nil // one at a time
		}
		if h.Type == rec.HsmType {
			continue
		}
		if s.pools != nil && s.pools.Serves(h.Token.Pool, rec.HsmType) {
			return s.updateHSM(rec.path(), h, func(_ store.Tx, rec *clusterRecord, h *hsmRecord) error {
				h.Type = rec.HsmType
				return nil
			})
		}
		if len(rec.active()) < 2 {
			if err := s.backUpLast(rec, h); err != nil {
				return err
			}
		}
		return s.swapToken(rec, h)
	}
	return s.moveOn(rec, cloudhsmapi.ClusterActive, "ModifyCluster")
}
