package rack_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
)

// use opens a token, puts a key into it, and tells how many there are then.
func use(t *testing.T, p rack.Prepared) int {
	t.Helper()
	token, err := pkcs11.Open(testContext(t), p.Config, discard)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, token)
	if err := token.Login(testContext(t), p.PIN); err != nil {
		t.Fatal(err)
	}
	generate(t, token, dataKey)
	keys, err := token.ListKeys(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return len(keys)
}

// pool is a way to have a token, with what it leaves.
type kind struct {
	name string
	pool func(t *testing.T) rack.Pool
	pin  secret.Text // that opens the token
}

var kinds = []kind{
	{"made on demand", func(t *testing.T) rack.Pool { return softPool(t, "p", 1) }, pins.User},
	{"declared with the SO PIN", func(t *testing.T) rack.Pool {
		ref := pkcs11test.NewTokens(t, 1)[0]
		return declaredPool(rack.DeclaredToken{Config: ref.Config(), SOPIN: secret.NewText(ref.SOPIN)})
	}, pins.User},
	{"declared by serial number with the SO PIN", func(t *testing.T) rack.Pool {
		ref := pkcs11test.NewTokens(t, 1)[0]
		ref.URI.Token = ""
		return declaredPool(rack.DeclaredToken{Config: ref.Config(), SOPIN: secret.NewText(ref.SOPIN)})
	}, pins.User},
	{"declared with the user's PIN", func(t *testing.T) rack.Pool {
		ref := pkcs11test.NewTokens(t, 1)[0]
		return declaredPool(rack.DeclaredToken{Config: ref.Config(), PIN: secret.NewText(ref.PIN)})
	}, secret.NewText("1234")},
}

func declaredPool(token rack.DeclaredToken) rack.Pool {
	return rack.Pool{Name: "p", AvailabilityZone: "eu-central-1a", Tokens: []rack.DeclaredToken{token}}
}

func TestATokenIsPreparedUsedWipedAndPreparedAgain(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			pool := k.pool(t)
			at := choose(t, newPools(t, pool))
			for _, round := range []string{"first", "prepared over a used one", "prepared after a wipe"} {
				p := newPools(t, pool) // as after a restart
				prepared := prepare(t, p, at)
				if !prepared.PIN.Equal(k.pin) || prepared.Info.Serial == "" || !prepared.Info.UserPINInitialized {
					t.Errorf("%s: the token is %+v", round, prepared.Info)
				}
				if n := use(t, prepared); n != 1 {
					t.Errorf("%s: %d keys are there", round, n)
				}
				reached, err := newPools(t, pool).Reach(at, pins)
				if err != nil {
					t.Fatal(err)
				}
				if n := use(t, reached); n != 2 {
					t.Errorf("%s: %d keys are there when it is reached again", round, n)
				}
				if round == "first" {
					continue
				}
				for range 2 {
					if err := p.Wipe(testContext(t), at, pins); err != nil {
						t.Errorf("%s: %v", round, err)
					}
				}
			}
		})
	}
}

func TestAWipedTokenLetsNobodyIn(t *testing.T) {
	t.Parallel()
	for _, k := range kinds[:3] {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			p := newPools(t, k.pool(t))
			at := choose(t, p)
			prepared := prepare(t, p, at)
			use(t, prepared)
			if err := p.Wipe(testContext(t), at, pins); err != nil {
				t.Fatal(err)
			}
			token, err := pkcs11.Open(testContext(t), prepared.Config, discard)
			if err != nil {
				return // there is no token any more
			}
			defer mustClose(t, token)
			if err := token.Login(testContext(t), pins.User); !errors.Is(err, rv(pkcs11.CKR_USER_PIN_NOT_INITIALIZED)) {
				t.Errorf("logging in: %v", err)
			}
		})
	}
}

func TestATokenUsedAsItStandsIsEmptyAfterAWipe(t *testing.T) {
	t.Parallel()
	k := kinds[3]
	p := newPools(t, k.pool(t))
	at := choose(t, p)
	prepared := prepare(t, p, at)
	use(t, prepared)
	if err := p.Wipe(testContext(t), at, pins); err != nil {
		t.Fatal(err)
	}
	if n := use(t, prepared); n != 1 {
		t.Errorf("%d keys were left", n-1)
	}
}

func TestNoFileOfAMadeTokenIsLeft(t *testing.T) {
	t.Parallel()
	pool := softPool(t, "soft", 1)
	p := newPools(t, pool)
	at := choose(t, p)
	if err := p.Wipe(testContext(t), at, pins); err != nil {
		t.Errorf("wiping what never was: %v", err)
	}
	use(t, prepare(t, p, at))
	if len(files(t, pool.SoftHSM2.Directory)) < 5 {
		t.Error("the token is somewhere else")
	}
	if err := p.Wipe(testContext(t), at, pins); err != nil {
		t.Fatal(err)
	}
	if left := files(t, pool.SoftHSM2.Directory); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if _, err := p.Reach(at, pins); !errors.Is(err, rack.ErrNotPrepared) {
		t.Errorf("reaching it: %v", err)
	}
}

