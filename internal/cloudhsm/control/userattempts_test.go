package control

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
)

func TestFiveWrongPasswordsLockAUserOnOneHSM(t *testing.T) {
	t.Parallel()
	table := activeTable(t)
	for range 4 {
		if err := login(table, "kmsuser", cryptoUser, "wrong", "hsm-a"); err != errWrongPassword {
			t.Fatal(err)
		}
	}
	must(t, login(table, "kmsuser", cryptoUser, kmsPassword, "hsm-a")) // begins anew
	for range 5 {
		if err := login(table, "kmsuser", cryptoUser, "wrong", "hsm-a"); err != errWrongPassword {
			t.Fatal(err)
		}
	}
	for _, password := range []string{"wrong", kmsPassword} {
		if err := login(table, "kmsuser", cryptoUser, password, "hsm-a"); err != errUserLocked {
			t.Errorf("after five wrong passwords: %v", err)
		}
	}
	must(t, login(table, "kmsuser", cryptoUser, kmsPassword, "hsm-b"))
	must(t, table.changePassword(made(t, table, "kmsuser", cryptoUser, "changed1")))
	must(t, login(table, "kmsuser", cryptoUser, "changed1", "hsm-a"))
	if err := login(table, "kmsuser", cryptoUser, kmsPassword, "hsm-a"); err != errWrongPassword {
		t.Errorf("the password that was changed: %v", err)
	}
}

func TestALoginAtManyHSMsNeedsOneThatLetsIn(t *testing.T) {
	t.Parallel()
	table := activeTable(t, "alice")
	for range 5 {
		_ = login(table, "alice", cryptoUser, "wrong", "hsm-a")
	}
	if err := login(table, "alice", cryptoUser, "wrong", "hsm-a", "hsm-b"); err != errWrongPassword {
		t.Errorf("locked on one of two: %v", err)
	}
	must(t, login(table, "alice", cryptoUser, rightPassword, "hsm-a", "hsm-b"))
	if err := login(table, "alice", cryptoUser, rightPassword, "hsm-a"); err != errUserLocked {
		t.Errorf("another HSM's login unlocked the user: %v", err)
	}
	if err := login(table, "alice", cryptoUser, rightPassword); err != errNoHSM {
		t.Errorf("no HSM at all: %v", err)
	}
}

func TestOnlyWhatChangedIsWritten(t *testing.T) {
	t.Parallel()
	table := activeTable(t)
	for _, step := range []struct {
		password string
		write    bool
	}{{kmsPassword, false}, {"wrong", true}, {kmsPassword, true}, {kmsPassword, false}, {"wrong", true}, {"wrong", true}, {"wrong", true}, {"wrong", true}, {"wrong", true}, {"wrong", false}} {
		if write, err := table.settle(table.try("kmsuser", cryptoUser, textOf(step.password)), "hsm-a"); write != step.write {
			t.Errorf("%+v: %v, %v", step, write, err)
		}
	}
}

func TestAnAttemptIsOfThePasswordThatItWasComparedWith(t *testing.T) {
	t.Parallel()
	changes := map[string]struct {
		change func(*testing.T, *userTable)
		want   error
	}{
		"the password was set again": {func(t *testing.T, table *userTable) {
			must(t, table.changePassword(made(t, table, "alice", cryptoUser, rightPassword)))
		}, errUserChanged},
		"the user was deleted": {func(t *testing.T, table *userTable) { must(t, table.delete("alice", cryptoUser)) }, errNoUser},
		"the user was made anew": {func(t *testing.T, table *userTable) {
			must(t, table.delete("alice", cryptoUser))
			must(t, table.create(made(t, table, "alice", cryptoUser, rightPassword)))
		}, errUserChanged},
		"another user's password was set": {func(t *testing.T, table *userTable) {
			must(t, table.changePassword(made(t, table, "kmsuser", cryptoUser, kmsPassword)))
		}, nil},
	}
	for name, test := range changes {
		for _, password := range []string{rightPassword, "wrong"} {
			table := activeTable(t, "alice")
			a := table.try("alice", cryptoUser, textOf(password))
			test.change(t, table)
			want := test.want
			if want == nil && password == "wrong" {
				want = errWrongPassword
			}
			if _, err := table.settle(a, "hsm-a"); !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", name, password, err, want)
			}
			if want == errUserChanged && len(table.find("alice", cryptoUser).Wrong) != 0 {
				t.Errorf("%s, %s: it is counted", name, password)
			}
		}
	}
	table := activeTable(t)
	a := table.try("alice", cryptoUser, textOf(rightPassword))
	must(t, table.create(made(t, table, "alice", cryptoUser, rightPassword)))
	if _, err := table.settle(a, "hsm-a"); err != errUserChanged {
		t.Errorf("a user that was made in between: %v", err)
	}
}

