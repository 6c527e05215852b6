package control

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
)

// Names that mean something.
const (
	firstAdmin    = "admin"    // whom activation gives a password
	kmsuser       = "kmsuser"  // the crypto user of a key store
	applianceUser = "app_user" // listed, and nobody's
)

// Limits of CloudHSM.
const (
	maxUsers = 1024 // of a cluster
	maxWrong = 5    // wrong passwords in a row lock a user on an HSM
)

var (
	userNames = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,31}$`)
	// kmsPasswords is for the kmsuser. The length is checked as everybody's is.
	kmsPasswords = regexp.MustCompile(`^[A-Za-z0-9]*$`)
)

// userTable is who can log in to the HSMs of a cluster, as it is kept. The zero
// value is that of a cluster that is not activated. A copy is not changed by what
// changes another. There is no lock: whoever changes the one that is kept does so in a transaction.
type userTable struct {
	Users      []user `json:"users"`            // by name and role
	Generation uint64 `json:"generation"`       // counts the passwords that were set
	Rounds     int    `json:"rounds,omitempty"` // of new verifiers; 0: as many as usual
}

// user is a user as it is kept.
type user struct {
	Name     string               `json:"name"`
	Role     cloudhsmapi.UserRole `json:"role"`
	Verifier verifier             `json:"verifier"`
	Set      uint64               `json:"set"`             // the table's generation when the password was set
	Wrong    map[string]int       `json:"wrong,omitempty"` // HSM id → wrong passwords in a row
}

// newUser makes a user whom a table can take. It costs what a verifier costs, and
// looks at nothing of the table that ever changes.
func (t userTable) newUser(name string, role cloudhsmapi.UserRole, password secret.Text) (user, error) {
	switch {
	case !userNames.MatchString(name):
		return user{}, errBadUserName
	case role != cloudhsmapi.RoleAdmin && role != cloudhsmapi.RoleCryptoUser:
		return user{}, errBadUserRole
	case name == applianceUser, name == kmsuser && role != cloudhsmapi.RoleCryptoUser:
		return user{}, errReservedName
	}
	if n := utf8.RuneCountInString(password.Reveal()); n < 7 || n > 32 {
		return user{}, errBadPassword
	}
	if name == kmsuser && !kmsPasswords.MatchString(password.Reveal()) {
		return user{}, errBadKMSUser
	}
	v, err := newVerifier(password, t.rounds())
	return user{Name: name, Role: role, Verifier: v}, err
}

func (t userTable) rounds() int {
	if t.Rounds > 0 {
		return t.Rounds
	}
	return usualRounds
}

// activated tells whether there is an admin.
func (t userTable) activated() bool { return len(t.Users) > 0 }

// activate takes the first user, who is the admin.
func (t *userTable) activate(admin user) error {
	switch {
	case t.activated():
		return errActivated
	case admin.Name != firstAdmin, admin.Role != cloudhsmapi.RoleAdmin:
		return errBadUserRole
	}
	return t.insert(admin)
}

// create takes another user.
func (t *userTable) create(u user) error {
	switch {
	case !t.activated():
		return errNotActivated
	case t.find(u.Name, u.Role) != nil:
		return errUserExists
	case len(t.Users) >= maxUsers:
		return errTooManyUsers
	}
	return t.insert(u)
}

func (t *userTable) insert(u user) error {
	t.Generation++
	u.Set = t.Generation
	i, _ := t.search(u.Name, u.Role)
	t.Users = slices.Insert(slices.Clone(t.Users), i, u)
	return nil
}

// delete takes a user out.
func (t *userTable) delete(name string, role cloudhsmapi.UserRole) error {
	i, found := t.search(name, role)
	if !found {
		return errNoUser
	}
	if role == cloudhsmapi.RoleAdmin && t.admins() == 1 {
		return errLastAdmin
	}
	t.Users = slices.Delete(slices.Clone(t.Users), i, i+1)
	return nil
}

func (t userTable) admins() (n int) {
	for _, u := range t.Users {
		if u.Role == cloudhsmapi.RoleAdmin {
			n++
		}
	}
	return n
}

// changePassword gives the user that there is the verifier of another, made by
// newUser for the same name and role. No HSM has it locked any more.
func (t *userTable) changePassword(to user) error {
	u := t.edit(to.Name, to.Role)
	if u == nil {
		return errNoUser
	}
	t.Generation++
	u.Verifier, u.Set, u.Wrong = to.Verifier, t.Generation, nil
	return nil
}

// unlock lets a user try again on all HSMs.
func (t *userTable) unlock(name string, role cloudhsmapi.UserRole) error {
	u := t.edit(name, role)
	if u == nil {
		return errNoUser
	}
	u.Wrong = nil
	return nil
}

// forget drops what an HSM that left the cluster has counted.
func (t *userTable) forget(hsm string) {
	t.Users = slices.Clone(t.Users)
	for i := range t.Users {
		t.Users[i].count(hsm, 0)
	}
}

// list gives the users as people see them, with what the HSMs of the cluster have locked.
func (t userTable) list(hsms []string) []cloudhsmapi.User {
	out := make([]cloudhsmapi.User, 0, len(t.Users)+2)
	for _, u := range t.Users {
		out = append(out, seen(u.Name, u.Role, u.lockedOn(hsms)))
	}
	if !t.activated() {
		out = append(out, seen(firstAdmin, cloudhsmapi.RoleUnactivatedAdmin, cloudhsmapi.OnNone))
	}
	return append(out, seen(applianceUser, cloudhsmapi.RoleApplianceUser, cloudhsmapi.OnNone))
}

func seen(name string, role cloudhsmapi.UserRole, locked cloudhsmapi.Consistency) cloudhsmapi.User {
	return cloudhsmapi.User{UserName: name, Role: role, Locked: locked, ClusterCoverage: cloudhsmapi.CoverageCluster}
}

func (u *user) lockedOn(hsms []string) cloudhsmapi.Consistency {
	n := 0
	for _, hsm := range hsms {
		if u.locked(hsm) {
			n++
		}
	}
	switch n {
	case 0:
		return cloudhsmapi.OnNone
	case len(hsms):
		return cloudhsmapi.OnAll
	default:
		return cloudhsmapi.Inconsistent
	}
}

func (u *user) locked(hsm string) bool { return u.Wrong[hsm] >= maxWrong }

// count sets how many wrong passwords in a row an HSM has seen, and tells whether
// that was another number before. Tables that were copied share no map that it changes.
func (u *user) count(hsm string, wrong int) bool {
	if u.Wrong[hsm] == wrong {
		return false
	}
	counts := maps.Clone(u.Wrong)
	if counts == nil {
		counts = make(map[string]int, 1)
	}
	if counts[hsm] = wrong; wrong == 0 {
		delete(counts, hsm)
	}
	u.Wrong = counts
	return true
}

// role tells which user of a name is meant, where no role is given.
func (t userTable) role(name string) (cloudhsmapi.UserRole, error) {
	admin := t.find(name, cloudhsmapi.RoleAdmin)
	user := t.find(name, cloudhsmapi.RoleCryptoUser)
	switch {
	case admin != nil && user != nil:
		return "", errAmbiguousUser
	case admin != nil:
		return cloudhsmapi.RoleAdmin, nil
	default:
		return cloudhsmapi.RoleCryptoUser, nil // also where there is none, which trying a password tells
	}
}

// edit gives a user to be changed, or nil.
func (t *userTable) edit(name string, role cloudhsmapi.UserRole) *user {
	i, found := t.search(name, role)
	if !found {
		return nil
	}
	t.Users = slices.Clone(t.Users)
	return &t.Users[i]
}

// find gives a user to be read, or nil.
func (t userTable) find(name string, role cloudhsmapi.UserRole) *user {
	if i, found := t.search(name, role); found {
		return &t.Users[i]
	}
	return nil
}

func (t userTable) search(name string, role cloudhsmapi.UserRole) (int, bool) {
	return slices.BinarySearchFunc(t.Users, user{Name: name, Role: role}, func(a, b user) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(string(a.Role), string(b.Role))
	})
}
