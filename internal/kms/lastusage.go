package kms

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// Storage keys of what is known of the use of keys.
const (
	usagePrefix = "lastusage/" // followed by account, Region and id of the key
	trackingAt  = "tracking-since"
)

// usageRecord is the last successful cryptographic operation with a key, as stored.
type usageRecord struct {
	Operation kmsapi.KeyLastUsageTrackingOperation
	Time      time.Time
	EventID   string // of the audit record
	RequestID string
}

// keyUse is what this process knows of a key's last use. All entries of a key
// share it, so that a use costs no lock.
type keyUse struct {
	last    atomic.Pointer[usageRecord]
	pending atomic.Bool // it is among those to be stored
}

// add takes a use over, unless a later one is known.
func (u *keyUse) add(r *usageRecord) {
	for {
		known := u.last.Load()
		if known != nil && !known.Time.Before(r.Time) || u.last.CompareAndSwap(known, r) {
			return
		}
	}
}

// pendingUses are the keys whose last use is not stored yet, each once.
type pendingUses struct {
	mu   sync.Mutex
	keys []*keyEntry
}

func (p *pendingUses) add(k *keyEntry) {
	if k.use.pending.Swap(true) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, k)
}

func (p *pendingUses) take() []*keyEntry {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.keys
	p.keys = nil
	return taken
}

// countUses remembers that the call, whose record it gets, has used its keys.
func (c *call) countUses(r *audit.Record) {
	if !c.op.Uses || len(c.keys) == 0 {
		return
	}
	used := &usageRecord{
		Operation: kmsapi.KeyLastUsageTrackingOperation(c.op.Name), Time: r.EventTime, EventID: r.EventID, RequestID: r.RequestID,
	}
	c.s.meters.perKey.countSuccess(c.op.Name, c.keys)
	for _, k := range c.keys {
		k.use.add(used)
		c.s.uses.add(k)
	}
}

// runUses stores the last uses from time to time.
func (s *Service) runUses() {
	tick := time.NewTicker(s.storeUses)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.flushUses(s.ctx)
		}
	}
}

// usesBatch is how many keys' uses are stored in one transaction.
const usesBatch = 1000

// flushUses stores the last uses that are not stored yet. What cannot be
// stored is kept for the next time.
func (s *Service) flushUses(ctx context.Context) {
	all := s.uses.take()
	for len(all) > 0 {
		batch := all[:min(len(all), usesBatch)]
		all = all[len(batch):]
		for _, k := range batch {
			k.use.pending.Store(false) // before it is read: what is used from now on comes again
		}
		if _, err := s.db.Update(ctx, func(tx store.Tx) error { return storeUses(tx, batch) }); err != nil {
			s.log.Warn("the last uses of keys could not be stored; it is tried again", "keys", len(batch), "error", err)
			for _, k := range batch {
				s.uses.add(k)
			}
		}
	}
}

// storeUses stores the last uses of keys that are still there. What another
// process has stored of a later use stays.
func storeUses(tx store.Tx, keys []*keyEntry) error {
	for _, k := range keys {
		_, exists, err := tx.Get(k.path())
		if err != nil {
			return err
		}
		if !exists {
			continue
		}
		stored, err := load[usageRecord](tx, k.usagePath())
		if err != nil {
			return err
		}
		last := k.use.last.Load()
		if stored != nil && !stored.Time.Before(last.Time) {
			continue
		}
		if err := save(tx, k.usagePath(), last); err != nil {
			return err
		}
	}
	return nil
}

func (k *keyRecord) usagePath() string { return path(usagePrefix, k.Account, k.Region, k.ID) }

// beginTracking notes, once in the life of a metadata store, since when uses are followed.
func (s *Service) beginTracking(ctx context.Context) error {
	if !s.mirror.trackingSince().IsZero() {
		return nil
	}
	now, err := s.now().UTC().MarshalText()
	if err != nil {
		return err
	}
	err = s.update(ctx, func(tx store.Tx) error {
		_, begun, err := tx.Get(trackingAt)
		if err != nil || begun {
			return err
		}
		return tx.Put(trackingAt, now)
	})
	if err != nil {
		return fmt.Errorf("noting since when the use of keys is followed: %w", err)
	}
	return nil
}

func (c *call) getKeyLastUsage(_ context.Context, in *kmsapi.GetKeyLastUsageRequest) (*kmsapi.GetKeyLastUsageResponse, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GetKeyLastUsageResponse{
		KeyID: k.ID, KeyCreationDate: kmsapi.At(k.Created), TrackingStartDate: kmsapi.At(k.Created),
		KeyLastUsage: new(kmsapi.KeyLastUsageData),
	}
	if since := c.s.mirror.trackingSince(); since.After(k.Created) {
		out.TrackingStartDate = kmsapi.At(since)
	}
	if last := k.use.last.Load(); last != nil {
		out.KeyLastUsage = &kmsapi.KeyLastUsageData{
			Operation: last.Operation, Timestamp: kmsapi.At(last.Time), CloudTrailEventID: last.EventID, KmsRequestID: last.RequestID,
		}
	}
	return out, nil
}
