package cloudhsm

import (
	"fmt"
	"net/netip"
	"sync"
)

// Subnet is a declared network in which members of clusters have addresses.
type Subnet struct {
	ID               string // "subnet-" and 8 to 17 hexadecimal digits
	VPC              string
	AvailabilityZone string
	CIDR             netip.Prefix // IPv4
	InUse            int          // addresses that belong to neither clusters nor key stores
}

// reserved is how many addresses of a subnet AWS keeps for itself: the first
// four and the last.
const reserved = 5

// addresses is how many addresses of the subnet can be given away.
func (s Subnet) addresses() int { return 1<<(32-s.CIDR.Bits()) - reserved - s.InUse }

// reservation is what a key store holds: an address in each subnet.
type reservation struct {
	subnets []string
	holders int
}

// Reserve implements Network.
func (d *Declared) Reserve(storeID string, c Cluster) (release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := d.stores[storeID]
	if held == nil {
		if held, err = d.take(c); err != nil {
			return nil, err
		}
		d.stores[storeID] = held
	}
	held.holders++
	return sync.OnceFunc(func() { d.release(storeID, held) }), nil
}

// take finds a free address in each subnet of the cluster.
func (d *Declared) take(c Cluster) (*reservation, error) {
	r := &reservation{}
	for zone, id := range c.SubnetMapping {
		s, ok := d.subnets[id]
		if !ok {
			return nil, fmt.Errorf("%w: %s, in which cluster %s has its address in %s", ErrSubnetNotFound, id, c.ID, zone)
		}
		if d.free(s) < 1 {
			return nil, fmt.Errorf("%w: %s (%s) in %s", ErrNoFreeAddresses, id, s.CIDR, zone)
		}
		r.subnets = append(r.subnets, id)
	}
	return r, nil
}

// free counts the addresses that neither members nor key stores have.
func (d *Declared) free(s Subnet) int {
	n := s.addresses()
	for _, c := range d.clusters {
		for _, m := range c.Members {
			if c.SubnetMapping[m.AvailabilityZone] == s.ID {
				n--
			}
		}
	}
	for _, r := range d.stores {
		for _, id := range r.subnets {
			if id == s.ID {
				n--
			}
		}
	}
	return n
}

func (d *Declared) release(storeID string, r *reservation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.holders--; r.holders == 0 {
		delete(d.stores, storeID)
	}
}

// FreeAddresses tells how many addresses of a subnet are free: at least zero.
func (d *Declared) FreeAddresses(subnetID string) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s, ok := d.subnets[subnetID]
	if !ok {
		return 0, fmt.Errorf("%w: %s", ErrSubnetNotFound, subnetID)
	}
	return max(0, d.free(s)), nil
}
