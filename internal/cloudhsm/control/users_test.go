package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
)

const (
	admin      = cloudhsmapi.RoleAdmin
	cryptoUser = cloudhsmapi.RoleCryptoUser

	rightPassword = "right:password"
	kmsPassword   = "kmsuser1"
)

// fewRounds makes verifiers that cost nothing to speak of.
const fewRounds = 2

func textOf(s string) secret.Text { return secret.NewText(s) }

func made(t testing.TB, table *userTable, name string, role cloudhsmapi.UserRole, password string) user {
	t.Helper()
	u, err := table.newUser(name, role, textOf(password))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// activeTable has the admin, the kmsuser and whoever is named, as crypto users.
func activeTable(t testing.TB, names ...string) *userTable {
	t.Helper()
	table := &userTable{Rounds: fewRounds}
	must(t, table.activate(made(t, table, "admin", admin, rightPassword)))
	must(t, table.create(made(t, table, "kmsuser", cryptoUser, kmsPassword)))
	for _, name := range names {
		must(t, table.create(made(t, table, name, cryptoUser, rightPassword)))
	}
	return table
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// login tries a password and commits it at once.
func login(table *userTable, name string, role cloudhsmapi.UserRole, password string, hsms ...string) error {
	_, err := table.settle(table.try(name, role, textOf(password)), hsms...)
	return err
}

func TestWhoCanBeAUser(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 31)
	tests := map[string]struct {
		name     string
		role     cloudhsmapi.UserRole
		password string
		want     error
	}{
		"an admin":                                {"root@example.com", admin, "1234567", nil},
		"a crypto user with the longest name":     {long, cryptoUser, strings.Repeat("x", 32), nil},
		"a name too long":                         {long + "a", cryptoUser, "1234567", errBadUserName},
		"no name":                                 {"", admin, "1234567", errBadUserName},
		"a name with a colon":                     {"a:b", admin, "1234567", errBadUserName},
		"a name on two lines":                     {"a\n", admin, "1234567", errBadUserName},
		"a name of other letters":                 {"ä", admin, "1234567", errBadUserName},
		"a password too short":                    {"a", admin, "123456", errBadPassword},
		"a password too long":                     {"a", admin, strings.Repeat("x", 33), errBadPassword},
		"a password of 32 characters in 64 bytes": {"a", admin, strings.Repeat("ä", 32), nil},
		"a password with spaces and colons":       {"a", cryptoUser, "a b:c d", nil},
		"a role that nobody has":                  {"a", "operator", "1234567", errBadUserRole},
		"a role that comes by itself":             {"a", cloudhsmapi.RoleApplianceUser, "1234567", errBadUserRole},
		"the kmsuser":                             {"kmsuser", cryptoUser, "Abcdef7", nil},
		"the kmsuser with a sign":                 {"kmsuser", cryptoUser, "Abcdef-7", errBadKMSUser},
		"the kmsuser with a short password":       {"kmsuser", cryptoUser, "Abcdef", errBadPassword},
		"the kmsuser with other letters":          {"kmsuser", cryptoUser, "Äbcdefgh", errBadKMSUser},
		"the kmsuser as an admin":                 {"kmsuser", admin, "1234567", errReservedName},
		"another KmsUser with a sign":             {"KmsUser", cryptoUser, "Abcdef-7", nil},
		"the user of the appliance":               {"app_user", cryptoUser, "1234567", errReservedName},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := userTable{Rounds: fewRounds}.newUser(test.name, test.role, textOf(test.password))
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if err == nil && (!u.Verifier.matches(textOf(test.password)) || u.Verifier.matches(textOf(test.password+"x"))) {
				t.Error("the verifier does not tell the password from another")
			}
		})
	}
}

func TestActivationHappensOnce(t *testing.T) {
	t.Parallel()
	table := &userTable{Rounds: fewRounds}
	if err := table.create(made(t, table, "someone", admin, rightPassword)); err != errNotActivated {
		t.Errorf("a user before the activation: %v", err)
	}
	if err := table.activate(made(t, table, "root", admin, rightPassword)); err != errBadUserRole {
		t.Errorf("activation of another user: %v", err)
	}
	if err := login(table, "admin", admin, rightPassword, "hsm-a"); err != errNoUser {
		t.Errorf("a login before the activation: %v", err)
	}
	must(t, table.activate(made(t, table, "admin", admin, rightPassword)))
	if err := table.activate(made(t, table, "admin", admin, "another password")); err != errActivated {
		t.Errorf("a second activation: %v", err)
	}
	must(t, login(table, "admin", admin, rightPassword, "hsm-a"))
}

