//go:build cgo && unix

package pkcs11_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
)

// broken is a token that is reached through a module which can fail.
type broken struct {
	pkcs11.Token
	ref    pkcs11test.TokenRef
	faults *pkcs11test.Faults
	key    pkcs11.Handle
}

func newBroken(t *testing.T, change ...func(*pkcs11.Config)) *broken {
	t.Helper()
	b := &broken{faults: pkcs11test.NewFaults(t)}
	b.ref = b.faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	cfg := b.ref.Config()
	cfg.CallTimeout = testTime
	for _, fn := range change {
		fn(&cfg)
	}
	b.Token = openLoggedIn(t, b.ref, cfg)
	b.key = generate(t, b.Token, dataKey)
	return b
}

func (b *broken) encrypt(ctx context.Context) error {
	_, err := b.EncryptGCM(ctx, b.key, []byte("plaintext"), nil)
	return err
}

// back logs in again and finds the key: what a store does after a loss.
func (b *broken) back(t *testing.T) {
	t.Helper()
	ctx := testContext(t)
	err := b.Login(ctx, secret.NewText(b.ref.PIN))
	for errors.Is(err, pkcs11.ErrLost) { // the loss of the child before
		err = b.Login(ctx, secret.NewText(b.ref.PIN))
	}
	if err != nil {
		t.Fatalf("logging in again: %v", err)
	}
	found, err := b.FindKeys(ctx, dataKey.Label, nil)
	if err != nil || len(found) != 1 {
		t.Fatalf("finding the key again: %d, %v", len(found), err)
	}
	b.key = found[0]
}

func TestCrashEndsTheCallsOfOneTokenOnly(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	other := pkcs11test.NewTokens(t, 1)[0]
	whole := openLoggedIn(t, other, other.Config())
	key := generate(t, whole, dataKey)
	old := b.key
	for range 2 {
		b.faults.Set(t, "C_Encrypt crash count=1")
		if err := b.encrypt(testContext(t)); !errors.Is(err, pkcs11.ErrLost) {
			t.Fatalf("the call that crashed: %v", err)
		}
		if _, err := whole.EncryptGCM(testContext(t), key, []byte("x"), nil); err != nil {
			t.Errorf("another token: %v", err)
		}
		if err := b.encrypt(testContext(t)); !errors.Is(err, pkcs11.ErrLost) {
			t.Errorf("a handle from before the crash: %v", err)
		}
		b.back(t)
		if err := b.encrypt(testContext(t)); err != nil {
			t.Errorf("after logging in again: %v", err)
		}
	}
	if b.key.Epoch <= old.Epoch+1 {
		t.Errorf("two crashes brought the epoch from %d to %d", old.Epoch, b.key.Epoch)
	}
}

func TestCallThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	b := newBroken(t, func(cfg *pkcs11.Config) { cfg.CallTimeout = time.Second })
	b.faults.Set(t, "C_Encrypt hang")
	if err := b.encrypt(testContext(t)); !errors.Is(err, pkcs11.ErrTimeout) {
		t.Errorf("the call that hangs: %v", err)
	}
	b.faults.Clear(t)
	b.back(t)
	if err := b.encrypt(testContext(t)); err != nil {
		t.Errorf("after the child was replaced: %v", err)
	}
}

func TestCallerNeedNotWaitForTheModule(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	b.faults.Set(t, "C_Encrypt hang count=1")
	ctx, cancel := context.WithCancel(testContext(t))
	failed := make(chan error, 1)
	go func() { failed <- b.encrypt(ctx) }()
	polltest.Until(t, "the call to hang", func() bool { return b.faults.Hits(t, "C_Encrypt") == 1 })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that went away: %v", err)
	}
	if err := b.encrypt(testContext(t)); err != nil {
		t.Errorf("another caller meanwhile: %v", err)
	}
	b.faults.Clear(t)
	if err := b.encrypt(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a call whose context has ended: %v", err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	b := newBroken(t, func(cfg *pkcs11.Config) { cfg.Sessions, cfg.Queue = 2, 3 })
	b.faults.Set(t, "C_Encrypt hang")
	var wg sync.WaitGroup
	errs := make(chan error, 6)
	for range 5 { // two run and three wait
		wg.Go(func() { errs <- b.encrypt(testContext(t)) })
	}
	polltest.Until(t, "ErrBusy", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		return errors.Is(b.encrypt(ctx), pkcs11.ErrBusy)
	})
	if err := b.Login(testContext(t), secret.NewText(b.ref.PIN)); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}) {
		t.Errorf("the queue of encryptions keeps a login away: %v", err)
	}
	b.faults.Clear(t)
	wg.Wait()
	close(errs)
	done := 0
	for err := range errs {
		if err == nil {
			done++
		} else if !errors.Is(err, pkcs11.ErrBusy) {
			t.Error(err)
		}
	}
	if done < 2 {
		t.Errorf("%d calls were done in the end", done)
	}
}

// A session that died is replaced, and the call is done on another one.
func TestDeadSessionsAreReplaced(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	for _, rv := range []uint{pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED} {
		b.faults.Set(t, "C_EncryptInit rv="+strconv.FormatUint(uint64(rv), 10)+" count=1")
		if err := b.encrypt(testContext(t)); err != nil {
			t.Errorf("%s: %v", pkcs11.RVName(rv), err)
		}
		if n := b.faults.Calls(t, "C_EncryptInit"); n != 2 {
			t.Errorf("%s: %d attempts", pkcs11.RVName(rv), n)
		}
		if n := b.faults.Calls(t, "C_OpenSession"); n != 1 {
			t.Errorf("%s: %d sessions opened", pkcs11.RVName(rv), n)
		}
	}
	b.faults.Set(t, "C_EncryptInit rv=0xB3")
	if err := b.encrypt(testContext(t)); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_SESSION_HANDLE_INVALID}) {
		t.Errorf("sessions that always die: %v", err)
	}
}

