package clusters_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/polltest"
)

// rejoin replaces an HSM.
func (e *estate) rejoin() error { return steps(e.noHSM("a"), e.hsm("a"), e.keyStore, e.key) }

// drain loses all HSMs, but to a backup, and comes back.
func (e *estate) drain() error {
	return steps(e.noHSM("a"), e.noHSM("b"), e.hsm("a"), e.hsm("b"), e.keyStore, e.key)
}

// reconnect has the key store change the kmsuser's password.
func (e *estate) reconnect() error { return steps(e.keyStore, e.disconnect, e.keyStore, e.key) }

// people changes users and passwords.
func (e *estate) people() error { return steps(e.newPassword, e.somebody, e.noSomebody) }

// clean sees that each HSM has a token, and no token is without an HSM.
func (e *estate) clean(t *testing.T, cfg *config.Config) {
	t.Helper()
	c, err := e.describe()
	if err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "as many tokens as HSMs", func() bool { return len(tokens(t, cfg)) == len(c.Hsms) })
}

// tokens gives the directories of the tokens that HSMs are made of.
func tokens(t *testing.T, cfg *config.Config) (all []string) {
	t.Helper()
	for _, pool := range cfg.HSM.Pools {
		entries, err := os.ReadDir(pool.SoftHSM2.Directory)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, entry := range entries {
			all = append(all, filepath.Join(pool.SoftHSM2.Directory, entry.Name()))
		}
	}
	return all
}

// crashing is an estate on a server that dies at fault points.
type crashing struct {
	*estate
	server *kastellantest.Server
}

func startCrashing(t *testing.T, at func(point string) bool) *crashing {
	t.Helper()
	o := kastellantest.WithPools(t, "ab")
	o.CrashAt = at
	c := &crashing{estate: newEstate(t), server: kastellantest.Start(t, o)}
	c.follow()
	return c
}

// follow turns to the server as it is now.
func (c *crashing) follow() {
	c.client, c.dead = clientsOf(c.server.SDK(credentialsOf(admin))), c.server.Crashed()
}

// survives lives through a crash at a point: after it, the same life goes on.
func (c *crashing) survives(t *testing.T, point string, life func() error) {
	t.Helper()
	err := life()
	select {
	case <-c.server.Crashed():
	default:
		t.Fatalf("there was no crash at %q, but: %v", point, err)
	}
	c.server.Restart()
	c.follow()
	if err := steps(life, c.kept); err != nil {
		t.Fatalf("after a crash at %q: %v", point, err)
	}
	c.clean(t, c.server.Config)
}

// at crashes when a point is reached for the n-th time.
func at(point string, n int64) func(string) bool {
	var passed atomic.Int64
	return func(p string) bool { return strings.HasPrefix(p, point) && passed.Add(1) >= n }
}

// TestACrashOnTheWayToAKeyLosesNothing lets a server die while a cluster is made. Its owner goes on from what was acknowledged.
func TestACrashOnTheWayToAKeyLosesNothing(t *testing.T) {
	t.Parallel()
	for _, point := range []struct {
		name string
		n    int64
	}{{"cluster UNINITIALIZED", 1}, {"hsm filled", 1}, {"cluster INITIALIZED", 1}, {"hsm active", 2}, {"cluster activated", 1}, {"user created", 1}, {"vault prepared", 1}} {
		t.Run(fmt.Sprint(point.name, " ", point.n), func(t *testing.T) {
			t.Parallel()
			c := startCrashing(t, at(point.name, point.n))
			life := c.ready
			if point.name == "vault prepared" {
				life = func() error { return steps(c.ready, c.rejoin) }
			}
			c.survives(t, point.name, life)
		})
	}
}

// TestACrashInALaterLifeLosesNothing lets the server of one estate die at one point after the other.
func TestACrashInALaterLifeLosesNothing(t *testing.T) {
	t.Parallel()
	for _, part := range []struct {
		name   string
		life   func(e *estate) func() error
		points []string
	}{
		{"users change", func(e *estate) func() error { return e.people }, []string{"password set", "user created", "user deleted"}},
		{"a key store changes the password", func(e *estate) func() error { return e.reconnect }, []string{
			"disconnect: begun", "connect: log in", "password: prepared", "password set", "password: committed", "create key: material made",
		}},
		{"an HSM leaves and another one comes", func(e *estate) func() error { return e.rejoin }, []string{
			"hsm removed", "token saved", "token wiped", "hsm prepared", "hsm filled", "hsm active",
		}},
		{"all HSMs leave", func(e *estate) func() error { return e.drain }, []string{"backup begun", "backup taken", "hsm backed up", "keys restored"}},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			c := startCrashing(t, nil)
			if err := c.ready(); err != nil {
				t.Fatal(err)
			}
			for _, point := range part.points {
				c.server.RestartTo(at(point, 1))
				c.follow()
				c.survives(t, point, part.life(c.estate))
			}
		})
	}
}
