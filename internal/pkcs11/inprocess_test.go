//go:build cgo && unix

package pkcs11_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
)

// inProcess gives the configuration of a token whose module is to be loaded
// into this process, which gets its environment.
func inProcess(t *testing.T, ref pkcs11test.TokenRef) pkcs11.Config {
	t.Helper()
	for _, entry := range ref.Env {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	cfg := ref.Config()
	cfg.InProcess = true
	return cfg
}

func TestTwoTokensOfOneModule(t *testing.T) {
	first := pkcs11test.NewTokens(t, 1)[0]
	info, err := pkcs11.InitToken(testContext(t), pkcs11.ProvisionConfig{
		ModulePath: first.URI.ModulePath, Env: first.Env, Label: "second",
		SOPIN: secret.NewText(first.SOPIN), UserPIN: secret.NewText("4321"),
	})
	if err != nil {
		t.Fatal(err)
	}
	second := first
	second.URI.Token, second.URI.Serial, second.PIN = "second", info.Serial, "4321"
	for name, change := range map[string]func(pkcs11test.TokenRef) pkcs11.Config{
		"in processes of their own": pkcs11test.TokenRef.Config,
		"in this process":           func(ref pkcs11test.TokenRef) pkcs11.Config { return inProcess(t, ref) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := openLoggedIn(t, first, change(first)), openLoggedIn(t, second, change(second))
			if err := b.Login(testContext(t), secret.NewText(first.PIN)); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}) {
				t.Errorf("a second login: %v", err)
			}
			key := generate(t, b, pkcs11.Template{Label: name, Token: true, Encrypt: true})
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if _, err := b.EncryptGCM(testContext(t), key, []byte("x"), nil); err != nil {
				t.Errorf("after the other one was closed: %v", err)
			}
			a = openLoggedIn(t, first, change(first))
			if found, err := a.FindKeys(testContext(t), name, nil); err != nil || len(found) != 0 {
				t.Errorf("%d keys of the other token are found, %v", len(found), err)
			}
		})
	}
}

func TestInProcessNeedsItsEnvironment(t *testing.T) {
	t.Parallel()
	cfg := pkcs11test.NewTokens(t, 1)[0].Config()
	cfg.InProcess = true
	cfg.Env = []string{"KASTELLAN_TEST_NOT_SET=1"}
	if _, err := pkcs11.Open(testContext(t), cfg, discard); err == nil || !strings.Contains(err.Error(), "KASTELLAN_TEST_NOT_SET") {
		t.Errorf("Open: %v", err)
	}
}

func TestInProcessCallsAreBounded(t *testing.T) {
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	cfg := inProcess(t, ref)
	cfg.Sessions, cfg.CallTimeout = 1, time.Second
	token, err := pkcs11.Open(testContext(t), cfg, discard)
	if err != nil {
		t.Fatal(err)
	}
	faults.Set(t, "C_GenerateRandom hang")
	errs := make(chan error, 2)
	for range 2 { // one hangs; the other one's turn never comes
		go func() { _, err := token.Random(context.Background(), 1); errs <- err }()
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, pkcs11.ErrTimeout) {
			t.Errorf("a call on a module that hangs: %v", err)
		}
	}
	if err := token.Login(testContext(t), secret.NewText(ref.PIN)); err != nil {
		t.Errorf("a login meanwhile: %v", err)
	}
	faults.Clear(t)
	polltest.Until(t, "the session to be free", func() bool { _, err := token.Random(testContext(t), 1); return err == nil })
	if err := token.Close(); err != nil {
		t.Error(err)
	}
}

func TestInProcessOpenIsBounded(t *testing.T) {
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	cfg := inProcess(t, ref)
	cfg.CallTimeout = 100 * time.Millisecond
	faults.Set(t, "C_Initialize hang")
	if _, err := pkcs11.Open(testContext(t), cfg, discard); !errors.Is(err, pkcs11.ErrModule) || !errors.Is(err, pkcs11.ErrTimeout) {
		t.Errorf("Open: %v", err)
	}
	faults.Clear(t)
	cfg.CallTimeout = testTime
	if err := open(t, cfg).Logout(testContext(t)); err != nil {
		t.Errorf("once the module goes on: %v", err)
	}
}
