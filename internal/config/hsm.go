package config

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/pkcs11"
)

// HSM declares the HSM clusters that can back AWS_CLOUDHSM key stores, and what more of them can be made of.
type HSM struct {
	Subnets  []Subnet  `yaml:"subnets"`
	Clusters []Cluster `yaml:"clusters"`

	// Pools, and the backup HSM, are what clusters are made of that are made through the CloudHSM API.
	Pools          []Pool        `yaml:"pools"`
	Vault          *Vault        `yaml:"vault"`
	BackupInterval time.Duration `yaml:"backup-interval"` // zero means a day
	ReplaceAfter   time.Duration `yaml:"replace-after"`   // of an HSM that is lost; zero means 5 minutes
	Quotas         HSMQuotas     `yaml:"quotas"`
}

// Subnet is a network in which HSMs have addresses. Who has no use for
// the notion leaves it and Cluster.Subnets out.
type Subnet struct {
	ID               string `yaml:"id"` // "subnet-" and 8 to 17 hexadecimal digits
	VPC              string `yaml:"vpc"`
	AvailabilityZone string `yaml:"availability-zone"`
	CIDR             string `yaml:"cidr"`             // IPv4, /16 to /28
	InUse            int    `yaml:"addresses-in-use"` // by others than clusters and key stores
}

// Cluster is a set of HSMs that hold the same keys.
type Cluster struct {
	ID      string `yaml:"id"`      // "cluster-" and 11 to 16 characters
	Account string `yaml:"account"` // that it belongs to
	Region  string `yaml:"region"`
	State   string `yaml:"state"` // empty means ACTIVE

	// TrustAnchor is the file of the customer CA's certificate, which those who
	// create a key store must present; Certificate, which may be left out, that of the
	// cluster's own one.
	TrustAnchor string `yaml:"trust-anchor"`
	Certificate string `yaml:"certificate"`

	Subnets              map[string]string `yaml:"subnets"` // by availability zone; none: one for each zone of the members
	SecurityGroupAltered bool              `yaml:"security-group-altered"`
	MTLS                 bool              `yaml:"mtls"`

	PINFormat string `yaml:"pin-format"` // "password" (or empty) or "user:password"
	// KeepPassword leaves the kmsuser's password as it is: for modules that cannot change it, as AWS CloudHSM's.
	KeepPassword bool     `yaml:"keep-password"`
	Replication  string   `yaml:"replication"` // "wrapped" (or empty) or "module"
	Members      []Member `yaml:"members"`
}

// Member is one HSM: a PKCS#11 token.
type Member struct {
	ID               string        `yaml:"id"` // "hsm-" and 11 to 16 characters
	AvailabilityZone string        `yaml:"availability-zone"`
	Address          string        `yaml:"address"` // IP address, shown to people; may be empty
	URI              string        `yaml:"uri"`     // RFC 7512, with module-path and without a PIN
	Env              []string      `yaml:"env"`     // "NAME=value" for the module
	IV               string        `yaml:"iv"`      // who makes IVs: empty, "module", "module-append" or "token-random"
	InProcess        bool          `yaml:"in-process"`
	Sessions         int           `yaml:"sessions"`
	CallTimeout      time.Duration `yaml:"call-timeout"`
}

func (c *Config) checkHSM(p *problems) {
	c.checkPools(p)
	before := len(p.errs)
	declaration := c.declaration(p)
	if len(p.errs) > before {
		return
	}
	for i, cluster := range declaration.Clusters {
		c.checkOwned(p, where{"hsm", "clusters", i}, cluster)
		_, err := cloudhsm.Declare(cloudhsm.Declaration{Clusters: []cloudhsm.Cluster{cluster}, Subnets: declaration.Subnets})
		p.check(where{"hsm", "clusters", i}, err)
	}
	if len(p.errs) == before { // what two of them have in common
		_, err := cloudhsm.Declare(declaration)
		p.check(where{"hsm"}, err)
	}
}

// checkOwned refuses a cluster that nobody could use.
func (c *Config) checkOwned(p *problems, w where, cluster cloudhsm.Cluster) {
	declared := slices.ContainsFunc(c.Accounts, func(a Account) bool { return a.ID == cluster.Account })
	if accountID.MatchString(cluster.Account) && !declared {
		p.add(w.at("account"), "is not among accounts")
	}
	if len(c.Regions) > 0 && !slices.Contains(c.Regions, cluster.Region) {
		p.add(w.at("region"), "is not among regions")
	}
}

