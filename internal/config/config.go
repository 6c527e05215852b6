package config

import (
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/rootkey"
)

// Config is a server's configuration. Load reads it; development mode and
// tests make it themselves.
type Config struct {
	Listen        Listen    `yaml:"listen"`
	Regions       []string  `yaml:"regions"`        // those served; none means any that a client signs for
	DataDirectory string    `yaml:"data-directory"` // holds the metadata store
	RootKey       RootKey   `yaml:"root-key"`
	Accounts      []Account `yaml:"accounts"`
	// UnknownPrincipals lets key policies and grants name principals that are not among the accounts.
	UnknownPrincipals bool              `yaml:"accept-unknown-principals"`
	HSM               HSM               `yaml:"hsm"`
	ExternalKeyStores ExternalKeyStores `yaml:"external-key-stores"`
	Audit             Audit             `yaml:"audit"`
	Quotas            Quotas            `yaml:"quotas"`
	Limits            Limits            `yaml:"limits"`
	Log               Log               `yaml:"log"`
	Metrics           Metrics           `yaml:"metrics"`
	Tracing           Tracing           `yaml:"tracing"`
	Nitro             Nitro             `yaml:"nitro"`

	// Directory is what relative paths are relative to; empty means the working directory.
	Directory string `yaml:"-"`

	root *rootkey.Key // once it is read: a variable can be read only once
}

// Listen is where clients connect.
type Listen struct {
	Address string `yaml:"address"` // "host:port"
	TLS     TLS    `yaml:"tls"`
	// PlainHTTP allows to serve without TLS on an address that others can reach.
	PlainHTTP bool `yaml:"plain-http"`
}

// TLS names the server's certificate. The files are read again when they change.
type TLS struct {
	Certificate string `yaml:"certificate"` // PEM file, the server's certificate first
	Key         string `yaml:"key"`         // PEM file that only its owner can read
}

// RootKey says where the root key is. Exactly one of the two is set.
type RootKey struct {
	File string `yaml:"file"` // as `kastellan root-key generate` makes it
	Env  string `yaml:"env"`  // the name of a variable
}

// Quotas are the limits of each account in each Region; zero means AWS's.
type Quotas struct {
	Keys          int     `yaml:"keys"`
	AliasesPerKey int     `yaml:"aliases-per-key"`
	GrantsPerKey  int     `yaml:"grants-per-key"`
	KeyStores     int     `yaml:"custom-key-stores"`
	KeyStoreRate  float64 `yaml:"custom-key-store-requests-per-second"`

	// RequestRates is RatesOfAWS or RatesOff; empty means the former.
	RequestRates string `yaml:"request-rates"`
	// RequestsPerSecond has other values than AWS's, by the names of kms.RequestQuotas.
	RequestsPerSecond map[string]float64 `yaml:"requests-per-second"`
}

// The values of Quotas.RequestRates.
const (
	RatesOfAWS = "aws"
	RatesOff   = "off"
)

func (q Quotas) kms() kms.Quotas {
	return kms.Quotas{Keys: q.Keys, AliasesPerKey: q.AliasesPerKey, GrantsPerKey: q.GrantsPerKey, KeyStores: q.KeyStores, KeyStoreRate: q.KeyStoreRate,
		Requests: kms.RequestRates{Enforced: q.RequestRates != RatesOff, PerSecond: q.RequestsPerSecond}}
}

// Metrics says who may read /metrics, besides this machine, and what is there to read.
type Metrics struct {
	From []netip.Prefix `yaml:"from"`
	Keys int            `yaml:"keys"` // that have metrics of their own; zero means none
}

// maxMetricKeys keeps /metrics of a size that can be read every few seconds.
const maxMetricKeys = 10_000

// Limits bound what the process takes on; zero means the default.
type Limits struct {
	Requests       int           `yaml:"concurrent-requests"`
	Connections    int           `yaml:"connections"`
	BufferedBytes  int64         `yaml:"buffered-bytes"` // of the bodies of all requests
	RequestTimeout time.Duration `yaml:"request-timeout"`
	ConnectTimeout time.Duration `yaml:"connect-timeout"` // of one attempt to connect a custom key store
	Shutdown       time.Duration `yaml:"shutdown-timeout"`
}

// Log says what is logged and how. The log goes to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info (the default), warn or error
	Format string `yaml:"format"` // text (the default) or json
}

// Logger makes the logger.
func (l Log) Logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // checked already; info otherwise
	options := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

// path makes a path of the configuration usable; empty stays empty.
func (c *Config) path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.Directory, name)
}

