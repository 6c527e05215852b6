package xksproxy

import (
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/tracing"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy/keyfile"
)

// Config is what a proxy serves. Everything is in memory: secrets are read,
// key files are open. A Config must not be changed once it is given away.
type Config struct {
	Rings  []RingConfig
	Stores []StoreConfig

	// FleetSize is the number of proxies behind the endpoint; zero means 1.
	FleetSize int
	// Version of the product, for xksProxyModel; empty means "devel".
	Version string
	// HealthCache is how long a health check is believed, at most a minute; zero means 15 s.
	HealthCache time.Duration
	// MaxBody is the largest body in bytes; zero means 128 KiB, and less than 32 KiB is an error.
	MaxBody int64
	// MaxRequests is how many requests may run at once, signed or not; zero means 1024. Four
	// times as many may be on their way, with a body that has not arrived yet.
	MaxRequests int
	// LivenessPath answers GET with 200 and needs no signature; empty means /livez.
	LivenessPath string

	// Logger receives one record for each request; nil drops them. Reload keeps the first.
	Logger *slog.Logger
	// Registry receives the metrics; nil means one of the proxy's own. Reload keeps the first.
	Registry *prometheus.Registry
	// Tracer begins the traces of requests; nil means there are none. Reload keeps the first.
	Tracer *tracing.Tracer
	// Now is the clock for signatures; nil means time.Now.
	Now func() time.Time
}

// RingConfig is a place where keys live. Exactly one of Tokens, Keys and Ring is set.
type RingConfig struct {
	Name   string
	Tokens *TokenRing
	Keys   *keyfile.File
	Ring   Ring // ready-made, a pointer; the proxy does not close it

	// Timeout is how long the ring may take over one request; zero means
	// 200 ms, which leaves 50 of the 250 ms that KMS waits.
	Timeout time.Duration
	// Vendor overrides what the ring says of its maker.
	Vendor string
}

// TokenRing is a set of PKCS#11 tokens that hold the same keys.
type TokenRing struct {
	Members []TokenMember
	// HealthKey is the label of an AES-256 key that only health checks use.
	HealthKey string
	// SlowAfter is how long the test of a member may take before it counts as
	// DEGRADED; zero means half of the ring's Timeout.
	SlowAfter time.Duration
	// LoginTimeout bounds opening a token and logging in; zero means 10 s.
	LoginTimeout time.Duration
	// Timeout is that of the ring; it is filled in from there.
	Timeout time.Duration
}

// TokenMember is one token.
type TokenMember struct {
	Name   string // goes to KMS as the id of a key manager
	PKCS11 pkcs11.Config
	PIN    secret.Text
	// Concurrent is how many requests may use the token at once; what exceeds
	// it is throttled. Zero means 64.
	Concurrent int
	// Token, a pointer, is used instead of opening PKCS11; the proxy logs in but does not close it.
	Token pkcs11.Token
}

// StoreConfig is one external key store: what a URI prefix leads to.
type StoreConfig struct {
	Prefix      string   // "" or "/…", in front of /kms/xks/v1
	Ring        string   // name of a ring
	Regions     []string // that may call; empty means any
	Credentials []Credential

	// Keys lists the keys that the store shows; AllKeys shows every key of
	// the ring under its own label. One of the two is set.
	Keys    []KeyConfig
	AllKeys bool

	// Rules are asked from top to bottom, the first that matches decides;
	// Default decides where none does. Without rules, empty means Allow.
	Rules   []Rule
	Default Effect

	Limits Limits
}

// Credential is a SigV4 key pair that KMS signs with.
type Credential struct {
	AccessKeyID string      // 20 to 30 characters of A-Z and 2-7
	Secret      secret.Text // 43 to 64 characters of A-Z a-z 0-9 / + =
}

// KeyConfig is one external key of a store.
type KeyConfig struct {
	ID string
	// Labels are the names of the key's versions in the ring, oldest first;
	// the last encrypts. Empty means the ID. More than one is for tokens only.
	Labels   []string
	Disabled bool
	// Usage restricts what the ring allows: ENCRYPT, DECRYPT. Nil means both, empty neither.
	Usage []string
}

