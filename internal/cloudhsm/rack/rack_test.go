package rack_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
)

// counted counts open tokens.
type counted struct {
	pkcs11.Token
	open *atomic.Int64
}

func (c *counted) Close() error {
	c.open.Add(-1)
	return c.Token.Close()
}

func countingRack(open, opened *atomic.Int64) *rack.Rack {
	return rack.New(rack.Config{Open: func(ctx context.Context, cfg pkcs11.Config, log *slog.Logger) (pkcs11.Token, error) {
		token, err := pkcs11.Open(ctx, cfg, log)
		if err != nil {
			return nil, err
		}
		opened.Add(1)
		open.Add(1)
		return &counted{token, open}, nil
	}})
}

func TestATokenIsOpenOnceForAll(t *testing.T) {
	t.Parallel()
	var open, opened atomic.Int64
	r, hsm := countingRack(&open, &opened), newHSM(t)
	for range 2 {
		var handles []*rack.Shared
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := r.Open(testContext(t), hsm, discard)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				handles = append(handles, s)
				mu.Unlock()
			})
		}
		wg.Wait()
		for i, s := range handles {
			if n := open.Load(); n != 1 {
				t.Errorf("%d tokens are open", n)
			}
			key := generate(t, s, dataKey)
			if err := encrypt(s, key); err != nil {
				t.Errorf("handle %d: %v", i, err)
			}
			mustClose(t, s)
			mustClose(t, s) // once is enough, twice does no harm
			if err := encrypt(s, key); !errors.Is(err, rack.ErrClosed) {
				t.Errorf("handle %d is closed: %v", i, err)
			}
		}
		if n := open.Load(); n != 0 {
			t.Errorf("%d tokens are open behind the last handle", n)
		}
	}
	if n := opened.Load(); n != 2 {
		t.Errorf("the token was opened %d times", n)
	}
}

func TestASharedTokenKeepsItsLogin(t *testing.T) {
	t.Parallel()
	s := openShared(t, rack.New(rack.Config{}), newHSM(t))
	if err := s.Login(testContext(t), secret.NewText("x")); !errors.Is(err, rv(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		t.Errorf("Login: %v", err)
	}
	if err := s.SetPIN(testContext(t), pins.User, secret.NewText("other")); !errors.Is(err, rv(pkcs11.CKR_ACTION_PROHIBITED)) {
		t.Errorf("SetPIN: %v", err)
	}
	key := generate(t, s, dataKey)
	if err := s.Logout(testContext(t)); err != nil {
		t.Error(err)
	}
	if err := encrypt(s, key); err != nil {
		t.Errorf("after Logout: %v", err)
	}
}

func TestIdentityIsMadeOnceAndSigns(t *testing.T) {
	t.Parallel()
	s := openShared(t, rack.New(rack.Config{}), newHSM(t))
	var first crypto.PublicKey
	for range 2 {
		signer, err := s.Identity(testContext(t), "identity")
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, signer)
		if err != nil {
			t.Fatal(err)
		}
		request, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := request.CheckSignature(); err != nil {
			t.Error(err)
		}
		if first == nil {
			first = request.PublicKey
		}
		if !request.PublicKey.(*rsa.PublicKey).Equal(first) {
			t.Error("the second one is another key")
		}
	}
}