var (
	regionName = regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+$`)
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
)

// check finds everything that is wrong with the configuration.
func (c *Config) check(p *problems) {
	c.checkListen(p)
	for i, region := range c.Regions {
		if !regionName.MatchString(region) {
			p.add(where{"regions", i}, "is not the name of a region, such as eu-central-1")
		}
	}
	p.need(where{"data-directory"}, c.DataDirectory)
	c.checkRootKey(p)
	c.checkAccounts(p)
	c.checkHSM(p)
	c.checkExternal(p)
	c.checkTracing(p)
	c.checkNitro(p)
	c.checkRest(p)
}

func (c *Config) checkListen(p *problems) {
	w := where{"listen"}
	if p.need(w.at("address"), c.Listen.Address) {
		p.check(w.at("address"), checkAddress(c.Listen.Address))
	}
	t := c.Listen.TLS
	switch {
	case t.Certificate == "" && t.Key == "":
		if !c.Listen.PlainHTTP && !Loopback(c.Listen.Address) {
			p.add(w, "needs tls, or plain-http: true if everything on the way to its clients may read what they send")
		}
		return
	case c.Listen.PlainHTTP:
		p.add(w.at("plain-http"), "contradicts tls: give one of them")
	}
	if p.need(w.at("tls", "certificate"), t.Certificate) && p.need(w.at("tls", "key"), t.Key) {
		p.check(w.at("tls"), checkKeyPair(c.path(t.Certificate), c.path(t.Key)))
	}
}

func (c *Config) checkRootKey(p *problems) {
	w := where{"root-key"}
	if (c.RootKey.File == "") == (c.RootKey.Env == "") {
		p.add(w, "needs either file or env; `kastellan root-key generate` makes a file")
		return
	}
	_, err := c.rootKey()
	p.check(w, err)
}

// rootKey reads the root key, the first time from where it is.
func (c *Config) rootKey() (rootkey.Key, error) {
	if c.root == nil {
		key, err := rootkey.Load(rootkey.Source{File: c.path(c.RootKey.File), Env: c.RootKey.Env})
		if err != nil {
			return key, err
		}
		c.root = &key
	}
	return *c.root, nil
}

func (c *Config) checkRequestRates(p *problems) {
	switch c.Quotas.RequestRates {
	case "", RatesOfAWS:
	case RatesOff:
		if len(c.Quotas.RequestsPerSecond) > 0 {
			p.add(where{"quotas", "requests-per-second"}, "contradicts request-rates: off")
		}
	default:
		p.add(where{"quotas", "request-rates"}, "is neither aws nor off")
	}
	known := kms.RequestQuotas("")
	for _, name := range slices.Sorted(maps.Keys(c.Quotas.RequestsPerSecond)) {
		if _, ok := known[name]; !ok {
			p.add(where{"quotas", "requests-per-second", name}, "is not the name of a request quota; there are %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if perSecond := c.Quotas.RequestsPerSecond[name]; !(perSecond >= 0.001 && perSecond <= 1e9) {
			p.add(where{"quotas", "requests-per-second", name}, "is not between 0.001 and 1000000000")
		}
	}
}

func (c *Config) checkRest(p *problems) {
	c.checkAudit(p)
	if l := c.Log.Level; l != "" && !slices.Contains([]string{"debug", "info", "warn", "error"}, l) {
		p.add(where{"log", "level"}, "is not one of debug, info, warn and error")
	}
	if f := c.Log.Format; f != "" && f != "text" && f != "json" {
		p.add(where{"log", "format"}, "is neither text nor json")
	}
	if k := c.Metrics.Keys; k < 0 || k > maxMetricKeys {
		p.add(where{"metrics", "keys"}, "is not between 0 and %d", maxMetricKeys)
	}
	c.checkRequestRates(p)
	for name, value := range map[string]float64{
		"keys": float64(c.Quotas.Keys), "aliases-per-key": float64(c.Quotas.AliasesPerKey), "grants-per-key": float64(c.Quotas.GrantsPerKey),
		"custom-key-stores": float64(c.Quotas.KeyStores), "custom-key-store-requests-per-second": c.Quotas.KeyStoreRate,
	} {
		if value < 0 {
			p.add(where{"quotas", name}, "is negative")
		}
	}
	for name, value := range map[string]int64{
		"concurrent-requests": int64(c.Limits.Requests), "connections": int64(c.Limits.Connections), "buffered-bytes": c.Limits.BufferedBytes, "request-timeout": int64(c.Limits.RequestTimeout),
		"connect-timeout": int64(c.Limits.ConnectTimeout), "shutdown-timeout": int64(c.Limits.Shutdown),
	} {
		if value < 0 {
			p.add(where{"limits", name}, "is negative")
		}
	}
}
