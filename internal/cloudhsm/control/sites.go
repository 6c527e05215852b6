package control

import (
	"context"
	"errors"
	"fmt"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// site is an HSM whose token is open, as its owner.
type site struct {
	hsm.Site
	shared *rack.Shared
}

// sites are open HSMs. close gives them back.
type sites []*site

func (all sites) close() {
	for _, one := range all {
		_ = one.shared.Close() // a reference is given back; the rack logs what goes wrong with the token
	}
}

func (all sites) list() (out []hsm.Site) {
	for _, one := range all {
		out = append(out, one.Site)
	}
	return out
}

// open opens an HSM, and sees that it answers to its owner.
func (s *Service) open(ctx context.Context, at rack.HSM) (*site, error) {
	shared, err := s.rack.Open(ctx, at, s.log)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", at.ID, err)
	}
	if err := shared.Ready(ctx); err != nil {
		_ = shared.Close()
		return nil, fmt.Errorf("reaching %s: %w", at.ID, err)
	}
	return &site{Site: hsm.Site{ID: at.ID, Token: shared}, shared: shared}, nil
}

// openRecorded is open for an HSM as it is on record.
func (s *Service) openRecorded(ctx context.Context, h *hsmRecord) (*site, error) {
	var at rack.HSM
	err := s.db.View(ctx, func(r store.Reader) (err error) {
		at, err = s.hsmOf(r, h)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.open(ctx, at)
}

// openActive opens the active HSMs of a cluster that can be reached, but for one, which may be empty.
func (s *Service) openActive(ctx context.Context, rec *clusterRecord, except string) (open sites, failure error) {
	var failures []error
	for _, h := range rec.active() {
		if h.ID == except {
			continue
		}
		one, err := s.openRecorded(ctx, h)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		open = append(open, one)
	}
	return open, errors.Join(failures...)
}
