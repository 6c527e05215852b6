package hsm_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
)

// throughFaults puts the faulty module before every token, with the faults.
func throughFaults(t *testing.T, r *rig, lines ...string) {
	t.Helper()
	faults := pkcs11test.NewFaults(t)
	faults.Set(t, lines...)
	for i := range r.cluster().Members {
		token := &r.cluster().Members[i].Token
		token.URI.ModulePath = pkcs11test.FaultModule(t)
		token.Env = append(token.Env, faults.Env())
		token.CallTimeout = 10 * time.Second
		r.tokens[i].URI, r.tokens[i].Env = token.URI, token.Env
	}
}

// Each of the ten codes, for its real cause.
func TestConnectionErrorCodes(t *testing.T) {
	t.Parallel()
	pkcs11test.Require(t)
	for _, tt := range []struct {
		name string
		code kmsapi.ConnectionErrorCode
		make func(t *testing.T) *rig
		step string // the last one in the evidence
		text string // within its failure
	}{
		{"no such cluster", kmsapi.ClusterNotFound, func(t *testing.T) *rig {
			r := newRig(t, 2)
			r.cfg.HSM.ClusterID = "cluster-zzzzzzzzzzz"
			return r
		}, "find cluster", "no such cluster"},
		{"a cluster that is being deleted", kmsapi.ClusterNotFound, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) { r.cluster().State = cloudhsmapi.ClusterDeleteInProgress })
		}, "check cluster state", "DELETE_IN_PROGRESS"},
		{"no HSM declared", kmsapi.InsufficientCloudHSMHSMs, func(t *testing.T) *rig {
			return newRig(t, 0)
		}, "verify trust anchor", ""},
		{"all HSMs gone", kmsapi.InsufficientCloudHSMHSMs, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) {
				for i := range r.cluster().Members {
					r.cluster().Members[i].Token.URI.Serial = "0000"
				}
			})
		}, "reach HSM", "no such token"},
		{"a subnet without a free address", kmsapi.InsufficientFreeAddressesInSubnet, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) { r.decl.Subnets[1].InUse = 16 - 5 - 1 })
		}, "reserve addresses", "subnet-00000001"},
		{"a subnet that was deleted", kmsapi.SubnetNotFound, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) { r.decl.Subnets = r.decl.Subnets[:1] })
		}, "reserve addresses", "subnet-00000001"},
		{"a module that cannot be loaded", kmsapi.InternalError, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) {
				for i := range r.cluster().Members {
					r.cluster().Members[i].Token.URI.ModulePath = "/nonexistent.so"
				}
			})
		}, "reach HSM", "cannot be loaded"},
		{"an HSM that cannot change passwords", kmsapi.InternalError, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) { throughFaults(t, r, "C_SetPIN rv=0x54") })
		}, "change password", "CKR_FUNCTION_NOT_SUPPORTED"},
		{"another trust anchor", kmsapi.InternalError, func(t *testing.T) *rig {
			r := newRig(t, 2)
			r.cfg.HSM.TrustAnchor = newAnchor(t)
			return r
		}, "verify trust anchor", "another key"},
		{"a wrong password", kmsapi.InvalidCredentials, func(t *testing.T) *rig {
			r := newRig(t, 2)
			r.pw = newLedger("wrong-one")
			return r
		}, "log in", "CKR_PIN_INCORRECT"},
		{"HSMs that answer with device errors", kmsapi.NetworkErrors, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) { throughFaults(t, r, "C_Login rv=0x30") })
		}, "log in", "CKR_DEVICE_ERROR"},
		{"HSMs that hang", kmsapi.NetworkErrors, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) {
				throughFaults(t, r, "C_Login hang")
				for i := range r.cluster().Members {
					r.cluster().Members[i].Token.CallTimeout = 2 * time.Second
				}
			})
		}, "log in", ""},
		{"modules that crash", kmsapi.NetworkErrors, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) { throughFaults(t, r, "C_Login crash") })
		}, "log in", ""},
		{"a locked user", kmsapi.UserLockedOut, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) { throughFaults(t, r, "C_Login rv=0xA4") })
		}, "log in", "CKR_PIN_LOCKED"},
		{"a user that is logged in elsewhere", kmsapi.UserLoggedIn, func(t *testing.T) *rig {
			return newRig(t, 2, func(r *rig) { throughFaults(t, r, "C_Login rv=0x100") })
		}, "log in", "CKR_USER_ALREADY_LOGGED_IN"},
		{"no such user", kmsapi.UserNotFound, func(t *testing.T) *rig {
			return rigOn(t, []pkcs11test.TokenRef{pkcs11test.NewToken(t, "a", ""), pkcs11test.NewToken(t, "b", "")})
		}, "log in", "CKR_USER_PIN_NOT_INITIALIZED"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := tt.make(t)
			_, evidence, err := r.tryConnect(t)
			if got := keystore.CodeOf(err); got != tt.code || evidence.Code != tt.code {
				t.Fatalf("connecting ended with %q: %v; want %s", got, err, tt.code)
			}
			last := evidence.Steps[len(evidence.Steps)-1]
			if last.Name != tt.step || !strings.Contains(last.Failure, tt.text) {
				t.Errorf("the last step is %+v, want %q that failed with %q", last, tt.step, tt.text)
			}
			if free, err := r.declared.FreeAddresses("subnet-00000000"); err == nil && free != 16-5-len(r.cluster().Members[:min(1, len(r.cluster().Members))]) {
				t.Errorf("%d addresses are free after the failure", free)
			}
		})
	}
}