func TestReturnValuesReachTheCaller(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	ctx := testContext(t)
	pin := secret.NewText(b.ref.PIN)
	if err := b.Logout(ctx); err != nil {
		t.Fatal(err)
	}
	for fault, call := range map[string]func() error{
		"C_Login rv=0xA0":         func() error { return b.Login(ctx, pin) },
		"C_Login rv=0xA4":         func() error { return b.Login(ctx, pin) },
		"C_Login rv=0x104":        func() error { return b.Login(ctx, pin) },
		"C_SetPIN rv=0xA2":        func() error { return b.SetPIN(ctx, pin, pin) },
		"C_GetTokenInfo rv=0x30":  func() error { _, err := b.Info(ctx); return err },
		"C_GenerateRandom rv=0x5": func() error { _, err := b.Random(ctx, 4); return err },
		"C_GenerateKey rv=0x31":   func() error { _, err := b.GenerateKey(ctx, dataKey); return err },
		"C_OpenSession rv=0xB1":   func() error { _, err := b.FindKeys(ctx, "x", nil); return err },
	} {
		b.faults.Set(t, fault)
		function, rv, _ := strings.Cut(fault, " rv=")
		number, err := strconv.ParseUint(rv, 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		var e *pkcs11.Error
		if err := call(); !errors.As(err, &e) || e.RV != uint(number) || e.Function != function {
			t.Errorf("%s: the error is %v", fault, err)
		}
		b.faults.Clear(t)
	}
	if err := b.Login(ctx, secret.NewText("wrong-pin")); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_PIN_INCORRECT}) || strings.Contains(err.Error(), "wrong-pin") {
		t.Errorf("a wrong PIN: %v", err)
	}
}

func TestLoginAndPIN(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config())
	ctx := testContext(t)
	old, fresh := secret.NewText(ref.PIN), secret.NewText("a-longer-pin-0123456789abcdefghij")
	if err := token.Login(ctx, old); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}) {
		t.Errorf("a second login: %v", err)
	}
	key := generate(t, token, dataKey)
	if err := token.SetPIN(ctx, fresh, old); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_PIN_INCORRECT}) {
		t.Errorf("changing the PIN from a wrong one: %v", err)
	}
	if err := token.SetPIN(ctx, old, fresh); err != nil {
		t.Fatal(err)
	}
	for range 2 { // not being logged in is no error
		if err := token.Logout(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := token.EncryptGCM(ctx, key, nil, nil); !errors.Is(err, pkcs11.ErrLost) {
		t.Errorf("a handle from before the logout: %v", err)
	}
	notLoggedIn := &pkcs11.Error{RV: pkcs11.CKR_USER_NOT_LOGGED_IN}
	if found, err := token.FindKeys(ctx, dataKey.Label, nil); !errors.Is(err, notLoggedIn) {
		t.Errorf("without a login %d keys are found, %v", len(found), err)
	}
	if objects, err := token.ListKeys(ctx); !errors.Is(err, notLoggedIn) {
		t.Errorf("without a login %d keys are listed, %v", len(objects), err)
	}
	if err := token.Login(ctx, old); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_PIN_INCORRECT}) {
		t.Errorf("the old PIN: %v", err)
	}
	if err := token.Login(ctx, fresh); err != nil {
		t.Errorf("the new PIN: %v", err)
	}
}

func TestOpeningWhatIsNotThere(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	for name, tt := range map[string]struct {
		change func(*pkcs11.Config)
		want   error
	}{
		"another label":          {func(c *pkcs11.Config) { c.URI.Token = "another" }, pkcs11.ErrNoToken},
		"another serial":         {func(c *pkcs11.Config) { c.URI.Serial = "0" }, pkcs11.ErrNoToken},
		"another library":        {func(c *pkcs11.Config) { c.URI.LibraryManufacturer = "somebody" }, pkcs11.ErrNoToken},
		"a module that is away":  {func(c *pkcs11.Config) { c.URI.ModulePath = "/nowhere/module.so" }, pkcs11.ErrModule},
		"a file that is no code": {func(c *pkcs11.Config) { c.URI.ModulePath = "/etc/hostname" }, pkcs11.ErrModule},
	} {
		cfg := ref.Config()
		tt.change(&cfg)
		if token, err := pkcs11.Open(testContext(t), cfg, discard); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = token.Close()
			}
		}
	}
}

func TestModuleThatCrashesOrHangsWhileItIsLoaded(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"C_Initialize crash", "C_GetSlotList crash", "C_GetTokenInfo crash", "C_Initialize hang"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			faults := pkcs11test.NewFaults(t)
			ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
			faults.Set(t, fault)
			cfg := ref.Config()
			cfg.CallTimeout = 500 * time.Millisecond // loading may take four times as long
			if token, err := pkcs11.Open(testContext(t), cfg, discard); !errors.Is(err, pkcs11.ErrModule) {
				t.Errorf("Open: %v", err)
				if err == nil {
					_ = token.Close()
				}
			}
		})
	}
}

func TestClosedTokenRefuses(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token, err := pkcs11.Open(testContext(t), ref.Config(), discard)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := token.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := token.Info(testContext(t)); err == nil {
		t.Error("a closed token answers")
	}
}
