package hsm_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/polltest"
)

// signalModules sends a signal to the module processes of a member.
func (r *rig) signalModules(t testing.TB, i int, sig syscall.Signal) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := 0
	for _, pid := range r.modules[hsmID(i)] {
		if isOurChild(pid) && syscall.Kill(pid, sig) == nil {
			sent++
		}
	}
	if sent == 0 {
		t.Fatalf("member %d has no module process", i)
	}
}

// isOurChild tells whether a process that we started is still there.
func isOurChild(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	return fields[1] == strconv.Itoa(os.Getpid())
}

// pidHandler is a log that notes which processes it is told of.
type pidHandler struct {
	slog.Handler
	note func(pid int)
}

func (h pidHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "pid" {
			h.note(int(a.Value.Int64()))
		}
	}
	return pidHandler{h.Handler.WithAttrs(attrs), h.note}
}

// noting gives a log that notes the module processes of a member.
func (r *rig) noting(id string, log *slog.Logger) *slog.Logger {
	return slog.New(pidHandler{log.Handler(), func(pid int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.modules[id] = append(r.modules[id], pid)
	}})
}

// hide makes a member's token vanish from its module's sight; show brings it back.
func (r *rig) hide(t testing.TB, i int) (show func()) {
	t.Helper()
	objects := filepath.Join(r.tokens[i].Dir, "tokens")
	if err := os.Rename(objects, objects+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(objects, 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(objects); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(objects+".away", objects); err != nil {
			t.Fatal(err)
		}
	}
}

// load encrypts and decrypts all the time until stop is called, which gives the
// number of calls.
func load(t testing.TB, s keystore.Store, key keystore.Key, limit time.Duration) (count func() int64, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var calls atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				one, done := context.WithTimeout(context.Background(), limit)
				sealed, err := s.Encrypt(one, call("Encrypt"), key, nil, []byte("plaintext"), nil)
				if err != nil {
					t.Errorf("Encrypt under load: %v", err)
				} else if got, err := s.Decrypt(one, call("Decrypt"), key, sealed, nil); err != nil || string(got) != "plaintext" {
					t.Errorf("Decrypt under load gave %q, %v", got, err)
				}
				done()
				calls.Add(2)
			}
		})
	}
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return calls.Load, stop
}