// Limits of a store. The zero value of each means its default.
type Limits struct {
	Concurrent   int     // requests at once; 256
	Rate         float64 // requests per second; zero means no limit
	Burst        int     // requests above the rate; a tenth of a second's worth
	MaxPlaintext int     // bytes, at least 4300; 4300
	MaxAAD       int     // bytes, 8192 to 65535; 8192
}

// FieldError is a wrong setting. Path names it as the configuration file does:
// "stores[0].credentials[1].secret".
type FieldError struct {
	Path    string
	Problem string // never a secret
}

// Error implements error.
func (e *FieldError) Error() string { return e.Path + ": " + e.Problem }

var (
	prefixPattern      = regexp.MustCompile(`^(/[A-Za-z0-9_-]+)+$`)
	accessKeyIDPattern = regexp.MustCompile(`^[A-Z2-7]{20,30}$`)
	secretPattern      = regexp.MustCompile(`^[A-Za-z0-9/+=]{43,64}$`)
)

const maxPrefix = 117 // characters: KMS allows a path of 128

// withDefaults checks the settings and fills in what is zero. The receiver stays as it is.
func (c Config) withDefaults() (Config, error) {
	c.FleetSize = orDefault(c.FleetSize, 1)
	c.Version = orDefault(c.Version, "devel")
	c.HealthCache = orDefault(c.HealthCache, 15*time.Second)
	c.MaxBody = orDefault(c.MaxBody, 128<<10)
	c.MaxRequests = orDefault(c.MaxRequests, 1024)
	c.LivenessPath = orDefault(c.LivenessPath, "/livez")
	switch {
	case c.FleetSize < 0:
		return c, &FieldError{"fleet_size", "must be above zero"}
	case c.HealthCache < 0 || c.HealthCache > time.Minute:
		return c, &FieldError{"health_cache", "must be at most a minute"}
	case c.MaxBody < 32<<10:
		return c, &FieldError{"max_body", "must be at least 32768 bytes: what KMS may send has to fit"}
	case c.MaxRequests < 0:
		return c, &FieldError{"max_requests", "must be above zero"}
	case !strings.HasPrefix(c.LivenessPath, "/"):
		return c, &FieldError{"liveness_path", "must begin with a slash"}
	case len(c.Stores) == 0:
		return c, &FieldError{"stores", "there must be at least one"}
	}
	if _, taken := parsePath(c.LivenessPath); taken {
		return c, &FieldError{"liveness_path", "belongs to the XKS Proxy API"}
	}
	rings := map[string]RingConfig{}
	c.Rings = append([]RingConfig(nil), c.Rings...)
	for i := range c.Rings {
		r, err := c.Rings[i].withDefaults(fmt.Sprintf("rings[%d]", i))
		if err != nil {
			return c, err
		}
		if _, twice := rings[r.Name]; twice {
			return c, &FieldError{fmt.Sprintf("rings[%d].name", i), "is there twice"}
		}
		c.Rings[i], rings[r.Name] = r, r
	}
	prefixes := map[string]bool{}
	c.Stores = append([]StoreConfig(nil), c.Stores...)
	for i := range c.Stores {
		path := fmt.Sprintf("stores[%d]", i)
		s, err := c.Stores[i].withDefaults(path, rings, c.MaxBody)
		if err != nil {
			return c, err
		}
		if prefixes[s.Prefix] {
			return c, &FieldError{path + ".prefix", "is there twice"}
		}
		c.Stores[i], prefixes[s.Prefix] = s, true
	}
	return c, nil
}