// declaration turns the section into what package cloudhsm knows.
func (c *Config) declaration(p *problems) cloudhsm.Declaration {
	var d cloudhsm.Declaration
	for i, s := range c.HSM.Subnets {
		prefix, err := netip.ParsePrefix(s.CIDR)
		if err != nil {
			p.add(where{"hsm", "subnets", i, "cidr"}, "is not a CIDR block such as 10.0.1.0/24")
		}
		d.Subnets = append(d.Subnets, cloudhsm.Subnet{
			ID: s.ID, VPC: s.VPC, AvailabilityZone: s.AvailabilityZone, CIDR: prefix, InUse: s.InUse,
		})
	}
	for i, cluster := range c.HSM.Clusters {
		w := where{"hsm", "clusters", i}
		out := c.cluster(p, w, cluster)
		if out.SubnetMapping == nil {
			var implied []cloudhsm.Subnet
			out.SubnetMapping, implied = impliedSubnets(out)
			d.Subnets = append(d.Subnets, implied...)
		}
		d.Clusters = append(d.Clusters, out)
	}
	return d
}

func (c *Config) cluster(p *problems, w where, in Cluster) cloudhsm.Cluster {
	if !regionName.MatchString(in.Region) {
		p.add(w.at("region"), "is not the name of a region, such as eu-central-1")
	}
	out := cloudhsm.Cluster{
		ID: in.ID, Account: in.Account, Region: in.Region, State: cloudhsmapi.ClusterState(in.State),
		SubnetMapping: in.Subnets, SecurityGroupAltered: in.SecurityGroupAltered, MTLS: in.MTLS,
		PINFormat: cloudhsm.PINFormat(in.PINFormat), KeepPassword: in.KeepPassword, Replication: cloudhsm.Replication(in.Replication),
	}
	var err error
	if p.need(w.at("trust-anchor"), in.TrustAnchor) {
		out.TrustAnchor, err = readCertificate(c.path(in.TrustAnchor))
		p.check(w.at("trust-anchor"), err)
	}
	if in.Certificate != "" {
		out.ClusterCertificate, err = readCertificate(c.path(in.Certificate))
		p.check(w.at("certificate"), err)
	}
	for i, m := range in.Members {
		out.Members = append(out.Members, m.member(p, w.at("members", i)))
	}
	return out
}

func (m Member) member(p *problems, w where) cloudhsm.Member {
	out := cloudhsm.Member{ID: m.ID, AvailabilityZone: m.AvailabilityZone, IP: m.Address}
	if p.need(w.at("uri"), m.URI) {
		uri, err := pkcs11.ParseURI(m.URI)
		p.check(w.at("uri"), err)
		if err == nil && uri.ModulePath == "" {
			p.add(w.at("uri"), "has no module-path")
		}
		out.Token.URI = uri
	}
	switch iv := pkcs11.IVSource(m.IV); iv {
	case pkcs11.IVByCaller, pkcs11.IVByModule, pkcs11.IVInOutput, pkcs11.IVFromTokenRNG:
		out.Token.IV = iv
	default:
		p.add(w.at("iv"), "is not one of module, module-append and token-random")
	}
	for i, entry := range m.Env {
		if name, _, ok := strings.Cut(entry, "="); !ok || name == "" {
			p.add(w.at("env", i), "is not NAME=value")
		}
	}
	if m.Sessions < 0 {
		p.add(w.at("sessions"), "is negative")
	}
	if m.CallTimeout < 0 {
		p.add(w.at("call-timeout"), "is negative")
	}
	out.Token.Env, out.Token.InProcess = m.Env, m.InProcess
	out.Token.Sessions, out.Token.CallTimeout = m.Sessions, m.CallTimeout
	return out
}

// impliedSubnets gives a cluster whose subnets are not declared a roomy one in each zone of its members.
func impliedSubnets(c cloudhsm.Cluster) (mapping map[string]string, subnets []cloudhsm.Subnet) {
	mapping = make(map[string]string)
	for _, m := range c.Members {
		if mapping[m.AvailabilityZone] != "" || m.AvailabilityZone == "" {
			continue
		}
		sum := sha256.Sum256([]byte(c.ID + " " + m.AvailabilityZone))
		id := fmt.Sprintf("subnet-%x", sum[:8])
		mapping[m.AvailabilityZone] = id
		subnets = append(subnets, cloudhsm.Subnet{
			ID: id, AvailabilityZone: m.AvailabilityZone, CIDR: netip.MustParsePrefix("10.0.0.0/16"),
		})
	}
	return mapping, subnets
}
