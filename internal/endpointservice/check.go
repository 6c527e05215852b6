package endpointservice

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Rule names a requirement that an endpoint service must meet before it may
// carry an external key store.
type Rule string

// The rules. A service that breaks one of the first two is not found by KMS;
// breaking another one is a wrong configuration.
const (
	SameRegion       Rule = "the service is in the Region of the key store"
	PrincipalAllowed Rule = "KMS is an allowed principal"

	InterfaceType      Rule = "the service is of the type Interface"
	NetworkBalancer    Rule = "the service has a network load balancer"
	TwoZones           Rule = "the load balancer is in two subnets in two Availability Zones at least"
	OwnerMatches       Rule = "the service belongs to the declared owner"
	NoAcceptance       Rule = "no acceptance of endpoints is required"
	HasPrivateDNS      Rule = "the service has a private DNS name"
	PublicSubdomain    Rule = "the private DNS name is a subdomain of a public domain"
	PrivateDNSVerified Rule = "the domain of the private DNS name is verified"
	EndpointMatches    Rule = "the URI endpoint is the private DNS name"
	IPv4               Rule = "the service has IPv4 addresses"
)

// Requirements are what a key store asks of its service.
type Requirements struct {
	Region        string
	CallerAccount string // that the key store belongs to
	Owner         string // account that the service should belong to; empty means CallerAccount
	EndpointHost  string // the host of the XksProxyUriEndpoint
}

// Violation is a rule that a service breaks.
type Violation struct {
	Rule  Rule
	Found string // what the service has instead
}

// String tells both.
func (v Violation) String() string { return "violated: " + string(v.Rule) + "; found: " + v.Found }

// Hides tells whether KMS does not even see a service that breaks the rule.
func (r Rule) Hides() bool { return r == SameRegion || r == PrincipalAllowed }

// Principal is the principal as which KMS connects to endpoint services of a Region.
func Principal(region string) string { return "cks.kms." + region + ".amazonaws.com" }

// Check gives all rules that the service breaks.
func Check(s Service, need Requirements) []Violation {
	var broken []Violation
	want := func(ok bool, rule Rule, found string) {
		if !ok {
			broken = append(broken, Violation{rule, found})
		}
	}
	owner := need.Owner
	if owner == "" {
		owner = need.CallerAccount
	}
	want(s.Region() == need.Region, SameRegion, s.Region())
	want(s.allows(Principal(need.Region)), PrincipalAllowed, listed(s.AllowedPrincipals))
	want(s.Type == "" || s.Type == "Interface", InterfaceType, s.Type)
	want(s.LoadBalancer == "" || s.LoadBalancer == "network", NetworkBalancer, s.LoadBalancer)
	want(len(s.Zones()) >= 2, TwoZones, listed(s.Zones()))
	want(s.Owner == owner, OwnerMatches, s.Owner)
	want(!s.AcceptanceRequired, NoAcceptance, "acceptance required")
	want(s.isIPv4(), IPv4, strings.TrimSpace(s.IPAddressType+" "+listed(s.addresses())))
	if s.PrivateDNSName == "" {
		want(false, HasPrivateDNS, "none")
		return broken
	}
	want(isPublicSubdomain(s.PrivateDNSName), PublicSubdomain, s.PrivateDNSName)
	want(s.PrivateDNSVerified, PrivateDNSVerified, "not verified")
	want(canonicalHost(s.PrivateDNSName) == canonicalHost(need.EndpointHost), EndpointMatches,
		fmt.Sprintf("%s and %s", need.EndpointHost, s.PrivateDNSName))
	return broken
}

func (s Service) allows(principal string) bool {
	return slices.Contains(s.AllowedPrincipals, principal) || slices.Contains(s.AllowedPrincipals, "*")
}

func (s Service) isIPv4() bool {
	for _, a := range s.addresses() {
		if addr, err := netip.ParseAddrPort(a); err != nil || !addr.Addr().Unmap().Is4() {
			return false
		}
	}
	return s.IPAddressType == "" || s.IPAddressType == "ipv4"
}

func (s Service) addresses() []string {
	var out []string
	for _, t := range s.Targets {
		out = append(out, t.Address)
	}
	return out
}

// isPublicSubdomain wants three labels: a top-level domain, a domain below it
// that somebody can own, and a name within that. Which top-level domains exist
// is not looked up: an operator who declares a name as verified may use a private one.
func isPublicSubdomain(name string) bool {
	_, err := netip.ParseAddr(name)
	return err != nil && strings.Count(canonicalHost(name), ".") >= 2
}

func listed(values []string) string {
	if len(values) == 0 {
		return "none"
	}
	return strings.Join(values, ", ")
}