func TestConnecting(t *testing.T) {
	t.Parallel()
	t.Run("goes on with one member when the other one is away", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 2)
		closeConnection(r.connect(t))
		r.fail(1, always(pkcs11.ErrLost))
		c := r.connect(t)
		if len(r.pw.older) != 1 {
			t.Errorf("%d older passwords are kept for the member that is away, want 1", len(r.pw.older))
		}
		_, err := c.CreateKey(t.Context(), call("CreateKey"), keystore.NewKey{ID: "x", ARN: "y"})
		wantCode(t, err, kmsapi.CloudHsmClusterInvalidConfiguration)
		if !strings.Contains(err.Error(), "CloudHSM cluster must contain active HSMs in at least two Availability Zones") {
			t.Errorf("the text is %v", err)
		}
		if _, err := c.Random(t.Context(), call("GenerateRandom"), 8); err != nil {
			t.Errorf("Random: %v", err)
		}
		r.fail(1, nil)
		polltest.Until(t, "both serve", allHealthy(c))
		createKey(t, c)
	})
	t.Run("makes no cluster key while a member is away that may have one", func(t *testing.T) {
		t.Parallel()
		r := freshRig(t, 2)
		r.fail(1, always(pkcs11.ErrLost))
		c := r.connect(t)
		if s := c.Status().Members[0]; s.ClusterKey {
			t.Error("there is a cluster key")
		}
		r.fail(1, nil)
		polltest.Until(t, "both serve", allHealthy(c))
		_, err := c.CreateKey(t.Context(), call("CreateKey"), keystore.NewKey{ID: "x", ARN: "y"})
		wantCode(t, err, kmsapi.CloudHsmClusterInvalidConfiguration)
		closeConnection(c)
		createKey(t, r.connect(t))
	})
	t.Run("fails when two members have different cluster keys and replaces neither", func(t *testing.T) {
		t.Parallel()
		a, b := freshRig(t, 1), freshRig(t, 1)
		closeConnection(a.connect(t))
		closeConnection(b.connect(t))
		r := rigOn(t, append(a.tokens, b.tokens...))
		r.pw.current = secret.NewText("00000000000000000000000000000001") // what both ledgers drew first
		_, evidence, err := r.tryConnect(t)
		if keystore.CodeOf(err) != kmsapi.InternalError || !strings.Contains(evidence.Failure, "different cluster keys") {
			t.Errorf("connecting ended with %v", err)
		}
	})
	t.Run("stops at the last password that does not lock the user", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 1)
		r.pw.current = secret.NewText("wrong-0")
		for _, w := range []string{"wrong-1", "wrong-2", "wrong-3", "wrong-4", "1234"} {
			r.pw.older = append(r.pw.older, secret.NewText(w))
		}
		logins := 0
		r.fail(0, func(call string) error {
			if call == "Login" {
				logins++
			}
			return nil
		})
		_, _, err := r.tryConnect(t)
		if keystore.CodeOf(err) != kmsapi.InvalidCredentials || logins != 4 {
			t.Errorf("after %d passwords: %v; want 4 and INVALID_CREDENTIALS", logins, err)
		}
	})
	t.Run("sends user and password where the PIN is made of both", func(t *testing.T) {
		t.Parallel()
		tokens := []pkcs11test.TokenRef{pkcs11test.NewToken(t, "a", "kmsuser:1234"), pkcs11test.NewToken(t, "b", "kmsuser:1234")}
		r := rigOn(t, tokens, func(r *rig) { r.cluster().PINFormat = cloudhsm.PINIsUserColonAndPass })
		closeConnection(r.connect(t))
		if !r.pin(t, 0, secret.NewText("kmsuser:"+r.pw.current.Reveal())) {
			t.Error("the token does not have the new password")
		}
	})
	t.Run("gives everything back when it fails", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, 2)
		r.pw.fault = func(step string) error {
			if step == "Prepare" {
				return errors.New("no ledger")
			}
			return nil
		}
		if _, _, err := r.tryConnect(t); keystore.CodeOf(err) != kmsapi.InternalError {
			t.Fatalf("connecting ended with %v", err)
		}
		if free, err := r.declared.FreeAddresses("subnet-00000000"); err != nil || free != 10 {
			t.Errorf("%d addresses are free (%v), want 10", free, err)
		}
	})
}
