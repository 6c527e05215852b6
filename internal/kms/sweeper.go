package kms

import (
	"context"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// runSweeper does to keys what time brings, and destroys material that no key claims.
func (s *Service) runSweeper() {
	tick := time.NewTicker(s.sweep)
	defer tick.Stop()
	resting := make(map[string]int)
	for sweep := 0; ; sweep++ {
		s.tendDue()
		s.destroyUnclaimed(sweep, resting)
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// abandon gives up the making of a key that a request asked for.
func (s *Service) abandon(m *materialRecord, requestID string) {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	if err := s.disown(ctx, m); err != nil {
		s.log.Error("a key that could not be made is cleaned up later", "key", m.Key.ARN, "requestId", requestID, "error", err)
	}
}

// disown leaves a material record to whoever sweeps next. Since no key can
// claim it any more, the external key that was taken for it is free at once.
func (s *Service) disown(ctx context.Context, m *materialRecord) error {
	return s.update(ctx, func(tx store.Tx) error {
		rec, err := load[materialRecord](tx, m.path())
		if err != nil || rec == nil || rec.Owner != m.Owner {
			return err
		}
		if rec.Key.XksKeyID != "" {
			if err := tx.Delete(reservationPath(rec.StoreID, rec.Key.XksKeyID)); err != nil {
				return err
			}
		}
		rec.Owner, rec.NotUntil = "", time.Time{}
		return save(tx, rec.path(), rec)
	})
}

// rest is for how many sweeps a key store that failed is left alone.
const rest = 10

// destroyUnclaimed destroys material that no key claims, where its store is
// within reach; otherwise it stays on record until the store is connected or deleted.
// resting has the first sweep for which a store that failed is asked again: it
// would hold the others up.
func (s *Service) destroyUnclaimed(sweep int, resting map[string]int) {
	for _, m := range s.mirror.unclaimed() {
		if sweep < resting[m.StoreID] {
			continue
		}
		if err := s.settle(m); err != nil && s.ctx.Err() == nil {
			resting[m.StoreID] = sweep + rest
			s.log.Warn("key material that is no longer needed could not be destroyed; it is tried again", "key", m.Key.ARN, "error", err)
		}
	}
}

// settle takes a material record one step further. A record that somebody
// owned is disowned first, so that its key cannot be claimed any more.
func (s *Service) settle(m *materialRecord) error {
	if m.Owner != "" {
		if m.NotUntil.After(s.now()) && (m.Owner == s.node || !s.db.Exclusive()) {
			return nil // somebody is at work on it
		}
		return s.disown(s.ctx, m)
	}
	done, err := s.destroy(m)
	if err != nil || !done {
		return err
	}
	return s.update(s.ctx, func(tx store.Tx) error { return tx.Delete(m.path()) })
}

// destroy tells whether the record has served: the material is gone, is in
// use after all, or is beyond reach for ever.
func (s *Service) destroy(m *materialRecord) (done bool, err error) {
	if s.mirror.key(m.Region, m.Key.ID) != nil {
		return true, nil
	}
	var ks keystore.Store = s.soft
	if m.StoreID != "" {
		rec := s.mirror.keyStore(m.Account, m.Region, m.StoreID)
		if rec == nil {
			return true, nil
		}
		conn := s.conns.reach(m.StoreID)
		if conn == nil || rec.State != kmsapi.Connected {
			return false, nil
		}
		ks = conn
	}
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	err = ks.DeleteKey(ctx, s.ownCall("DeleteKey"), m.Key)
	return err == nil, err
}

// ownCall is for what the service asks of a key store by itself.
func (s *Service) ownCall(operation string) keystore.Call {
	return keystore.Call{PrincipalARN: "AWS Internal", Operation: operation, RequestID: audit.NewUUID()}
}
