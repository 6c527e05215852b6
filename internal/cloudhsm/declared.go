package cloudhsm

import (
	"context"
	"fmt"
	"sync"

	"kastellan.dev/internal/cloudhsmapi"
)

// Declaration is what the configuration says of clusters and networks.
type Declaration struct {
	Clusters []Cluster
	Subnets  []Subnet
}

// Declared is a Directory and a Network made of a Declaration.
type Declared struct {
	mu       sync.RWMutex
	clusters map[string]Cluster // by id
	subnets  map[string]Subnet  // by id
	stores   map[string]*reservation
	others   func(subnetID string) int // nil: there are no others
}

var (
	_ Directory = (*Declared)(nil)
	_ Network   = (*Declared)(nil)
)

// Declare checks a declaration and makes a Declared of it.
func Declare(d Declaration) (*Declared, error) {
	out := &Declared{stores: make(map[string]*reservation)}
	return out, out.Replace(d)
}

// Replace puts a new declaration in the place of the old one, or leaves
// everything as it is and tells what is wrong. Connected key stores follow with
// the members, and keep the addresses they have until they are connected again.
func (d *Declared) Replace(next Declaration) error {
	if err := next.check(); err != nil {
		return err
	}
	clusters := make(map[string]Cluster, len(next.Clusters))
	for _, c := range next.Clusters {
		clusters[c.ID] = withDefaults(c)
	}
	subnets := make(map[string]Subnet, len(next.Subnets))
	for _, s := range next.Subnets {
		subnets[s.ID] = s
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clusters, d.subnets = clusters, subnets
	return nil
}

func withDefaults(c Cluster) Cluster {
	if c.State == "" {
		c.State = cloudhsmapi.ClusterActive
	}
	if c.NetworkType == "" {
		c.NetworkType = cloudhsmapi.IPv4
	}
	if c.PINFormat == "" {
		c.PINFormat = PINIsPassword
	}
	if c.Replication == "" {
		c.Replication = ReplicationWrapped
	}
	return c
}

// Cluster implements Directory.
func (d *Declared) Cluster(_ context.Context, account, region, id string) (Cluster, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	c, ok := d.clusters[id]
	if !ok || c.Account != account || c.Region != region {
		return Cluster{}, fmt.Errorf("%w: %s in %s", ErrNotFound, id, region)
	}
	return c, nil
}