func (r RingConfig) withDefaults(path string) (RingConfig, error) {
	r.Timeout = orDefault(r.Timeout, 200*time.Millisecond)
	kinds := 0
	for _, set := range []bool{r.Tokens != nil, r.Keys != nil, r.Ring != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case r.Name == "":
		return r, &FieldError{path + ".name", "is missing"}
	case kinds != 1:
		return r, &FieldError{path, "is either a set of tokens or a key file"}
	case r.Timeout < 0:
		return r, &FieldError{path + ".timeout", "must be above zero"}
	case r.Tokens == nil:
		return r, nil
	}
	t := *r.Tokens
	t.Timeout = r.Timeout
	t.SlowAfter = orDefault(t.SlowAfter, r.Timeout/2)
	t.LoginTimeout = orDefault(t.LoginTimeout, 10*time.Second)
	t.Members = append([]TokenMember(nil), t.Members...)
	r.Tokens = &t
	switch {
	case t.SlowAfter < 0:
		return r, &FieldError{path + ".slow_after", "must be above zero"}
	case t.LoginTimeout < 0:
		return r, &FieldError{path + ".login_timeout", "must be above zero"}
	}
	return r, t.check(path)
}

// same tells that a ring that was opened with o serves r too. Secrets have no
// ==, and key files are compared by identity: Resolve reads them anew.
func (r RingConfig) same(o RingConfig) bool {
	if r.Name != o.Name || r.Timeout != o.Timeout || r.Vendor != o.Vendor || r.Keys != o.Keys || r.Ring != o.Ring {
		return false
	}
	if r.Tokens == nil || o.Tokens == nil {
		return r.Tokens == o.Tokens
	}
	a, b := r.Tokens, o.Tokens
	return a.HealthKey == b.HealthKey && a.SlowAfter == b.SlowAfter && a.LoginTimeout == b.LoginTimeout &&
		slices.EqualFunc(a.Members, b.Members, TokenMember.same)
}

func (m TokenMember) same(o TokenMember) bool {
	return m.Name == o.Name && m.Concurrent == o.Concurrent && m.Token == o.Token &&
		m.PIN.Equal(o.PIN) && reflect.DeepEqual(m.PKCS11, o.PKCS11)
}

func (t *TokenRing) check(path string) error {
	if len(t.Members) == 0 {
		return &FieldError{path + ".tokens", "there must be at least one"}
	}
	if t.HealthKey == "" {
		return &FieldError{path + ".health_key", "is missing: the label of an AES-256 key that only health checks use"}
	}
	names := map[string]bool{}
	for i := range t.Members {
		m := &t.Members[i]
		at := fmt.Sprintf("%s.tokens[%d]", path, i)
		m.Concurrent = orDefault(m.Concurrent, 64)
		switch {
		case m.Name == "":
			return &FieldError{at + ".name", "is missing"}
		case names[m.Name]:
			return &FieldError{at + ".name", "is there twice"}
		case m.PIN.IsEmpty():
			return &FieldError{at + ".pin", "is missing"}
		case m.Concurrent < 0:
			return &FieldError{at + ".concurrent", "must be above zero"}
		case m.Token == nil && m.PKCS11.URI.ModulePath == "":
			return &FieldError{at + ".uri", "has no module-path"}
		}
		names[m.Name] = true
	}
	return nil
}

func (s StoreConfig) withDefaults(path string, rings map[string]RingConfig, maxBody int64) (StoreConfig, error) {
	ring, ok := rings[s.Ring]
	switch {
	case s.Prefix != "" && (!prefixPattern.MatchString(s.Prefix) || len(s.Prefix) > maxPrefix):
		return s, &FieldError{path + ".prefix", "must be empty, or segments of letters, digits, - and _ with a slash before each, 117 characters at most"}
	case !ok:
		return s, &FieldError{path + ".ring", "names no ring"}
	}
	if err := checkCredentials(path+".credentials", s.Credentials); err != nil {
		return s, err
	}
	if err := s.checkKeys(path, ring); err != nil {
		return s, err
	}
	if err := s.checkRules(path); err != nil {
		return s, err
	}
	s.Default = orDefault(s.Default, Allow)
	var err error
	s.Limits, err = s.Limits.withDefaults(path+".limits", maxBody)
	return s, err
}