func TestMemberThatDiesUnderLoadFailsNoCall(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		signal  syscall.Signal
		timeout time.Duration // of calls; zero: the usual one
	}{{"killed", syscall.SIGKILL, 0}, {"hung", syscall.SIGSTOP, 2 * time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 3, func(r *rig) {
				for i := range r.cluster().Members {
					r.cluster().Members[i].Token.CallTimeout = tt.timeout
				}
			})
			c := r.connect(t)
			key := createKey(t, c)
			count, stop := load(t, c, key, 20*time.Second)
			polltest.Until(t, "the load runs", func() bool { return count() > 100 })

			show := r.hide(t, 0)
			r.signalModules(t, 0, tt.signal)
			polltest.Until(t, "the member is out of service", func() bool { return states(c)[0] == hsm.Unhealthy })
			seen := count()
			polltest.Until(t, "the others carry on", func() bool { return count() > seen+100 })
			second := createKey(t, c) // while the first member is away
			show()
			polltest.Until(t, "the member serves again", allHealthy(c))
			stop()

			sealed := mustEncrypt(t, c, second)
			r.fail(1, always(pkcs11.ErrLost))
			r.fail(2, always(pkcs11.ErrLost))
			for range 3 {
				mustDecrypt(t, c, second, sealed) // on the member that was away
			}
		})
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	encrypt := func(t *testing.T, c *hsm.Connection, key keystore.Key) error {
		_, err := c.Encrypt(t.Context(), call("Encrypt"), key, nil, []byte("plaintext"), nil)
		return err
	}
	t.Run("a member without a free session is passed over", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 2)
		c := r.connect(t)
		key := createKey(t, c)
		r.fail(0, on(pkcs11.ErrBusy, "EncryptGCM"))
		for range 4 {
			mustEncrypt(t, c, key)
		}
		r.fail(1, on(rv("C_OpenSession", pkcs11.CKR_SESSION_COUNT), "EncryptGCM"))
		err := encrypt(t, c, key)
		wantCode(t, err, kmsapi.KMSInternal)
		if err == nil || !strings.Contains(err.Error(), "PKCS #11 sessions") {
			t.Errorf("the text is %v", err)
		}
		if got := fmt.Sprint(states(c)); got != "[HEALTHY HEALTHY]" {
			t.Errorf("being busy made the members %s", got)
		}
	})
	t.Run("without any member the caller is told so", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 2)
		c := r.connect(t)
		key := createKey(t, c)
		r.fail(0, always(pkcs11.ErrLost))
		r.fail(1, always(rv("C_Encrypt", pkcs11.CKR_DEVICE_ERROR)))
		err := encrypt(t, c, key)
		wantCode(t, err, kmsapi.KMSInvalidState)
		if err == nil || !strings.Contains(err.Error(), "KMS cannot communicate with your CloudHSM cluster") {
			t.Errorf("the text is %v", err)
		}
		_, err = c.Random(t.Context(), call("GenerateRandom"), 8)
		wantCode(t, err, kmsapi.DependencyTimeout)
		r.fail(0, nil)
		r.fail(1, nil)
		polltest.Until(t, "both serve again", allHealthy(c))
		mustEncrypt(t, c, key)
	})
	t.Run("a module that stays broken is replaced", func(t *testing.T) {
		t.Parallel()
		for _, broken := range []string{"Info", "Login"} {
			r := newRig(t, 2)
			c := r.connect(t)
			var opened atomic.Bool
			r.fail(0, func(call string) error {
				switch {
				case call == "Open":
					opened.Store(true)
				case opened.Load():
				case call == broken, call == "EncryptGCM":
					return rv("C_GetTokenInfo", pkcs11.CKR_GENERAL_ERROR)
				}
				return nil
			})
			if broken == "Login" {
				r.signalModules(t, 0, syscall.SIGKILL)
			}
			polltest.Until(t, "the token opened anew, and serving", func() bool { return opened.Load() && allHealthy(c)() })
			mustEncrypt(t, c, createKey(t, c))
		}
	})
	t.Run("bad ciphertexts take no member out of service", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 2)
		c := r.connect(t)
		key := createKey(t, c)
		sealed := mustEncrypt(t, c, key)
		sealed[len(sealed)-1] ^= 1
		since := c.Status().Members[0].Since
		for range 50 {
			_, err := c.Decrypt(t.Context(), call("Decrypt"), key, sealed, []byte("aad"))
			wantCode(t, err, kmsapi.InvalidCiphertext)
		}
		if got := fmt.Sprint(states(c)); got != "[HEALTHY HEALTHY]" || c.Status().Members[0].Since != since {
			t.Errorf("the members are %s, or were taken out in between", got)
		}
	})
	t.Run("a member that fails what it could do before makes no good ciphertext look bad", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 2)
		c := r.connect(t)
		key := createKey(t, c)
		sealed := mustEncrypt(t, c, key)
		r.fail(0, on(rv("C_Decrypt", pkcs11.CKR_GENERAL_ERROR), "DecryptGCM"))
		for range 6 {
			mustDecrypt(t, c, key, sealed)
		}
		r.fail(1, on(rv("C_Decrypt", pkcs11.CKR_GENERAL_ERROR), "DecryptGCM"))
		_, err := c.Decrypt(t.Context(), call("Decrypt"), key, sealed, []byte("aad"))
		if code := kmsapi.CodeOf(err); code == kmsapi.InvalidCiphertext || err == nil {
			t.Errorf("with two sick members Decrypt ended with %v", err)
		}
	})
	t.Run("a deadline leaves time for another member", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 2, func(r *rig) { r.cluster().Members[0].Token.CallTimeout = time.Minute })
		c := r.connect(t)
		key := createKey(t, c)
		mustEncrypt(t, c, key)
		r.signalModules(t, 0, syscall.SIGSTOP)
		for range 2 { // each begins with another member
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			if _, err := c.Encrypt(ctx, call("Encrypt"), key, nil, []byte("x"), nil); err != nil {
				t.Errorf("Encrypt: %v", err)
			}
			cancel()
		}
	})
	t.Run("a caller that goes away leaves the members in service", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 2)
		c := r.connect(t)
		key := createKey(t, c)
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
			_, _ = c.Encrypt(ctx, call("Encrypt"), key, nil, []byte("x"), nil)
			cancel()
		}
		if got := fmt.Sprint(states(c)); got != "[HEALTHY HEALTHY]" {
			t.Errorf("the members are %s", got)
		}
	})
	t.Run("a closed connection refuses and has given everything back", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 2)
		c := r.connect(t)
		key := createKey(t, c)
		closeConnection(c)
		wantCode(t, encrypt(t, c, key), kmsapi.KMSInvalidState)
		if free, err := r.declared.FreeAddresses("subnet-00000000"); err != nil || free != 10 {
			t.Errorf("%d addresses are free (%v), want 10", free, err)
		}
	})
}