func TestObjectsAreMadeAndFoundByManyAtOnce(t *testing.T) {
	t.Parallel()
	r, hsm := rack.New(rack.Config{}), newHSM(t)
	d := newDoor(t)
	tokens := []pkcs11.Token{openShared(t, r, hsm), openShared(t, r, hsm)}
	for _, pin := range []string{"kmsuser:right", "alice:secret"} {
		g := newGate(t, r, hsm, pin, d)
		logIn(t, g, pin)
		tokens = append(tokens, g)
	}
	const each = 10
	var wg sync.WaitGroup
	for i, token := range tokens {
		wg.Go(func() {
			for n := range each {
				label := fmt.Sprintf("key %d.%d", i, n)
				h, err := token.GenerateKey(testContext(t), pkcs11.Template{Label: label, Token: true, Encrypt: true})
				if err != nil {
					t.Errorf("making %s: %v", label, err)
					return
				}
				if err := encrypt(token, h); err != nil {
					t.Errorf("using %s: %v", label, err)
				}
				if found, err := token.FindKeys(testContext(t), label, nil); err != nil || len(found) != 1 {
					t.Errorf("finding %s: %d, %v", label, len(found), err)
				}
				if n%2 == 1 {
					if err := token.Destroy(testContext(t), h); err != nil {
						t.Errorf("destroying %s: %v", label, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if keys, err := tokens[0].ListKeys(testContext(t)); err != nil || len(keys) != len(tokens)*each/2 {
		t.Errorf("%d keys are there, %v", len(keys), err)
	}
}

// fragile is an HSM whose module fails as told.
func fragile(t *testing.T) (rack.HSM, *pkcs11test.Faults) {
	t.Helper()
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	return rack.HSM{ID: "hsm-aaaaaaaaaaa", Config: ref.Config(), PIN: secret.NewText(ref.PIN)}, faults
}

func TestALostProcessEndsEveryStayAndIsRepaired(t *testing.T) {
	t.Parallel()
	hsm, faults := fragile(t)
	d := newDoor(t)
	r := rack.New(rack.Config{})
	kms, shell := newGate(t, r, hsm, "kms", d), newGate(t, r, hsm, "a shell", d)
	logIn(t, kms, "kmsuser:right")
	logIn(t, shell, "alice:secret")
	key := generate(t, kms, dataKey)
	faults.Set(t, "C_Encrypt crash count=1")
	if err := encrypt(kms, key); !errors.Is(err, pkcs11.ErrLost) {
		t.Errorf("the call that crashed: %v", err)
	}
	logIn(t, kms, "kmsuser:right") // the old stay is over, or nobody could come in twice
	if err := encrypt(kms, key); !errors.Is(err, pkcs11.ErrLost) {
		t.Errorf("a handle from before: %v", err)
	}
	if _, err := shell.FindKeys(testContext(t), "data", nil); !errors.Is(err, rv(pkcs11.CKR_USER_NOT_LOGGED_IN)) {
		t.Errorf("a user who did not log in again: %v", err)
	}
	logIn(t, shell, "alice:secret")
	for _, g := range []*rack.Gate{kms, shell} {
		found, err := g.FindKeys(testContext(t), "data", nil)
		if err != nil || len(found) != 1 {
			t.Fatalf("finding the key again: %d, %v", len(found), err)
		}
		if err := encrypt(g, found[0]); err != nil {
			t.Error(err)
		}
		if n := pkcs11.Restarts(g); n != 1 {
			t.Errorf("%d restarts are told", n)
		}
	}
}

func TestReadyBringsASharedTokenBack(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"its process was lost":                    "C_Encrypt crash count=1",
		"the token fails until it is opened anew": "C_FindObjectsInit rv=0x5 count=1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var open, opened atomic.Int64
			hsm, faults := fragile(t)
			s := openShared(t, countingRack(&open, &opened), hsm)
			key := generate(t, s, dataKey)
			faults.Set(t, fault)
			_, err := s.FindKeys(testContext(t), "data", nil)
			if lost := encrypt(s, key); err == nil && lost == nil {
				t.Fatal("nothing failed")
			}
			faults.Clear(t)
			for range 2 {
				if err := s.Ready(testContext(t)); err != nil {
					t.Fatal(err)
				}
			}
			if err := encrypt(s, key); !errors.Is(err, pkcs11.ErrLost) {
				t.Errorf("a handle from before: %v", err)
			}
			found, err := s.FindKeys(testContext(t), "data", nil)
			if err != nil || len(found) != 1 {
				t.Fatalf("finding the key again: %d, %v", len(found), err)
			}
			if err := encrypt(s, found[0]); err != nil {
				t.Error(err)
			}
			if n := open.Load(); n != 1 {
				t.Errorf("%d tokens are open", n)
			}
		})
	}
}

func TestAProcessThatEndsDuringTheRepairIsReplaced(t *testing.T) {
	t.Parallel()
	for _, function := range []string{"C_GetTokenInfo", "C_Login"} {
		hsm, faults := fragile(t)
		s := openShared(t, rack.New(rack.Config{}), hsm)
		faults.Set(t, function+" crash count=1")
		if err := s.Ready(testContext(t)); err != nil || faults.Hits(t, function) != 1 {
			t.Errorf("%s: %v", function, err)
		}
		if _, err := s.FindKeys(testContext(t), "data", nil); err != nil {
			t.Errorf("%s: it is not logged in: %v", function, err)
		}
	}
}

func TestATokenThatRefusesThePINIsNotAskedUntilItLocks(t *testing.T) {
	t.Parallel()
	hsm, faults := fragile(t)
	right := hsm.PIN
	hsm.PIN = secret.NewText("WRONG-PIN-TEXT")
	r := rack.New(rack.Config{})
	for range 10 {
		_, err := r.Open(testContext(t), hsm, discard)
		if !errors.Is(err, rack.ErrPIN) || strings.Contains(err.Error(), "PIN-TEXT") {
			t.Fatalf("the error is %v", err)
		}
		if _, isRV := errors.AsType[*pkcs11.Error](err); isRV {
			t.Error("it can be taken for what a user's PIN met")
		}
	}
	for range 5 { // as for a token that is to be wiped, and cannot be opened
		if err := r.Remove(hsm); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Open(testContext(t), hsm, discard); !errors.Is(err, rack.ErrPIN) {
			t.Fatalf("the error is %v", err)
		}
	}
	if n := faults.Calls(t, "C_Login"); n != 3 {
		t.Errorf("the token was asked %d times", n)
	}
	hsm.PIN = right
	openShared(t, r, hsm) // another PIN may be right
}

func TestAnHSMThatCannotBeReachedCountsNoLogin(t *testing.T) {
	t.Parallel()
	hsm, faults := fragile(t)
	d := newDoor(t)
	r := rack.New(rack.Config{})
	g := newGate(t, r, hsm, "kms", d)
	faults.Set(t, "C_GetTokenInfo rv=0x30")
	for range 5 {
		if err := g.Login(testContext(t), secret.NewText("kmsuser:wrong")); err == nil || errors.Is(err, rv(pkcs11.CKR_PIN_INCORRECT)) {
			t.Errorf("logging in: %v", err)
		}
	}
	if d.asked != 0 {
		t.Errorf("the doorkeeper was asked %d times", d.asked)
	}
	faults.Clear(t)
	logIn(t, g, "kmsuser:right")
}

func TestARemovedHSMIsClosedForAll(t *testing.T) {
	t.Parallel()
	var open, opened atomic.Int64
	d := newDoor(t)
	r, hsm := countingRack(&open, &opened), newHSM(t)
	s, g := openShared(t, r, hsm), newGate(t, r, hsm, "kms", d)
	logIn(t, g, "kmsuser:right")
	key := generate(t, g, dataKey)
	for range 2 {
		if err := r.Remove(hsm); err != nil {
			t.Error(err)
		}
	}
	if n := open.Load(); n != 0 {
		t.Errorf("%d tokens are open", n)
	}
	if err := encrypt(g, key); !errors.Is(err, rack.ErrRemoved) {
		t.Errorf("a gate: %v", err)
	}
	if err := s.Ready(testContext(t)); !errors.Is(err, rack.ErrRemoved) {
		t.Errorf("repairing it: %v", err)
	}
	if err := g.Login(testContext(t), secret.NewText("kmsuser:right")); !errors.Is(err, rack.ErrRemoved) {
		t.Errorf("logging in: %v", err)
	}
	openShared(t, r, hsm) // as if it were another HSM
}

func TestAnHSMWithoutATokenCannotBeOpened(t *testing.T) {
	t.Parallel()
	hsm := newHSM(t)
	hsm.Config.URI.Serial = "0"
	if _, err := rack.New(rack.Config{}).Gate(testContext(t), hsm, "kms", newDoor(t), discard); !errors.Is(err, pkcs11.ErrNoToken) {
		t.Errorf("opening it: %v", err)
	}
}
