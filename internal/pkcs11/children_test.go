//go:build cgo && linux

package pkcs11_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
)

// recorder is a log that a test reads.
type recorder struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *recorder) log() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

// ourChildren are the processes that this one has started and not waited for.
func ourChildren(t *testing.T) (pids []string) {
	t.Helper()
	for _, task := range read(t, "/proc/self/task") {
		text, _ := os.ReadFile("/proc/self/task/" + task + "/children")
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

// No parallel test runs beside this one.
func TestNothingIsLeftBehind(t *testing.T) {
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	cycle := func() {
		faults.Clear(t)
		token, err := pkcs11.Open(testContext(t), ref.Config(), discard)
		if err != nil {
			t.Fatal(err)
		}
		faults.Set(t, "C_Login crash count=1", "C_GetTokenInfo hang after=100")
		if err := token.Login(testContext(t), secret.NewText(ref.PIN)); !errors.Is(err, pkcs11.ErrLost) {
			t.Errorf("Login: %v", err)
		}
		if err := token.Login(testContext(t), secret.NewText(ref.PIN)); err != nil && !errors.Is(err, pkcs11.ErrLost) {
			t.Errorf("Login again: %v", err)
		}
		if err := token.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		faults.Set(t, "C_Initialize hang")
		ctx, cancel := context.WithCancel(testContext(t))
		go func() {
			for faults.Hits(t, "C_Initialize") == 0 && ctx.Err() == nil {
				runtime.Gosched()
			}
			cancel()
		}()
		if _, err := pkcs11.Open(ctx, ref.Config(), discard); !errors.Is(err, context.Canceled) {
			t.Errorf("an Open that was given up: %v", err)
		}
		if pids := ourChildren(t); len(pids) != 0 {
			t.Errorf("processes are left: %v", pids)
		}
	}
	cycle()
	fds, goroutines := len(read(t, "/proc/self/fd")), runtime.NumGoroutine()
	for range 3 {
		cycle()
	}
	polltest.Until(t, "files to be closed", func() bool { return len(read(t, "/proc/self/fd")) <= fds })
	polltest.Until(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

func TestModuleMayWriteToStandardOutputAndError(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	faults.Set(t, "C_Initialize noise", "C_GenerateRandom noise", "C_Finalize noise")
	var r recorder
	token, err := pkcs11.Open(testContext(t), ref.Config(), r.log())
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := token.Random(testContext(t), 8); err != nil {
			t.Fatal(err)
		}
	}
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(r.String(), "a module that talks"); n == 0 || n > 20 {
		t.Errorf("%d lines of the module are logged", n)
	}
}

func TestEnvironmentThatIsRefused(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	for _, entry := range []string{"", "NAME", "=value", "NAME=a\x00b", pkcs11.WorkerEnv + "=", pkcs11.WorkerEnv + "=2"} {
		cfg := ref.Config()
		cfg.Env = append(cfg.Env, entry)
		if token, err := pkcs11.Open(testContext(t), cfg, discard); err == nil {
			t.Errorf("%q is accepted", entry)
			_ = token.Close()
		}
	}
}

// openSessions makes the token open n sessions, which are idle then.
func (b *broken) openSessions(t *testing.T, n int) {
	t.Helper()
	b.faults.Set(t, "C_GenerateRandom hang")
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := b.Random(testContext(t), 1); err != nil {
				t.Error(err)
			}
		})
	}
	polltest.Until(t, "all to hang", func() bool { return b.faults.Hits(t, "C_GenerateRandom") == n })
	b.faults.Clear(t)
	wg.Wait()
}

// When one idle session is found dead, the others are likely to be so too.
func TestDeadSessionIsReplacedByAFreshOne(t *testing.T) {
	t.Parallel()
	b := newBroken(t, func(cfg *pkcs11.Config) { cfg.Sessions = 4 })
	b.openSessions(t, 4)
	b.faults.Set(t, "C_EncryptInit rv=0xB3 count=1")
	if err := b.encrypt(testContext(t)); err != nil {
		t.Error(err)
	}
	if n := b.faults.Calls(t, "C_OpenSession"); n != 1 {
		t.Errorf("%d sessions were opened", n)
	}
	if n := b.faults.Calls(t, "C_CloseSession"); n != 0 {
		t.Errorf("%d sessions were closed, whose number may be another one's", n)
	}
}