func checkCredentials(path string, credentials []Credential) error {
	if len(credentials) == 0 {
		return &FieldError{path, "there must be at least one"}
	}
	seen := map[string]bool{}
	for i, c := range credentials {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case !accessKeyIDPattern.MatchString(c.AccessKeyID):
			return &FieldError{at + ".access_key_id", "must be 20 to 30 characters of A-Z and 2-7"}
		case !secretPattern.MatchString(c.Secret.Reveal()):
			return &FieldError{at + ".secret", "must be 43 to 64 characters of A-Z a-z 0-9 / + ="}
		case seen[c.AccessKeyID]:
			return &FieldError{at + ".access_key_id", "is there twice"}
		}
		seen[c.AccessKeyID] = true
	}
	return nil
}

func (s StoreConfig) checkKeys(path string, ring RingConfig) error {
	if s.AllKeys == (len(s.Keys) > 0) {
		return &FieldError{path + ".keys", "either list the keys, or say all_keys: true"}
	}
	ids := map[string]bool{}
	for i, k := range s.Keys {
		at := fmt.Sprintf("%s.keys[%d]", path, i)
		switch {
		case !validKeyID(k.ID):
			return &FieldError{at + ".id", "must be 1 to 128 characters of A-Z a-z 0-9 - _ ."}
		case ids[k.ID]:
			return &FieldError{at + ".id", "is there twice"}
		case len(k.Labels) > 1 && ring.Tokens == nil:
			return &FieldError{at + ".labels", "several labels are for tokens: a key file keeps versions itself"}
		case len(k.Labels) > maxVersions:
			return &FieldError{at + ".labels", "too many versions"}
		}
		ids[k.ID] = true
		if len(k.Labels) == 0 && ring.Tokens != nil && k.ID == ring.Tokens.HealthKey {
			return &FieldError{at + ".id", "is the key for health checks"}
		}
		for j, label := range k.Labels {
			if label == "" || ring.Tokens != nil && label == ring.Tokens.HealthKey {
				return &FieldError{fmt.Sprintf("%s.labels[%d]", at, j), "must not be empty nor the key for health checks"}
			}
		}
		for j, u := range k.Usage {
			if u != xksapi.UsageEncrypt && u != xksapi.UsageDecrypt {
				return &FieldError{fmt.Sprintf("%s.usage[%d]", at, j), "must be ENCRYPT or DECRYPT"}
			}
		}
	}
	return nil
}

func (s StoreConfig) checkRules(path string) error {
	switch {
	case s.Default != "" && s.Default != Allow && s.Default != Deny:
		return &FieldError{path + ".default", "must be allow or deny"}
	case s.Default == "" && len(s.Rules) > 0:
		return &FieldError{path + ".default", "must say allow or deny when there are rules"}
	}
	for i, r := range s.Rules {
		if err := r.check(fmt.Sprintf("%s.rules[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}

func (l Limits) withDefaults(path string, maxBody int64) (Limits, error) {
	l.Concurrent = orDefault(l.Concurrent, 256)
	l.MaxPlaintext = orDefault(l.MaxPlaintext, xksapi.MaxPlaintext)
	l.MaxAAD = orDefault(l.MaxAAD, xksapi.MaxAAD)
	l.Burst = orDefault(l.Burst, max(1, int(l.Rate/10)))
	switch {
	case l.Concurrent < 0:
		return l, &FieldError{path + ".concurrent", "must be above zero"}
	case l.Rate < 0:
		return l, &FieldError{path + ".rate", "must not be negative"}
	case l.Burst < 0:
		return l, &FieldError{path + ".burst", "must be above zero"}
	case l.MaxPlaintext < xksapi.MaxPlaintext:
		return l, &FieldError{path + ".max_plaintext", "must be at least 4300 bytes"}
	case l.MaxAAD < xksapi.MaxAAD || l.MaxAAD > 0xFFFF:
		return l, &FieldError{path + ".max_aad", "must be 8192 to 65535 bytes"}
	case int64(l.MaxPlaintext+l.MaxAAD)*4/3+16<<10 > maxBody:
		return l, &FieldError{path, "the largest request does not fit in max_body"}
	}
	return l, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