func TestACopyOfATableStaysAsItWas(t *testing.T) {
	t.Parallel()
	table := activeTable(t, "alice")
	_ = login(table, "alice", cryptoUser, "wrong", "hsm-a", "hsm-b")
	before := *table
	kept := *activeTable(t)
	kept.Users = nil
	for _, u := range before.Users {
		counts := map[string]int{}
		for hsm, n := range u.Wrong {
			counts[hsm] = n
		}
		if u.Wrong != nil {
			u.Wrong = counts
		}
		kept.Users = append(kept.Users, u)
	}
	kept.Generation = before.Generation

	_ = login(table, "alice", cryptoUser, "wrong", "hsm-a")
	table.forget("hsm-b")
	must(t, table.create(made(t, table, "bob", cryptoUser, rightPassword)))
	must(t, table.changePassword(made(t, table, "kmsuser", cryptoUser, "changed1")))
	must(t, table.unlock("alice", cryptoUser))
	must(t, table.delete("alice", cryptoUser))
	if diff := cmp.Diff(kept, before); diff != "" {
		t.Error(diff)
	}
}

// model is the table as the rules have it: what is locked is counted by hand.
type model struct {
	password map[string]string
	wrong    map[[2]string]int // user, HSM
}

func TestLocksFollowTheRules(t *testing.T) {
	t.Parallel()
	hsms := []string{"hsm-a", "hsm-b", "hsm-c"}
	names := []string{"alice", "bob", "nobody"}
	passwords := []string{"password-1", "password-2"}
	rapid.Check(t, func(t *rapid.T) {
		table := &userTable{Rounds: 1}
		set := func(name, password string, take func(user) error) {
			u, err := table.newUser(name, cryptoUser, textOf(password))
			if err == nil {
				err = take(u)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		first, err := table.newUser("admin", admin, textOf(passwords[0]))
		if err != nil || table.activate(first) != nil {
			t.Fatal(err)
		}
		m := model{password: map[string]string{}, wrong: map[[2]string]int{}}
		for _, name := range names[:2] {
			m.password[name] = passwords[0]
			set(name, passwords[0], table.create)
		}
		clearCounts := func(name string) {
			for _, hsm := range hsms {
				delete(m.wrong, [2]string{name, hsm})
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"login": func(t *rapid.T) {
				name, password := rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom(passwords).Draw(t, "password")
				hsm := rapid.SampledFrom(hsms).Draw(t, "hsm")
				at := [2]string{name, hsm}
				var want error
				switch right, known := m.password[name]; {
				case !known:
					want = errNoUser
				case m.wrong[at] >= 5:
					want = errUserLocked
				case right == password:
					delete(m.wrong, at)
				default:
					m.wrong[at]++
					want = errWrongPassword
				}
				if err := login(table, name, cryptoUser, password, hsm); !errors.Is(err, want) {
					t.Fatalf("%s at %s: %v, want %v", name, hsm, err, want)
				}
			},
			"change": func(t *rapid.T) {
				name, password := rapid.SampledFrom(names[:2]).Draw(t, "name"), rapid.SampledFrom(passwords).Draw(t, "password")
				set(name, password, table.changePassword)
				m.password[name] = password
				clearCounts(name)
			},
			"unlock": func(t *rapid.T) {
				name := rapid.SampledFrom(names[:2]).Draw(t, "name")
				if err := table.unlock(name, cryptoUser); err != nil {
					t.Fatal(err)
				}
				clearCounts(name)
			},
			"forget": func(t *rapid.T) {
				hsm := rapid.SampledFrom(hsms).Draw(t, "hsm")
				table.forget(hsm)
				for _, name := range names {
					delete(m.wrong, [2]string{name, hsm})
				}
			},
			"": func(t *rapid.T) {
				for _, u := range table.list(hsms) {
					locked := 0
					for _, hsm := range hsms {
						if m.wrong[[2]string{u.UserName, hsm}] >= 5 {
							locked++
						}
					}
					want := map[int]cloudhsmapi.Consistency{0: "false", len(hsms): "true"}[locked]
					if want == "" {
						want = "inconsistent"
					}
					if u.Locked != want {
						t.Fatalf("%s is locked %s, want %s", u.UserName, u.Locked, want)
					}
				}
			},
		})
	})
}

// TestConcurrentAttemptsAreAllCounted has many who try on copies and commit one after the
// other, while the password is changed.
func TestConcurrentAttemptsAreAllCounted(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	kept := *activeTable(t)
	tryOnce := func(password string) (err error) {
		for err = errUserChanged; err == errUserChanged; {
			mu.Lock()
			read := kept
			mu.Unlock()
			a := read.try("kmsuser", cryptoUser, textOf(password))
			mu.Lock()
			_, err = kept.settle(a, "hsm-a")
			mu.Unlock()
		}
		return err
	}
	results := make(chan error, 20)
	var all sync.WaitGroup
	for i := range cap(results) {
		all.Go(func() { results <- tryOnce(fmt.Sprint("wrong ", i)) })
	}
	all.Wait()
	close(results)
	count := map[error]int{}
	for err := range results {
		count[err]++
	}
	if count[errWrongPassword] != 5 || count[errUserLocked] != 15 {
		t.Errorf("%v", count)
	}

	all.Go(func() {
		for i := range 50 {
			u := made(t, &userTable{Rounds: fewRounds}, "kmsuser", cryptoUser, fmt.Sprint("password", i))
			mu.Lock()
			_ = kept.changePassword(u)
			mu.Unlock()
		}
	})
	for range 4 {
		all.Go(func() { _ = tryOnce("password49") })
	}
	all.Wait()
	must(t, tryOnce("password49"))
}

func TestPINsAreSplitAtTheFirstColon(t *testing.T) {
	t.Parallel()
	for pin, want := range map[string][2]string{
		"kmsuser:secret1": {"kmsuser", "secret1"}, "u:a:b": {"u", "a:b"}, ":p": {"", "p"}, "u:": {"u", ""},
	} {
		name, password, err := splitPIN(textOf(pin))
		if err != nil || name != want[0] || password.Reveal() != want[1] {
			t.Errorf("%s is %s and %s, %v", pin, name, password.Reveal(), err)
		}
	}
	if _, _, err := splitPIN(textOf("secret1")); err != errBadPIN {
		t.Errorf("without a colon: %v", err)
	}
}

func TestErrorsInBothWorlds(t *testing.T) {
	t.Parallel()
	tests := map[error]struct {
		rv   uint
		code kmsapi.Code
	}{
		errWrongPassword:                     {pkcs11.CKR_PIN_INCORRECT, cloudhsmapi.AccessDenied},
		errUserLocked:                        {pkcs11.CKR_PIN_LOCKED, cloudhsmapi.AccessDenied},
		errNoUser:                            {pkcs11.CKR_USER_PIN_NOT_INITIALIZED, cloudhsmapi.ResourceNotFound},
		errUserLoggedIn:                      {pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN, cloudhsmapi.InvalidRequest},
		errBadPassword:                       {pkcs11.CKR_PIN_LEN_RANGE, cloudhsmapi.InvalidRequest},
		errTooManyUsers:                      {pkcs11.CKR_FUNCTION_FAILED, cloudhsmapi.ResourceLimitExceeded},
		errors.New("the disk is full"):       {pkcs11.CKR_FUNCTION_FAILED, kmsapi.KMSInternal},
		fmt.Errorf("more: %w", errNoUser):    {pkcs11.CKR_USER_PIN_NOT_INITIALIZED, cloudhsmapi.ResourceNotFound},
		fmt.Errorf("more: %w", errLastAdmin): {pkcs11.CKR_FUNCTION_FAILED, cloudhsmapi.InvalidRequest},
	}
	for err, want := range tests {
		if got := rvOf("C_Login", err); got.Function != "C_Login" || got.RV != want.rv {
			t.Errorf("%v returns %v", err, got)
		}
		if got := kmsapi.CodeOf(onWire(err)); got != want.code {
			t.Errorf("%v is %s", err, got)
		}
	}
	unknown, wrong := onWireOfLogin(errNoUser), onWireOfLogin(errWrongPassword)
	if unknown.Error() != wrong.Error() || !strings.Contains(wrong.Error(), string(cloudhsmapi.AccessDenied)) {
		t.Errorf("an unknown user is told from a wrong password: %v, %v", unknown, wrong)
	}
}
