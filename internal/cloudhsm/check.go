package cloudhsm

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Patterns of the CloudHSM API, anchored.
var (
	clusterID = regexp.MustCompile(`^cluster-[2-7a-zA-Z]{11,16}$`)
	hsmID     = regexp.MustCompile(`^hsm-[2-7a-zA-Z]{11,16}$`)
	subnetID  = regexp.MustCompile(`^subnet-[0-9a-fA-F]{8,17}$`)
	accountID = regexp.MustCompile(`^[0-9]{12}$`)
)

// check tells the first thing that is wrong with a declaration. That a
// cluster names a subnet which is not declared is no mistake here: subnets
// can be deleted under a cluster, and connecting tells so.
func (d Declaration) check() error {
	subnets := make(map[string]bool)
	for _, s := range d.Subnets {
		if err := s.check(); err != nil {
			return fmt.Errorf("subnet %q: %w", s.ID, err)
		}
		if subnets[s.ID] {
			return fmt.Errorf("subnet %q is declared twice", s.ID)
		}
		subnets[s.ID] = true
	}
	clusters := make(map[string]bool)
	tokens := make(map[string]Member)
	for _, c := range d.Clusters {
		if err := c.check(); err != nil {
			return fmt.Errorf("cluster %q: %w", c.ID, err)
		}
		if clusters[c.ID] {
			return fmt.Errorf("cluster %q is declared twice", c.ID)
		}
		clusters[c.ID] = true
		if err := c.checkTokens(tokens); err != nil {
			return fmt.Errorf("cluster %q: %w", c.ID, err)
		}
	}
	return nil
}

// checkTokens refuses a token that is in taken, which the cluster's are added to. A vendor that replicates by itself may show
// one token that stands for several HSMs: a cluster of such can have it for each of its members.
func (c Cluster) checkTokens(taken map[string]Member) error {
	mine := make(map[string]Member)
	for _, m := range c.Members {
		other, twice := taken[m.token()]
		if !twice && c.Replication != ReplicationModule {
			other, twice = mine[m.token()]
		}
		if twice {
			return fmt.Errorf("HSM %q has the same token as %q", m.ID, other.ID)
		}
		mine[m.token()] = m
	}
	maps.Copy(taken, mine)
	return nil
}

func (s Subnet) check() error {
	switch {
	case !subnetID.MatchString(s.ID):
		return errors.New("the id is not subnet- and 8 to 17 hexadecimal digits")
	case s.AvailabilityZone == "":
		return errors.New("the availability zone is missing")
	case !s.CIDR.IsValid() || !s.CIDR.Addr().Is4():
		return errors.New("the CIDR block is not an IPv4 one")
	case s.CIDR != s.CIDR.Masked():
		return fmt.Errorf("the CIDR block %s has bits set behind its mask", s.CIDR)
	case s.CIDR.Bits() < 16 || s.CIDR.Bits() > 28:
		return fmt.Errorf("the CIDR block %s is not between /16 and /28", s.CIDR)
	case s.InUse < 0:
		return errors.New("the number of addresses in use is negative")
	}
	return nil
}

func (c Cluster) check() error {
	switch {
	case !clusterID.MatchString(c.ID):
		return errors.New("the id is not cluster- and 11 to 16 of 2-7a-zA-Z")
	case !accountID.MatchString(c.Account):
		return fmt.Errorf("the account %q is not 12 digits", c.Account)
	case c.Region == "":
		return errors.New("the Region is missing")
	case len(c.SubnetMapping) == 0:
		return errors.New("it has no subnets")
	case len(c.Members) > MaxMembers:
		return fmt.Errorf("it has %d HSMs, more than %d", len(c.Members), MaxMembers)
	}
	if err := c.checkChoices(); err != nil {
		return err
	}
	for zone, id := range c.SubnetMapping {
		if zone == "" || !subnetID.MatchString(id) {
			return fmt.Errorf("its mapping of availability zone %q to subnet %q is malformed", zone, id)
		}
	}
	if _, err := parseAnchor(c.TrustAnchor); err != nil {
		return fmt.Errorf("its trust anchor: %w", err)
	}
	if err := c.CheckTrustAnchor(c.TrustAnchor); err != nil {
		return fmt.Errorf("its certificates do not fit: %w", err)
	}
	return c.checkMembers()
}

// checkChoices checks what has to be one of a few words.
func (c Cluster) checkChoices() error {
	if c.State != "" && !slices.Contains(c.State.Values(), string(c.State)) {
		return fmt.Errorf("the state %q does not exist", c.State)
	}
	if c.NetworkType != "" && !slices.Contains(c.NetworkType.Values(), string(c.NetworkType)) {
		return fmt.Errorf("the network type %q does not exist", c.NetworkType)
	}
	switch c.PINFormat {
	case "", PINIsPassword, PINIsUserColonAndPass:
	default:
		return fmt.Errorf("the PIN format %q is neither %q nor %q", c.PINFormat, PINIsPassword, PINIsUserColonAndPass)
	}
	switch c.Replication {
	case "", ReplicationWrapped, ReplicationModule:
	default:
		return fmt.Errorf("the replication %q is neither %q nor %q", c.Replication, ReplicationWrapped, ReplicationModule)
	}
	return nil
}

func (c Cluster) checkMembers() error {
	seen := make(map[string]bool)
	for _, m := range c.Members {
		switch {
		case !hsmID.MatchString(m.ID):
			return fmt.Errorf("the HSM id %q is not hsm- and 11 to 16 of 2-7a-zA-Z", m.ID)
		case seen[m.ID]:
			return fmt.Errorf("HSM %q is declared twice", m.ID)
		case c.SubnetMapping[m.AvailabilityZone] == "":
			return fmt.Errorf("HSM %q is in the availability zone %q, where the cluster has no subnet", m.ID, m.AvailabilityZone)
		case m.Token.URI.ModulePath == "":
			return fmt.Errorf("HSM %q names no PKCS#11 module", m.ID)
		}
		if m.IP != "" {
			if _, err := netip.ParseAddr(m.IP); err != nil {
				return fmt.Errorf("the address of HSM %q: %w", m.ID, err)
			}
		}
		seen[m.ID] = true
	}
	return nil
}

// token identifies the member's token. The environment belongs to it: it can tell
// a module where its tokens are.
func (m Member) token() string {
	return m.Token.URI.String() + "\x00" + strings.Join(m.Token.Env, "\x00")
}
