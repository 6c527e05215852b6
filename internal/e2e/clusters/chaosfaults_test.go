package clusters_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
)

// callTimeout is how long a module may take: less than tests like to wait, more than a busy machine needs.
const callTimeout = time.Second

// arena is a server whose tokens can be made to fail, by the letter of their zone.
type arena struct {
	*kastellantest.Server
	faults map[string]*pkcs11test.Faults
}

// newArena starts a server with a pool in each of the zones.
func newArena(t *testing.T, letters string, change ...func(*kastellantest.Options)) *arena {
	t.Helper()
	a := &arena{faults: newFaults(t, letters)}
	o := kastellantest.WithPools(t, letters)
	quick := o.Control
	o.Control = func(cfg *control.Config) {
		quick(cfg)
		cfg.Timing.Compare, cfg.Timing.ReplaceAfter = 300*time.Millisecond, time.Hour
	}
	o.HSM = func(cfg *hsm.Config) { cfg.Poll, cfg.RetryMax = 100*time.Millisecond, 200*time.Millisecond }
	through(t, a.faults)(&o)
	for _, fn := range change {
		fn(&o)
	}
	a.Server = kastellantest.Start(t, o)
	return a
}

// newFaults gives a table of faults for each of the zones.
func newFaults(t *testing.T, letters string) map[string]*pkcs11test.Faults {
	t.Helper()
	all := make(map[string]*pkcs11test.Faults)
	for _, letter := range strings.Split(letters, "") {
		all[letter] = pkcs11test.NewFaults(t)
	}
	return all
}

// through has a server open its tokens through the module that fails as told.
func through(t *testing.T, faults map[string]*pkcs11test.Faults) func(*kastellantest.Options) {
	t.Helper()
	module := pkcs11test.FaultModule(t)
	return func(o *kastellantest.Options) {
		o.OpenToken = func(ctx context.Context, cfg pkcs11.Config, log *slog.Logger) (pkcs11.Token, error) {
			cfg.CallTimeout = callTimeout
			if f := faults[zoneOf(cfg)]; f != nil {
				cfg.URI.ModulePath = module
				cfg.Env = append(cfg.Env[:len(cfg.Env):len(cfg.Env)], f.Env())
			}
			return pkcs11.Open(ctx, cfg, log)
		}
	}
}

// zoneOf tells from where a token of WithPools is in which pool it is.
func zoneOf(cfg pkcs11.Config) string {
	conf := strings.TrimPrefix(cfg.Env[0], "SOFTHSM2_CONF=") // DIRECTORY/letter/token-…/softhsm2.conf
	return filepath.Base(filepath.Dir(filepath.Dir(conf)))
}

// token gives the directory of the only token in a zone.
func (a *arena) token(t *testing.T, letter string) string {
	t.Helper()
	for _, pool := range a.Config.HSM.Pools {
		if !strings.HasSuffix(pool.Name, letter) {
			continue
		}
		entries, err := os.ReadDir(pool.SoftHSM2.Directory)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%d tokens in zone %s, want one: %v", len(entries), letter, err)
		}
		return filepath.Join(pool.SoftHSM2.Directory, entries[0].Name())
	}
	t.Fatalf("there is no zone %s", letter)
	return ""
}
