package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

// tending is what the reconciler remembers between two looks. It may forget all of it.
type tending struct {
	mu     sync.Mutex
	busy   map[string]bool // by what is worked on
	rests  map[string]pause
	done   map[string]time.Time // when something periodic was done last
	misses map[string]int       // how often in a row an HSM did not answer
	since  map[string]time.Time // when something began that lasts
}

// pause is how long something that failed is left alone.
type pause struct {
	until time.Time
	next  time.Duration
}

// longest is the longest pause.
const longest = time.Minute

// reconcile looks for work until the service ends.
func (s *Service) reconcile() {
	tick := time.NewTicker(s.timing.Sweep)
	defer tick.Stop()
	for {
		if err := s.look(); err != nil && s.ctx.Err() == nil {
			s.log.Error("looking for what is to be done with HSM clusters failed", "error", err)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		}
	}
}

// look begins to work on everything that is not as it is meant to be. What one cluster needs holds no other one up.
func (s *Service) look() error {
	var clusters []*clusterRecord
	var tokens []*tokenRecord
	var backups []*backupRecord
	err := s.db.View(s.ctx, func(r store.Reader) (err error) {
		if clusters, err = scan[clusterRecord](r, clusterPrefix); err != nil {
			return err
		}
		if tokens, err = scan[tokenRecord](r, tokenPrefix); err != nil {
			return err
		}
		backups, err = scan[backupRecord](r, backupPrefix)
		return err
	})
	if err != nil {
		return err
	}
	for _, rec := range clusters {
		s.begin(rec.path(), func() error { return s.tend(rec) })
	}
	for _, token := range tokens {
		if token.Wiping {
			s.begin(token.path(), func() error { return s.retire(token) })
		}
	}
	for _, b := range backups {
		s.begin(b.path(), func() error { return s.tendBackup(b) })
	}
	return nil
}

// begin works on something, unless that is being worked on already or rests after a failure.
func (s *Service) begin(what string, do func() error) {
	if !s.tending.start(what, s.now()) {
		return
	}
	s.work.Go(func() {
		err := s.outlive(do)
		if err != nil && s.ctx.Err() == nil && !errors.Is(err, errGone) {
			s.log.Warn("work on an HSM cluster failed and is tried again", "what", what, "error", err)
		}
		s.tending.end(what, err, s.now(), s.timing.Retry)
	})
}

// outlive turns a panic into an error.
func (s *Service) outlive(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the reconciler %w", secret.Panicked(r))
		}
	}()
	return do()
}

func (t *tending) start(what string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[what] || now.Before(t.rests[what].until) {
		return false
	}
	if t.busy == nil {
		t.busy, t.rests = make(map[string]bool), make(map[string]pause)
		t.done, t.misses, t.since = make(map[string]time.Time), make(map[string]int), make(map[string]time.Time)
	}
	t.busy[what] = true
	return true
}

func (t *tending) end(what string, err error, now time.Time, first time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, what)
	if err == nil {
		delete(t.rests, what)
		return
	}
	rest := t.rests[what]
	rest.next = min(max(first, 2*rest.next), longest)
	rest.until = now.Add(rest.next)
	t.rests[what] = rest
}

// due tells whether something periodic is to be done; asking makes it done.
func (t *tending) due(what string, now time.Time, every time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.done[what]) < every {
		return false
	}
	t.done[what] = now
	return true
}

// forget makes something periodic due.
func (t *tending) forget(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.done, what)
}

// missed counts how often in a row an HSM did not answer.
func (t *tending) missed(hsm string, answered bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if answered {
		delete(t.misses, hsm)
		return 0
	}
	t.misses[hsm]++
	return t.misses[hsm]
}

// lasting tells how long something has lasted, as far as this was asked: zero if it does not.
func (t *tending) lasting(what string, does bool, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !does {
		delete(t.since, what)
		return 0
	}
	if _, known := t.since[what]; !known {
		t.since[what] = now
	}
	return now.Sub(t.since[what])
}

// lingering is how long a cluster that was deleted can still be described.
const lingering = time.Hour

