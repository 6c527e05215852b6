package cloudhsm

import (
	"encoding/binary"
	"errors"
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

// free counts the addresses that nobody has.
func (d *Declared) free(s Subnet) int {
	n := d.unclaimed(s)
	if d.others != nil {
		n -= d.others(s.ID)
	}
	return n
}

// unclaimed counts the addresses that neither declared members nor key stores have.
func (d *Declared) unclaimed(s Subnet) int {
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

// CountAlso has others count the addresses of a subnet that neither declared
// members nor key stores have. It is called before d is used by many, and others does not use d.
func (d *Declared) CountAlso(others func(subnetID string) int) { d.others = others }

// Subnet gives a declared subnet.
func (d *Declared) Subnet(id string) (Subnet, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s, ok := d.subnets[id]
	return s, ok
}

// ErrAddress: an address is not one of the subnet's, is kept back, or is in use.
var ErrAddress = errors.New("cloudhsm: the address cannot be given away")

// Address chooses an address in a subnet that is neither a declared member's nor
// taken: the wanted one, or the lowest if that is the zero Addr. It fails
// with ErrSubnetNotFound, ErrNoFreeAddresses or ErrAddress.
func (d *Declared) Address(subnetID string, taken map[netip.Addr]bool, wanted netip.Addr) (netip.Addr, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s, ok := d.subnets[subnetID]
	if !ok {
		return netip.Addr{}, fmt.Errorf("%w: %s", ErrSubnetNotFound, subnetID)
	}
	if d.unclaimed(s)-len(taken) < 1 {
		return netip.Addr{}, fmt.Errorf("%w: %s (%s)", ErrNoFreeAddresses, subnetID, s.CIDR)
	}
	usable := func(a netip.Addr) bool { return s.gives(a) && !taken[a] && !d.declares(a, subnetID) }
	if wanted.IsValid() {
		if !usable(wanted) {
			return netip.Addr{}, fmt.Errorf("%w: %s in %s (%s)", ErrAddress, wanted, subnetID, s.CIDR)
		}
		return wanted, nil
	}
	for a := s.CIDR.Addr(); s.CIDR.Contains(a); a = a.Next() {
		if usable(a) {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: %s (%s)", ErrNoFreeAddresses, subnetID, s.CIDR)
}

// gives tells whether an address of the subnet may be given away at all.
func (s Subnet) gives(a netip.Addr) bool {
	if !s.CIDR.Contains(a) {
		return false
	}
	first, at := s.CIDR.Addr().As4(), a.As4()
	offset := binary.BigEndian.Uint32(at[:]) - binary.BigEndian.Uint32(first[:])
	return offset >= reserved-1 && offset < 1<<(32-s.CIDR.Bits())-1
}

// declares tells whether a declared member has the address in the subnet.
func (d *Declared) declares(a netip.Addr, subnetID string) bool {
	for _, c := range d.clusters {
		for _, m := range c.Members {
			if c.SubnetMapping[m.AvailabilityZone] == subnetID && m.IP == a.String() {
				return true
			}
		}
	}
	return false
}
