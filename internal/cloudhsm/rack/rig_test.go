package rack_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	goleak.VerifyTestMain(m)
}

var discard = slog.New(slog.DiscardHandler)

// testTime bounds every test's calls, generously: the machine may be busy.
const testTime = time.Minute

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	t.Cleanup(cancel)
	return ctx
}

var pins = rack.PINs{SO: secret.NewText("so-pin-of-tests"), User: secret.NewText("user-pin-of-tests")}

func rv(value uint) error { return &pkcs11.Error{RV: value} }

// softPool makes tokens in a directory of the test's.
func softPool(t testing.TB, name string, tokens int) rack.Pool {
	t.Helper()
	pkcs11test.Require(t)
	return rack.Pool{Name: name, AvailabilityZone: "eu-central-1a", SoftHSM2: &rack.SoftHSM2{
		Module: pkcs11test.Module, Directory: filepath.Join(t.TempDir(), name), Tokens: tokens,
	}}
}

func newPools(t testing.TB, pools ...rack.Pool) *rack.Pools {
	t.Helper()
	p, err := rack.NewPools(pools)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func choose(t testing.TB, p *rack.Pools, taken ...rack.Placement) rack.Placement {
	t.Helper()
	at, err := p.Choose("eu-central-1a", "hsm2m.medium", taken)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func prepare(t testing.TB, p *rack.Pools, at rack.Placement) rack.Prepared {
	t.Helper()
	prepared, err := p.Prepare(testContext(t), at, "cluster-a", pins)
	if err != nil {
		t.Fatal(err)
	}
	return prepared
}

// newHSM prepares a token of SoftHSM2.
func newHSM(t testing.TB) rack.HSM {
	t.Helper()
	p := newPools(t, softPool(t, "soft", 1))
	prepared := prepare(t, p, choose(t, p))
	return rack.HSM{ID: "hsm-aaaaaaaaaaa", Config: prepared.Config, PIN: prepared.PIN}
}

func openShared(t testing.TB, r *rack.Rack, hsm rack.HSM) *rack.Shared {
	t.Helper()
	s, err := r.Open(testContext(t), hsm, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, s) })
	return s
}

func mustClose(t testing.TB, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

var dataKey = pkcs11.Template{Label: "data", ID: []byte{1, 2}, Token: true, Encrypt: true, Extractable: true}

func generate(t testing.TB, token pkcs11.Token, template pkcs11.Template) pkcs11.Handle {
	t.Helper()
	h, err := token.GenerateKey(testContext(t), template)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func encrypt(token pkcs11.Token, key pkcs11.Handle) error {
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	defer cancel()
	_, err := token.EncryptGCM(ctx, key, []byte("plaintext"), nil)
	return err
}

// door lets users in by their passwords, each at one holder's at a time, and locks them out at the third wrong one.
type door struct {
	t testing.TB

	mu        sync.Mutex
	passwords map[string]string
	wrong     map[string]int
	in        map[string]string // user → holder
	asked     int
}

func newDoor(t testing.TB) *door {
	d := &door{t: t, passwords: map[string]string{"kmsuser": "right", "alice": "secret"}, wrong: map[string]int{}, in: map[string]string{}}
	t.Cleanup(func() {
		if len(d.in) != 0 {
			t.Errorf("nobody left for %v", d.in)
		}
	})
	return d
}

func refuse(function string, value uint) error { return &pkcs11.Error{Function: function, RV: value} }

func (d *door) check(function, hsm string, pin secret.Text) (user string, err error) {
	if hsm != "hsm-aaaaaaaaaaa" {
		d.t.Errorf("the door was asked for the HSM %q", hsm)
	}
	user, password, _ := strings.Cut(pin.Reveal(), ":")
	right, known := d.passwords[user]
	switch {
	case !known:
		return "", refuse(function, pkcs11.CKR_USER_PIN_NOT_INITIALIZED)
	case d.wrong[user] >= 3:
		return "", refuse(function, pkcs11.CKR_PIN_LOCKED)
	case password != right:
		d.wrong[user]++
		return "", refuse(function, pkcs11.CKR_PIN_INCORRECT)
	}
	return user, nil
}

func (d *door) Enter(_ context.Context, hsm, holder string, pin secret.Text) (leave func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	user, err := d.check("C_Login", hsm, pin)
	if err != nil {
		return nil, err
	}
	if d.in[user] != "" {
		return nil, refuse("C_Login", pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN)
	}
	d.in[user] = holder
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.in[user] != holder {
			d.t.Errorf("%s of %s left and was not in", user, holder)
		}
		delete(d.in, user)
	}, nil
}

func (d *door) SetPIN(_ context.Context, hsm string, old, new secret.Text) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	user, err := d.check("C_SetPIN", hsm, old)
	if err == nil {
		_, d.passwords[user], _ = strings.Cut(new.Reveal(), ":")
	}
	return err
}

func (d *door) holder(user string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in[user]
}

// newGate gives a gate at which nobody is in.
func newGate(t testing.TB, r *rack.Rack, hsm rack.HSM, holder string, d rack.Doorkeeper) *rack.Gate {
	t.Helper()
	g, err := r.Gate(testContext(t), hsm, holder, d, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, g) })
	return g
}

func logIn(t testing.TB, g *rack.Gate, pin string) {
	t.Helper()
	if err := g.Login(testContext(t), secret.NewText(pin)); err != nil {
		t.Fatal(err)
	}
}

// files gives the paths below a directory.
func files(t testing.TB, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir && !os.IsNotExist(err) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
