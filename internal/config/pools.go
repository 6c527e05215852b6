package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/pkcs11"
)

// Pool is where the tokens come from of which the CloudHSM API makes HSMs, in one availability zone.
type Pool struct {
	Name             string      `yaml:"name"`
	AvailabilityZone string      `yaml:"availability-zone"` // such as us-east-1a
	HsmTypes         []string    `yaml:"hsm-types"`         // of the HSMs that can be made; none: all
	SoftHSM2         *SoftHSM2   `yaml:"softhsm2"`
	Tokens           []PoolToken `yaml:"tokens"`
}

// SoftHSM2 makes tokens of SoftHSM2 on demand: for development, tests and a first look.
type SoftHSM2 struct {
	Module      string        `yaml:"module"`    // libsofthsm2.so
	Directory   string        `yaml:"directory"` // of the tokens, and of nothing else
	Tokens      int           `yaml:"tokens"`    // at most so many; zero means 8
	Sessions    int           `yaml:"sessions"`
	CallTimeout time.Duration `yaml:"call-timeout"`
}

// PoolToken is a token or partition that there is already. It has one of the two PIN files.
type PoolToken struct {
	URI         string        `yaml:"uri"`          // RFC 7512, with module-path and without a PIN
	SOPINFile   string        `yaml:"so-pin-file"`  // of the security officer, who initialises the token for each HSM
	PINFile     string        `yaml:"pin-file"`     // of the user; the token is used as it stands
	Env         []string      `yaml:"env"`          // as of Member
	IV          string        `yaml:"iv"`           // as of Member
	Sessions    int           `yaml:"sessions"`     // as of Member
	CallTimeout time.Duration `yaml:"call-timeout"` // as of Member
}

// Vault is the backup HSM, which holds the keys that backups are wrapped under. It has one of the two.
type Vault struct {
	Name     string     `yaml:"name"` // none: vault. One that is called otherwise is another one
	SoftHSM2 *SoftHSM2  `yaml:"softhsm2"`
	Token    *PoolToken `yaml:"token"`
}

// HSMQuotas are the limits of each account in each Region; zero means AWS's.
type HSMQuotas struct {
	Clusters int `yaml:"clusters"`
	HSMs     int `yaml:"hsms"`
}

const (
	// usualVault is what the backup HSM is called, and its pool, if it has no other name.
	usualVault = "vault"
	// usualTokens is how many tokens a pool of SoftHSM2 makes if it does not say.
	usualTokens = 8
)

// checkPools reads PIN files too: what is wrong with them is to be seen before a cluster needs them.
func (c *Config) checkPools(p *problems) {
	w := where{"hsm"}
	before := len(p.errs)
	pools := c.pools(p)
	if len(c.HSM.Pools) > 0 && c.HSM.Vault == nil {
		p.add(w.at("vault"), "is missing: without a backup HSM no cluster of the pools would survive the loss of its HSMs")
	}
	if c.HSM.Quotas.Clusters < 0 || c.HSM.Quotas.HSMs < 0 {
		p.add(w.at("quotas"), "has a negative number")
	}
	for name, d := range map[string]time.Duration{"backup-interval": c.HSM.BackupInterval, "replace-after": c.HSM.ReplaceAfter} {
		if d < 0 {
			p.add(w.at(name), "is negative")
		}
	}
	if len(p.errs) == before {
		_, err := rack.NewPools(pools)
		p.check(w.at("pools"), err)
	}
}

// pools turns the section into what package rack knows, with the backup HSM as a pool that is in no zone.
func (c *Config) pools(p *problems) (out []rack.Pool) {
	for i, in := range c.HSM.Pools {
		w := where{"hsm", "pools", i}
		p.need(w.at("name"), in.Name)
		if v := c.HSM.Vault; v != nil && in.Name == v.name() {
			p.add(w.at("name"), "is the backup HSM's")
		}
		if p.need(w.at("availability-zone"), in.AvailabilityZone) && !isZone(in.AvailabilityZone) {
			p.add(w.at("availability-zone"), "is not the name of one, such as us-east-1a")
		}
		pool := rack.Pool{Name: in.Name, AvailabilityZone: in.AvailabilityZone, HsmTypes: in.HsmTypes}
		pool.SoftHSM2 = c.softHSM2(p, w.at("softhsm2"), in.SoftHSM2)
		for j, token := range in.Tokens {
			pool.Tokens = append(pool.Tokens, c.poolToken(p, w.at("tokens", j), token))
		}
		out = append(out, pool)
	}
	if v := c.HSM.Vault; v != nil {
		w := where{"hsm", "vault"}
		if (v.SoftHSM2 == nil) == (v.Token == nil) {
			p.add(w, "needs one of softhsm2 and token")
		}
		pool := rack.Pool{Name: v.name(), AvailabilityZone: "(none)", SoftHSM2: c.softHSM2(p, w.at("softhsm2"), v.SoftHSM2)}
		if v.Token != nil {
			pool.Tokens = append(pool.Tokens, c.poolToken(p, w.at("token"), *v.Token))
		}
		out = append(out, pool)
	}
	return out
}

