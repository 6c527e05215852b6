package hsm

import (
	"context"
	"log/slog"
	"sync/atomic"

	"kastellan.dev/internal/pkcs11"
)

// stay is a token whose user is logged in, with what moving keys needs: the
// kmsuser's login at a member of a connected cluster, or a [Site]. Handles
// found during it end with it.
type stay struct {
	id       string // of the HSM
	token    pkcs11.Token
	keyLabel string // of the cluster key; empty where the module replicates
	notes    *slog.Logger
	objects  chan struct{} // held by who makes, destroys or looks for objects, holds one
	cluster  atomic.Pointer[clusterKey]
}

// clusterKey is the cluster key on a token.
type clusterKey struct {
	handle  pkcs11.Handle
	trusted bool // CKA_TRUSTED
}

// staysOf gives the stays that logins are, and the way back.
func staysOf(logins []*login) (stays []*stay, byStay map[*stay]*login) {
	byStay = make(map[*stay]*login)
	for _, l := range logins {
		stays = append(stays, &l.stay)
		byStay[&l.stay] = l
	}
	return stays, byStay
}

// alone makes, destroys or looks for objects while nobody else of this connection
// does on this token: SoftHSM2 fails to make an object that it is asked to
// look for at the same moment. Using keys goes on meanwhile.
func (s *stay) alone(ctx context.Context, do func() error) error {
	select {
	case s.objects <- struct{}{}:
		defer func() { <-s.objects }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// find gives the key objects with a label and id; a nil id is any.
func (s *stay) find(ctx context.Context, label string, id []byte) ([]pkcs11.Handle, error) {
	var handles []pkcs11.Handle
	err := s.alone(ctx, func() (err error) {
		handles, err = s.token.FindKeys(ctx, label, id)
		return err
	})
	return handles, err
}

// list gives all secret keys.
func (s *stay) list(ctx context.Context) ([]pkcs11.Object, error) {
	var objects []pkcs11.Object
	err := s.alone(ctx, func() (err error) {
		objects, err = s.token.ListKeys(ctx)
		return err
	})
	return objects, err
}

// destroyAll destroys all key objects with a label and id; a nil id is any.
func (s *stay) destroyAll(ctx context.Context, label string, id []byte) error {
	found, err := s.find(ctx, label, id)
	if err != nil {
		return err
	}
	return s.alone(ctx, func() error {
		for _, h := range found {
			if err := s.token.Destroy(ctx, h); err != nil && !isStale(err) {
				return err
			}
		}
		return nil
	})
}

// discard destroys objects of a session that have served. They would end with
// their session anyway.
func (s *stay) discard(ctx context.Context, handles ...pkcs11.Handle) {
	for _, h := range handles {
		if err := s.token.Destroy(ctx, h); err != nil && !isLost(err) && !isStale(err) {
			s.notes.Warn("a temporary key could not be destroyed", "error", err)
		}
	}
}