func TestUsersAreKnownByNameAndRole(t *testing.T) {
	t.Parallel()
	table := activeTable(t, "alice", "Alice")
	must(t, table.create(made(t, table, "alice", admin, "another password")))
	if err := table.create(made(t, table, "alice", cryptoUser, "a third password")); err != errUserExists {
		t.Errorf("a second crypto user alice: %v", err)
	}
	if _, err := table.role("alice"); err != errAmbiguousUser {
		t.Errorf("the role of alice: %v", err)
	}
	for name, want := range map[string]cloudhsmapi.UserRole{"Alice": cryptoUser, "admin": admin, "nobody": cryptoUser} {
		if role, err := table.role(name); role != want || err != nil {
			t.Errorf("the role of %s is %s, %v", name, role, err)
		}
	}
	for _, test := range []struct {
		name, password string
		role           cloudhsmapi.UserRole
		want           error
	}{
		{"alice", "another password", admin, nil},
		{"alice", rightPassword, admin, errWrongPassword},
		{"alice", rightPassword, cryptoUser, nil},
		{"ALICE", rightPassword, cryptoUser, errNoUser},
	} {
		if err := login(table, test.name, test.role, test.password, "hsm-a"); !errors.Is(err, test.want) {
			t.Errorf("%s %s: %v", test.role, test.name, err)
		}
	}
	must(t, table.delete("alice", cryptoUser))
	if err := table.delete("alice", cryptoUser); err != errNoUser {
		t.Errorf("deleting alice twice: %v", err)
	}
	must(t, login(table, "alice", admin, "another password", "hsm-a"))
}

func TestTheLastAdminStays(t *testing.T) {
	t.Parallel()
	table := activeTable(t)
	if err := table.delete("admin", admin); err != errLastAdmin {
		t.Errorf("deleting the last admin: %v", err)
	}
	must(t, table.create(made(t, table, "second", admin, rightPassword)))
	must(t, table.delete("admin", admin))
	if err := table.delete("second", admin); err != errLastAdmin {
		t.Errorf("deleting the admin that is left: %v", err)
	}
}

func TestAClusterHas1024UsersAtMost(t *testing.T) {
	t.Parallel()
	table := activeTable(t)
	u := made(t, table, "u", cryptoUser, rightPassword)
	for len(table.Users) < 1024 {
		u.Name = fmt.Sprintf("u%d", len(table.Users))
		must(t, table.create(u))
	}
	if err := table.create(made(t, table, "one-more", cryptoUser, rightPassword)); err != errTooManyUsers {
		t.Errorf("user 1025: %v", err)
	}
	must(t, table.delete("u7", cryptoUser))
	must(t, table.create(made(t, table, "one-more", cryptoUser, rightPassword)))
}

func TestTheListTellsWhereUsersAreLocked(t *testing.T) {
	t.Parallel()
	table := activeTable(t, "everywhere", "somewhere", "elsewhere")
	for range 5 {
		_ = login(table, "everywhere", cryptoUser, "wrong", "hsm-a", "hsm-b")
		_ = login(table, "somewhere", cryptoUser, "wrong", "hsm-b")
		_ = login(table, "elsewhere", cryptoUser, "wrong", "hsm-gone")
	}
	table.forget("hsm-gone")
	want := []string{
		"admin admin false", "elsewhere crypto-user false", "everywhere crypto-user true", "kmsuser crypto-user false",
		"somewhere crypto-user inconsistent", "app_user internal(APPLIANCE_USER) false",
	}
	if diff := cmp.Diff(want, lines(table.list([]string{"hsm-a", "hsm-b"}))); diff != "" {
		t.Error(diff)
	}
	if _, kept := table.find("elsewhere", cryptoUser).Wrong["hsm-gone"]; kept {
		t.Error("what an HSM that is gone has counted is kept")
	}
	must(t, table.unlock("everywhere", cryptoUser))
	must(t, login(table, "everywhere", cryptoUser, rightPassword, "hsm-a"))
	if err := table.unlock("nobody", cryptoUser); err != errNoUser {
		t.Errorf("unlocking nobody: %v", err)
	}

	want = []string{"admin unactivated-admin false", "app_user internal(APPLIANCE_USER) false"}
	if diff := cmp.Diff(want, lines(userTable{}.list([]string{"hsm-a"}))); diff != "" {
		t.Error(diff)
	}
}

func lines(users []cloudhsmapi.User) (out []string) {
	for _, u := range users {
		out = append(out, fmt.Sprint(u.UserName, " ", u.Role, " ", u.Locked))
	}
	return out
}

func TestATableIsKeptAsJSONWithoutPasswords(t *testing.T) {
	t.Parallel()
	table := activeTable(t, "alice")
	_ = login(table, "alice", cryptoUser, "wrong", "hsm-a")
	kept, err := json.Marshal(table)
	if err != nil || strings.Contains(string(kept), rightPassword) || strings.Contains(string(kept), kmsPassword) {
		t.Fatalf("%s, %v", kept, err)
	}
	var again userTable
	must(t, json.Unmarshal(kept, &again))
	if diff := cmp.Diff(table, &again); diff != "" {
		t.Error(diff)
	}
	must(t, login(&again, "alice", cryptoUser, rightPassword, "hsm-a"))
}

func TestAVerifierCostsWhatItShould(t *testing.T) {
	t.Parallel()
	u := made(t, &userTable{}, "kmsuser", cryptoUser, kmsPassword)
	other := made(t, &userTable{}, "kmsuser", cryptoUser, kmsPassword)
	if u.Verifier.Rounds != 210_000 || len(u.Verifier.Salt) != 16 || len(u.Verifier.Hash) != 32 {
		t.Errorf("%d rounds, a salt of %d and a hash of %d", u.Verifier.Rounds, len(u.Verifier.Salt), len(u.Verifier.Hash))
	}
	if string(u.Verifier.Salt) == string(other.Verifier.Salt) || string(u.Verifier.Hash) == string(other.Verifier.Hash) {
		t.Error("two verifiers of a password are the same")
	}
}