// tend takes a cluster a step further, and looks after its HSMs.
func (s *Service) tend(rec *clusterRecord) error {
	switch rec.State {
	case cloudhsmapi.ClusterCreateInProgress:
		return s.moveOn(rec, cloudhsmapi.ClusterUninitialized, "CreateCluster")
	case cloudhsmapi.ClusterInitializeInProgress:
		return s.moveOn(rec, cloudhsmapi.ClusterInitialized, "InitializeCluster")
	case cloudhsmapi.ClusterDeleteInProgress:
		return s.deleteCluster(rec)
	case cloudhsmapi.ClusterDeleted:
		if s.now().Sub(rec.Deleted) < lingering {
			return nil
		}
		_, err := s.db.Update(s.ctx, func(tx store.Tx) error { return tx.Delete(rec.path()) })
		return err
	}
	return errors.Join(s.tendHSMs(rec), s.tendKeys(rec))
}

// tendHSMs makes and removes HSMs, and sees whether the others are well. What one of them needs does not wait for another that fails.
func (s *Service) tendHSMs(rec *clusterRecord) error {
	var failures []error
	for i := range rec.HSMs {
		h := &rec.HSMs[i]
		var err error
		switch h.State {
		case cloudhsmapi.HsmCreateInProgress:
			err = s.makeHSM(rec, h)
		case cloudhsmapi.HsmDeleteInProgress:
			err = s.removeHSM(rec, h)
		}
		if err != nil && !errors.Is(err, errGone) {
			s.explain(rec, h, err)
			failures = append(failures, fmt.Errorf("%s: %w", h.ID, err))
		}
	}
	if s.tending.due(rec.path()+"/health", s.now(), s.timing.Health) {
		failures = append(failures, s.checkHealth(rec))
	}
	return errors.Join(failures...)
}

// moveOn ends a transitional state.
func (s *Service) moveOn(rec *clusterRecord, to cloudhsmapi.ClusterState, why string) error {
	from := rec.State
	err := s.update(rec.path(), func(_ store.Tx, rec *clusterRecord) error {
		if rec.State == from {
			rec.State, rec.StateMessage = to, ""
		}
		return nil
	})
	if err == nil {
		s.log.Info("an HSM cluster has changed its state", "cluster", rec.ID, "state", to, "after", why)
		s.fault("cluster " + string(to))
		s.changed(rec.ID)
		s.kick()
	}
	return err
}

// deleteCluster ends a cluster that has no HSMs. Its backups stay.
func (s *Service) deleteCluster(rec *clusterRecord) error {
	err := s.update(rec.path(), func(tx store.Tx, rec *clusterRecord) error {
		rec.State, rec.Deleted = cloudhsmapi.ClusterDeleted, s.now().UTC()
		return tx.Delete(rec.usersPath())
	})
	if err == nil {
		s.sessions.endCluster(rec.usersPath())
		s.changed(rec.ID)
	}
	return err
}

// update changes a cluster as it is now on record. It fails with errGone if it is there no more.
func (s *Service) update(at string, fn func(tx store.Tx, rec *clusterRecord) error) error {
	_, err := s.db.Update(s.ctx, func(tx store.Tx) error {
		rec, err := load[clusterRecord](tx, at)
		if err != nil {
			return err
		}
		if rec == nil {
			return errGone
		}
		if err := fn(tx, rec); err != nil {
			return err
		}
		return save(tx, at, rec)
	})
	return err
}

// updateHSM changes an HSM that is still in the state in which it was when the work began; else it fails with errGone.
func (s *Service) updateHSM(at string, was *hsmRecord, fn func(tx store.Tx, rec *clusterRecord, h *hsmRecord) error) error {
	return s.update(at, func(tx store.Tx, rec *clusterRecord) error {
		h := rec.hsm(was.ID)
		if h == nil || h.State != was.State || h.Token != was.Token {
			return errGone
		}
		return fn(tx, rec, h)
	})
}

// explain shows with the HSM why it is not further.
func (s *Service) explain(rec *clusterRecord, h *hsmRecord, why error) {
	text := cut(why.Error(), maxStateMessage)
	if text == h.Message || s.ctx.Err() != nil {
		return
	}
	err := s.updateHSM(rec.path(), h, func(_ store.Tx, _ *clusterRecord, h *hsmRecord) error {
		h.Message = text
		return nil
	})
	if err != nil && !errors.Is(err, errGone) {
		s.log.Error("why an HSM is not ready could not be put on record", "hsm", h.ID, "error", err)
	}
}

// within bounds one step.
func (s *Service) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.timing.Step)
}
