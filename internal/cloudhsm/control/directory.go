package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/store"
)

var (
	_ cloudhsm.Directory = (*Service)(nil)
	_ cloudhsm.Network   = (*Service)(nil)
)

// Cluster implements cloudhsm.Directory for the clusters that are managed here, and for those that are declared. Of
// an activated cluster HSMs that are lost are members too; those that are being made are not.
func (s *Service) Cluster(ctx context.Context, account, region, id string) (cloudhsm.Cluster, error) {
	var out cloudhsm.Cluster
	err := s.db.View(ctx, func(r store.Reader) error {
		rec, err := load[clusterRecord](r, path(clusterPrefix, account, region, id))
		if err != nil || rec == nil {
			return err
		}
		out, err = s.described(r, rec)
		return err
	})
	if err != nil {
		return out, err
	}
	if out.ID == "" {
		return s.declared.Cluster(ctx, account, region, id)
	}
	if out.State == cloudhsmapi.ClusterDeleted {
		return cloudhsm.Cluster{}, fmt.Errorf("%w: %s was deleted", cloudhsm.ErrNotFound, id)
	}
	return out, nil
}

// described is a cluster as key stores see it.
func (s *Service) described(r store.Reader, rec *clusterRecord) (cloudhsm.Cluster, error) {
	out := cloudhsm.Cluster{
		ID: rec.ID, Account: rec.Account, Region: rec.Region, State: rec.State,
		TrustAnchor: rec.TrustAnchor, ClusterCertificate: rec.Certificate,
		HsmType: rec.HsmType, NetworkType: rec.NetworkType, SubnetMapping: rec.Subnets,
		PINFormat: cloudhsm.PINIsUserColonAndPass, Replication: cloudhsm.ReplicationWrapped,
	}
	if rec.works() {
		out.State = cloudhsmapi.ClusterActive
	}
	for i := range rec.HSMs {
		h := &rec.HSMs[i]
		if h.State != cloudhsmapi.HsmActive && h.State != cloudhsmapi.HsmDegraded {
			continue
		}
		opened, err := s.hsmOf(r, h)
		if err != nil { // it is a member all the same, which opening it then fails for
			s.log.Debug("the token of an HSM cannot be found", "hsm", h.ID, "error", err)
		}
		out.Members = append(out.Members, cloudhsm.Member{
			ID: h.ID, AvailabilityZone: h.Zone, IP: h.IP, Token: opened.Config, Managed: true,
		})
	}
	return out, nil
}

// hsmOf tells how the token of an HSM is opened.
func (s *Service) hsmOf(r store.Reader, h *hsmRecord) (rack.HSM, error) {
	token, err := load[tokenRecord](r, tokenPath(h.Token))
	if err != nil {
		return rack.HSM{}, err
	}
	if token == nil || s.pools == nil {
		return rack.HSM{}, fmt.Errorf("the token of %s is not on record, or its pool is not configured any more", h.ID)
	}
	pins, err := s.openPINs(token)
	if err != nil {
		return rack.HSM{}, err
	}
	prepared, err := s.pools.Reach(h.Token, pins)
	if err != nil {
		return rack.HSM{}, fmt.Errorf("finding the token of %s: %w", h.ID, err)
	}
	return rack.HSM{ID: h.ID, Config: prepared.Config, PIN: prepared.PIN}, nil
}

// Reserve implements cloudhsm.Network: key stores have addresses in the subnets, beside HSMs.
func (s *Service) Reserve(storeID string, c cloudhsm.Cluster) (release func(), err error) {
	s.addresses.Lock()
	defer s.addresses.Unlock()
	return s.declared.Reserve(storeID, c)
}

// HSMsIn counts the HSMs that have addresses in a subnet, for the accounting of addresses.
func (s *Service) HSMsIn(subnet string) int {
	n := 0
	err := s.db.View(s.ctx, func(r store.Reader) error {
		taken, err := takenIn(r, subnet)
		n = len(taken)
		return err
	})
	if err != nil {
		s.log.Error("the addresses of a subnet could not be counted", "subnet", subnet, "error", err)
	}
	return n
}

// Open opens a member of a cluster for a key store. That of a managed cluster lets a user of the cluster
// log in, by "user:password"; any other is the token itself. It fails with pkcs11.ErrNoToken for one that has left its cluster,
// and for one that is made anew since the key store heard of it: a key on that would be lost.
func (s *Service) Open(ctx context.Context, m cloudhsm.Member, log *slog.Logger) (pkcs11.Token, error) {
	if !m.Managed {
		return pkcs11.Open(ctx, m.Token, log)
	}
	var at rack.HSM
	var cluster *clusterRecord
	err := s.db.View(ctx, func(r store.Reader) (err error) {
		if cluster, err = s.clusterOf(r, m.ID); err != nil || cluster == nil {
			return err
		}
		h := cluster.hsm(m.ID)
		if h.State != cloudhsmapi.HsmActive && h.State != cloudhsmapi.HsmDegraded {
			return fmt.Errorf("%w: %s is %s", pkcs11.ErrNoToken, h.ID, h.State)
		}
		at, err = s.hsmOf(r, h)
		return err
	})
	switch {
	case err != nil:
		return nil, asGone(err)
	case cluster == nil:
		return nil, fmt.Errorf("%w: %s has left its cluster", pkcs11.ErrNoToken, m.ID)
	}
	gate, err := s.rack.Gate(ctx, at, holderKMS, &doorkeeper{s: s, users: cluster.usersPath()}, log)
	if err != nil {
		return nil, asGone(err)
	}
	return gate, nil
}

// asGone calls a token gone that is not the HSM's any more: it was removed, or initialised by somebody else.
func asGone(err error) error {
	for _, gone := range []error{rack.ErrNotPrepared, rack.ErrNoToken, rack.ErrNoPool, rack.ErrPIN, rack.ErrRemoved} {
		if errors.Is(err, gone) {
			return fmt.Errorf("%w: %w", pkcs11.ErrNoToken, err)
		}
	}
	return err
}

// clusterOf finds the cluster of an HSM, or gives nil.
func (s *Service) clusterOf(r store.Reader, hsm string) (*clusterRecord, error) {
	all, err := scan[clusterRecord](r, clusterPrefix)
	if err != nil {
		return nil, err
	}
	for _, rec := range all {
		if rec.hsm(hsm) != nil {
			return rec, nil
		}
	}
	return nil, nil
}

var errGone = errors.New("the HSM does not exist any more")
