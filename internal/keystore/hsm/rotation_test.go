package hsm_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/polltest"
)

var errInterrupted = errors.New("interrupted")

// A rotation that stops anywhere leaves a ledger with which the next attempt
// finds every member's password.
func TestRotationIsRecoveredAfterAnInterruption(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		ledger string           // the step of the ledger that fails
		member int              // or the member
		calls  map[string]error // whose calls fail
		fails  bool             // whether the attempt fails
	}{
		{name: "before the password was prepared", ledger: "Prepare", fails: true},
		{name: "after the password was prepared", ledger: "after:Prepare", fails: true},
		{name: "before the first member was changed", member: 0, calls: map[string]error{"SetPIN": pkcs11.ErrLost}},
		{name: "after the first member was changed, with the answer lost", member: 0, calls: map[string]error{"after:SetPIN": pkcs11.ErrLost}},
		{name: "before the second member was changed", member: 1, calls: map[string]error{"SetPIN": pkcs11.ErrLost}},
		{name: "after the second member was changed, with the answer lost", member: 1, calls: map[string]error{"after:SetPIN": pkcs11.ErrLost}},
		{name: "before the commit", ledger: "Commit", fails: true},
		{name: "after the commit", ledger: "after:Commit", fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2)
			once := false
			if tt.ledger != "" {
				r.pw.fault = func(step string) error {
					if step == tt.ledger && !once {
						once = true
						return errInterrupted
					}
					return nil
				}
			} else {
				r.fail(tt.member, func(call string) error {
					if err := tt.calls[call]; err != nil && !once {
						once = true
						return err
					}
					return nil
				})
			}
			c, _, err := r.tryConnect(t)
			if (err != nil) != tt.fails {
				t.Fatalf("the first attempt ended with %v", err)
			}
			if !once {
				t.Fatal("nothing was interrupted")
			}
			if c != nil {
				polltest.Until(t, "both members serve", allHealthy(c))
				closeConnection(c)
			}
			c = r.connect(t)
			if got := states(c); fmt.Sprint(got) != "[HEALTHY HEALTHY]" {
				t.Errorf("the members are %v", got)
			}
			createKey(t, c)
			if n := len(r.pw.Candidates()); n != 1 {
				t.Errorf("%d passwords are kept although all members have the current one", n)
			}
			for i := range r.tokens {
				if !r.pin(t, i, r.pw.Candidates()[0]) {
					t.Errorf("member %d has another password than the ledger", i)
				}
			}
		})
	}
}

func TestMemberThatMissedManyConnectionsCatchesUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	closeConnection(r.connect(t))
	r.fail(1, always(pkcs11.ErrLost))
	for range 4 {
		closeConnection(r.connect(t))
	}
	c := r.connect(t)
	if n := len(r.pw.Candidates()); n != 3 {
		t.Fatalf("%d candidates, want the current password and two older ones", n)
	}
	r.fail(1, nil)
	polltest.Until(t, "both members serve", allHealthy(c))
	createKey(t, c)
	if !r.pin(t, 1, r.pw.Candidates()[0]) {
		t.Error("the member that was away does not have the current password")
	}
}

func TestMemberWithAnUnknownPasswordIsLeftAloneAfterFewAttempts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	closeConnection(r.connect(t))
	logins := 0
	r.fail(1, func(call string) error {
		if call == "Login" {
			logins++
			return rv("C_Login", pkcs11.CKR_PIN_INCORRECT)
		}
		return nil
	})
	c := r.connect(t)
	infos := 0
	r.fail(1, func(call string) error {
		switch call {
		case "Login":
			logins++
			return rv("C_Login", pkcs11.CKR_PIN_INCORRECT)
		case "Info":
			infos++
		}
		return nil
	})
	polltest.Until(t, "the supervisor has tried often", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return infos > 10
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if logins > 4 {
		t.Errorf("the user was sent to the HSM with %d wrong passwords", logins)
	}
	if got := c.Status().Members[1]; got.LastError == "" {
		t.Errorf("the status tells no reason: %+v", got)
	}
}

// An HSM that refuses the new password serves with the old one, also after a restart.
func TestMemberThatKeepsItsPasswordServes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.fail(1, on(rv("C_SetPIN", pkcs11.CKR_PIN_INVALID), "SetPIN"))
	c := r.connect(t)
	if got := fmt.Sprint(states(c)); got != "[HEALTHY HEALTHY]" {
		t.Errorf("after connecting the members are %s", got)
	}
	key := createKey(t, c)
	closeConnection(c)
	c = r.resume(t)
	polltest.Until(t, "both members serve", allHealthy(c))
	mustDecrypt(t, c, key, mustEncrypt(t, c, key))
	closeConnection(c)
	if current := r.pw.Candidates()[0]; !r.pin(t, 0, current) || r.pin(t, 1, current) {
		t.Error("the first member should have the new password, and the second not")
	}
}

// Only logging in may send a password: others may have changed it.
func TestLookingForKeysSendsNoPassword(t *testing.T) {
	t.Parallel()
	// Nobody looks after the tokens while another process writes to them: SoftHSM2
	// can take what is half written for broken, and then a new login is in order.
	r := newRig(t, 2, func(r *rig) { r.kindOpts.Poll = time.Hour })
	c := r.connect(t)
	key := createKey(t, c)
	var logins atomic.Int64
	count := func(call string) error {
		if call == "Login" {
			logins.Add(1)
		}
		return nil
	}
	for i := range r.tokens {
		r.fail(i, count)
	}
	r.destroy(t, 0, key.ARN)
	r.destroy(t, 1, key.ARN)
	c2 := createKey(t, c)
	mustDecrypt(t, c, c2, mustEncrypt(t, c, c2))
	_, _ = c.Encrypt(t.Context(), call("Encrypt"), key, nil, []byte("x"), nil)
	polltest.Until(t, "both members serve", allHealthy(c))
	if n := logins.Load(); n != 0 {
		t.Errorf("the password was sent %d times", n)
	}
}

// Modules that cannot change a password have clusters that are declared so.
func TestClusterThatKeepsItsPassword(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, func(r *rig) { r.cluster().KeepPassword = true })
	for i := range r.tokens {
		r.fail(i, on(rv("C_SetPIN", pkcs11.CKR_FUNCTION_NOT_SUPPORTED), "SetPIN"))
	}
	before := r.pw.Candidates()
	c := r.connect(t)
	key := createKey(t, c)
	mustDecrypt(t, c, key, mustEncrypt(t, c, key))
	closeConnection(c)
	if after := r.pw.Candidates(); len(after) != len(before) || !after[0].Equal(before[0]) || !r.pin(t, 0, before[0]) {
		t.Error("the password was changed")
	}
}