func (v *Vault) name() string { return cmp.Or(v.Name, usualVault) }

// isZone tells whether text is the name of a Region and a letter.
func isZone(text string) bool {
	if text == "" {
		return false
	}
	letter := text[len(text)-1]
	return letter >= 'a' && letter <= 'z' && regionName.MatchString(text[:len(text)-1])
}

func (c *Config) softHSM2(p *problems, w where, in *SoftHSM2) *rack.SoftHSM2 {
	if in == nil {
		return nil
	}
	p.need(w.at("module"), in.Module)
	p.need(w.at("directory"), in.Directory)
	if in.Tokens < 0 || in.Sessions < 0 || in.CallTimeout < 0 {
		p.add(w, "has a negative number")
	}
	out := &rack.SoftHSM2{Module: in.Module, Tokens: in.Tokens, Sessions: in.Sessions, CallTimeout: in.CallTimeout}
	if in.Directory != "" {
		var err error
		out.Directory, err = filepath.Abs(c.path(in.Directory)) // modules are told where their tokens are
		p.check(w.at("directory"), err)
	}
	if out.Tokens == 0 {
		out.Tokens = usualTokens
	}
	return out
}

func (c *Config) poolToken(p *problems, w where, in PoolToken) rack.DeclaredToken {
	as := Member{URI: in.URI, Env: in.Env, IV: in.IV, Sessions: in.Sessions, CallTimeout: in.CallTimeout}.member(p, w)
	out := rack.DeclaredToken{Config: as.Token}
	if c.declares(as.Token) {
		p.add(w.at("uri"), "is a member of a cluster under hsm.clusters: in a pool all of its keys would be destroyed")
	}
	var err error
	switch {
	case (in.SOPINFile == "") == (in.PINFile == ""):
		p.add(w, "needs one of so-pin-file and pin-file")
	case in.SOPINFile != "":
		out.SOPIN, err = readSecret(c.path(in.SOPINFile))
		p.check(w.at("so-pin-file"), err)
	default:
		out.PIN, err = readSecret(c.path(in.PINFile))
		p.check(w.at("pin-file"), err)
	}
	return out
}

// declares tells whether a token is for certain one of a declared cluster's: the same module with the same
// environment has no two tokens of one serial number, and none of one label that URIs may name.
func (c *Config) declares(token pkcs11.Config) bool {
	for _, cluster := range c.HSM.Clusters {
		for _, m := range cluster.Members {
			uri, err := pkcs11.ParseURI(m.URI)
			if err != nil || uri.ModulePath != token.URI.ModulePath || !slices.Equal(m.Env, token.Env) {
				continue
			}
			bySerial, byLabel := uri.Serial != "" && token.URI.Serial != "", uri.Token != "" && token.URI.Token != ""
			if bySerial && uri.Serial == token.URI.Serial || !bySerial && byLabel && uri.Token == token.URI.Token {
				return true
			}
		}
	}
	return false
}

// openControl opens the control plane of HSM clusters.
func (n *Node) openControl(cfg control.Config, o Options) error {
	p := &problems{}
	pools := n.cfg.pools(p)
	if err := p.err(); err != nil {
		return err
	}
	if len(pools) > 0 {
		var err error
		if cfg.Pools, err = rack.NewPools(pools); err != nil {
			return err
		}
	}
	if v := n.cfg.HSM.Vault; v != nil {
		cfg.Vault = v.name()
	}
	cfg.Rack = rack.New(rack.Config{Open: o.OpenToken})
	cfg.Declared, cfg.Logger, cfg.Metrics, cfg.Regions = n.clusters, n.log, n.Metrics, n.cfg.Regions
	cfg.Quotas = control.Quotas{Clusters: n.cfg.HSM.Quotas.Clusters, HSMs: n.cfg.HSM.Quotas.HSMs}
	cfg.Timing.Backup, cfg.Timing.ReplaceAfter = n.cfg.HSM.BackupInterval, n.cfg.HSM.ReplaceAfter
	if o.Control != nil {
		o.Control(&cfg)
	}
	var err error
	if n.hsms, err = control.Open(cfg); err != nil {
		return fmt.Errorf("opening the control plane of HSM clusters: %w", err)
	}
	n.later(n.hsms.Close)
	n.clusters.CountAlso(n.hsms.HSMsIn)
	return nil
}