// A token that allows few sessions makes callers wait, and is not taken for
// one that hangs.
func TestWaitingForASessionIsNoHang(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	b := newBroken(t, func(cfg *pkcs11.Config) { cfg.Sessions, cfg.CallTimeout = 6, timeout })
	b.faults.Set(t, "C_OpenSession rv=0xB1", "C_GenerateRandom delay=1000")
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	for range 6 { // one after the other on the one session that there is
		wg.Go(func() {
			_, err := b.Random(testContext(t), 1)
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprint(err)]++
		})
	}
	wg.Wait()
	if done, busy := got["<nil>"], got[pkcs11.ErrBusy.Error()]; done == 0 || busy == 0 || done+busy != 6 {
		t.Errorf("the calls ended so: %v", got)
	}
	b.faults.Clear(t)
	if err := b.encrypt(testContext(t)); err != nil {
		t.Errorf("a handle from before: %v", err)
	}
}

// A handle must not be used after a logout: its number may name another key
// after the next login.
func TestCallsUnderWayDuringALogoutAreLost(t *testing.T) {
	t.Parallel()
	b := newBroken(t, func(cfg *pkcs11.Config) { cfg.Sessions = 1 })
	b.faults.Set(t, "C_Encrypt hang")
	errs := make(chan error, 2)
	for range 2 { // one runs, one waits
		go func() { errs <- b.encrypt(testContext(t)) }()
	}
	polltest.Until(t, "the call to hang", func() bool { return b.faults.Hits(t, "C_Encrypt") == 1 })
	if err := b.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := b.Login(testContext(t), secret.NewText(b.ref.PIN)); err != nil {
		t.Fatal(err)
	}
	b.faults.Clear(t)
	for range 2 {
		if err := <-errs; !errors.Is(err, pkcs11.ErrLost) {
			t.Errorf("a call with a handle of the earlier login: %v", err)
		}
	}
	if err := b.Destroy(testContext(t), b.key); !errors.Is(err, pkcs11.ErrLost) {
		t.Errorf("destroying by it: %v", err)
	}
	found, err := b.FindKeys(testContext(t), dataKey.Label, nil)
	if err != nil || len(found) != 1 {
		t.Fatalf("finding the key again: %d, %v", len(found), err)
	}
	b.key = found[0]
	if err := b.encrypt(testContext(t)); err != nil {
		t.Errorf("the key found again: %v", err)
	}
}

// Session objects end with their session, whose loss the caller does not see.
func TestLostSessionObjectsEndAllHandles(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	session := generate(t, b.Token, pkcs11.Template{Label: "passing", Encrypt: true})
	b.faults.Set(t, "C_GenerateKey rv=0x5 count=1")
	if _, err := b.GenerateKey(testContext(t), pkcs11.Template{Label: "passing", Encrypt: true}); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_GENERAL_ERROR}) {
		t.Fatal(err)
	}
	for _, h := range []pkcs11.Handle{session, b.key} {
		if err := b.Destroy(testContext(t), h); !errors.Is(err, pkcs11.ErrLost) {
			t.Errorf("destroying by a handle of before: %v", err)
		}
	}
}

func TestClosingTakesCallsUnderWayAlong(t *testing.T) {
	t.Parallel()
	var r recorder
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	token, err := pkcs11.Open(testContext(t), ref.Config(), r.log())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := token.Random(ctx, 8); err != nil {
					return
				}
			}
		})
	}
	polltest.Until(t, "calls", func() bool { return faults.Calls(t, "C_GenerateRandom") > 100 })
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if ctx.Err() != nil || faults.Calls(t, "C_Finalize") != 1 || r.String() != "" {
		t.Errorf("C_Finalize was called %d times, and the log has %s", faults.Calls(t, "C_Finalize"), &r)
	}
}