// A crash leaves what was made until then: the directory without a token, the token without its mark,
// or, of a wipe, a part of the files.
func TestPreparingGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(t *testing.T, dir string) error{
		"before the mark": func(_ *testing.T, dir string) error { return os.Remove(filepath.Join(dir, "uri")) },
		"with half a mark": func(_ *testing.T, dir string) error {
			return os.Rename(filepath.Join(dir, "uri"), filepath.Join(dir, "uri.new"))
		},
		"in the middle of a wipe": func(_ *testing.T, dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "uri")), os.RemoveAll(filepath.Join(dir, "tokens")))
		},
		"before the token": func(t *testing.T, dir string) error {
			err := errors.Join(os.Remove(filepath.Join(dir, "uri")), os.Remove(filepath.Join(dir, "softhsm2.conf")))
			return errors.Join(err, os.RemoveAll(filepath.Join(dir, "tokens")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := softPool(t, "soft", 1)
			p := newPools(t, pool)
			at := choose(t, p)
			use(t, prepare(t, p, at))
			if err := crash(t, filepath.Join(pool.SoftHSM2.Directory, at.Token)); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Reach(at, pins); !errors.Is(err, rack.ErrNotPrepared) {
				t.Errorf("reaching it: %v", err)
			}
			if n := use(t, prepare(t, p, at)); n != 1 {
				t.Errorf("%d keys were left", n-1)
			}
		})
	}
}

func TestPreparingFailsAtEveryStepAndThenSucceeds(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	p := newPools(t, declaredPool(rack.DeclaredToken{Config: ref.Config(), SOPIN: secret.NewText(ref.SOPIN)}))
	at := choose(t, p)
	for _, fault := range []string{"C_InitToken rv=0x30", "C_InitToken crash count=1", "C_InitPIN rv=0x30", "C_InitPIN crash count=1", "C_OpenSession rv=0x30"} {
		faults.Set(t, fault)
		_, err := p.Prepare(testContext(t), at, "cluster-a", pins)
		if err == nil || faults.Hits(t, strings.Fields(fault)[0]) == 0 {
			t.Errorf("%s: no error", fault)
		}
		faults.Clear(t)
		if n := use(t, prepare(t, p, at)); n != 1 {
			t.Errorf("%s: %d keys were left", fault, n-1)
		}
	}
}

func TestErrorsHoldNoPIN(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 2)
	wrong := secret.NewText("WRONG-PIN-TEXT")
	gone := ref[0].Config()
	gone.URI.Serial = "0"
	for name, token := range map[string]rack.DeclaredToken{
		"a wrong SO PIN": {Config: ref[0].Config(), SOPIN: wrong},
		"a wrong PIN":    {Config: ref[1].Config(), PIN: wrong},
		"no such token":  {Config: gone, SOPIN: wrong},
	} {
		p := newPools(t, declaredPool(token))
		_, err := p.Prepare(testContext(t), choose(t, p), "cluster-a", pins)
		wiped := p.Wipe(testContext(t), choose(t, p), pins)
		if err == nil || wiped == nil || strings.Contains(err.Error()+wiped.Error(), "PIN-TEXT") {
			t.Errorf("%s: %v, %v", name, err, wiped)
		}
	}
	p := newPools(t, softPool(t, "soft", 1))
	if _, err := p.Prepare(testContext(t), choose(t, p), strings.Repeat("l", 33), pins); err == nil {
		t.Error("a label of 33 bytes was taken")
	}
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if _, err := p.Prepare(ctx, choose(t, p), "cluster-a", pins); !errors.Is(err, context.Canceled) {
		t.Errorf("preparing when nobody waits: %v", err)
	}
}

// A token is blank before it is prepared for the first time and after it was wiped, and not between.
func TestATokenIsBlankUnlessItIsUsed(t *testing.T) {
	t.Parallel()
	fresh := kinds[0].pool
	for name, pool := range map[string]func(t *testing.T) rack.Pool{
		"made on demand": fresh,
		"declared with the SO PIN": func(t *testing.T) rack.Pool {
			ref := pkcs11test.NewToken(t, "blank", "")
			return declaredPool(rack.DeclaredToken{Config: ref.Config(), SOPIN: secret.NewText(ref.SOPIN)})
		},
		"declared with the user's PIN": kinds[3].pool,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPools(t, pool(t))
			at := choose(t, p)
			for range 2 {
				if err := p.Blank(testContext(t), at); err != nil {
					t.Fatalf("a token that nobody uses: %v", err)
				}
				use(t, prepare(t, p, at))
				if err := p.Blank(testContext(t), at); name != "made on demand" && !errors.Is(err, rack.ErrNotBlank) {
					t.Errorf("a token with a key: %v", err)
				}
				if err := p.Wipe(testContext(t), at, pins); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	for _, k := range kinds[1:2] { // it has a user, who may have keys that an officer does not see
		p := newPools(t, k.pool(t))
		if err := p.Blank(testContext(t), choose(t, p)); !errors.Is(err, rack.ErrNotBlank) {
			t.Errorf("a token with a user: %v", err)
		}
	}
}
