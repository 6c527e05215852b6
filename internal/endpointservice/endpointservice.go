// Package endpointservice is private connectivity: VPC endpoint services, by
// which the owner of a network offers a proxy behind a load balancer under a
// private DNS name, and the interface endpoints that reach them.
//
// A [Service] is declared by the operator ([Declared] is the directory of
// those); whether it may carry an external key store is decided by [Check]. An
// [Endpoint] stands for the interface endpoint and its private hosted zone: it
// resolves one name, the service's private DNS name, to the service's
// targets, spreads connections over availability zones and passes over targets that
// do not answer. Whatever else it is asked to dial does not exist for it.
package endpointservice

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

// Service is a VPC endpoint service.
type Service struct {
	Name               string   // "com.amazonaws.vpce.<region>.vpce-svc-…"
	Owner              string   // account
	AllowedPrincipals  []string // who may connect; "*" is everybody
	AcceptanceRequired bool     // the owner must accept each endpoint by hand
	PrivateDNSName     string   // may be empty: the service has none
	PrivateDNSVerified bool     // the owner has proved that the domain is theirs
	Targets            []Target // at least one

	Type          string // empty means "Interface"
	LoadBalancer  string // empty means "network"
	IPAddressType string // empty means "ipv4"
}

// Target is the load balancer's address in one subnet.
type Target struct {
	AvailabilityZone string
	Address          string // "ip:port"
}

var serviceName = regexp.MustCompile(`^(?:com|eu)\.amazonaws\.vpce\.((?:[a-z]+-){2,3}\d+)\.vpce-svc-[0-9a-z]+$`)

// Region is the Region that the service's name tells; empty if it is no name of a service.
func (s Service) Region() string {
	if m := serviceName.FindStringSubmatch(s.Name); m != nil {
		return m[1]
	}
	return ""
}

// Zones lists the availability zones that have a target, sorted.
func (s Service) Zones() []string {
	var zones []string
	for _, t := range s.Targets {
		zones = append(zones, t.AvailabilityZone)
	}
	slices.Sort(zones)
	return slices.Compact(zones)
}

// Directory finds endpoint services.
type Directory interface {
	// Find gives the service of a name.
	Find(name string) (Service, bool)
}

// Declared is the directory of services that the configuration declares. It may
// be used from many goroutines at once.
type Declared struct {
	services atomic.Pointer[map[string]Service]
}

var _ Directory = (*Declared)(nil)

// Declare makes a directory. It refuses what cannot be a service at all and
// two services of one name or one private DNS name in a Region; services that
// merely break a rule of [Check] are taken, since their owners may mend them.
func Declare(services []Service) (*Declared, error) {
	d := new(Declared)
	return d, d.Replace(services)
}

// Replace puts other services in the place of all present ones, or changes
// nothing and says why. Endpoints that are open go on with what they have.
func (d *Declared) Replace(services []Service) error {
	byName := make(map[string]Service, len(services))
	dnsNames := make(map[[2]string]string)
	for _, s := range services {
		if err := s.validate(); err != nil {
			return fmt.Errorf("endpoint service %q: %w", s.Name, err)
		}
		if _, twice := byName[s.Name]; twice {
			return fmt.Errorf("endpoint service %q is declared twice", s.Name)
		}
		if s.PrivateDNSName != "" {
			at := [2]string{s.Region(), canonicalHost(s.PrivateDNSName)}
			if other, taken := dnsNames[at]; taken {
				return fmt.Errorf("endpoint services %q and %q have the same private DNS name", other, s.Name)
			}
			dnsNames[at] = s.Name
		}
		s.AllowedPrincipals, s.Targets = slices.Clone(s.AllowedPrincipals), slices.Clone(s.Targets)
		byName[s.Name] = s
	}
	d.services.Store(&byName)
	return nil
}

// Find implements [Directory].
func (d *Declared) Find(name string) (Service, bool) {
	services := d.services.Load()
	if services == nil {
		return Service{}, false
	}
	s, ok := (*services)[name]
	return s, ok
}

var (
	account  = regexp.MustCompile(`^\d{12}$`)
	hostName = regexp.MustCompile(`^[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*\.?$`)
)

func (s Service) validate() error {
	switch {
	case s.Region() == "":
		return fmt.Errorf("the name is not of the form com.amazonaws.vpce.<region>.vpce-svc-<id>")
	case !account.MatchString(s.Owner):
		return fmt.Errorf("the owner %q is not an account of twelve digits", s.Owner)
	case s.PrivateDNSName != "" && !hostName.MatchString(s.PrivateDNSName):
		return fmt.Errorf("the private DNS name %q is not a host name", s.PrivateDNSName)
	case len(s.Targets) == 0:
		return fmt.Errorf("there are no targets")
	}
	for _, t := range s.Targets {
		if t.AvailabilityZone == "" {
			return fmt.Errorf("the target %q has no availability zone", t.Address)
		}
		if addr, err := netip.ParseAddrPort(t.Address); err != nil || addr.Port() == 0 {
			return fmt.Errorf("the target %q is not an IP address and a port", t.Address)
		}
	}
	return nil
}

// canonicalHost makes names of one host equal.
func canonicalHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
