package control

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"sync"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
)

const (
	idleLimit   = 10 * time.Minute // an interactive session ends when nothing was asked for in it so long
	hardLimit   = 8 * time.Hour    // and at the latest after this time
	maxSessions = 900              // interactive ones of a cluster
)

// holderKMS holds the sessions of key stores.
const holderKMS = "kms"

// session is an interactive session: a stay of a user at the HSMs of a cluster.
type session struct {
	Cluster string
	Name    string
	Role    cloudhsmapi.UserRole
	Holder  string    // in calls of enter
	Expires time.Time // at the latest

	used time.Time
}

func (s *session) over(now time.Time) bool {
	return !now.Before(s.Expires) || now.Sub(s.used) >= idleLimit
}

// sessions knows which users are logged in, of all clusters, in memory. Of the
// kmsuser of a cluster it knows one holder at a time: a key store cannot change the password of a
// user that others use, and the others must not be surprised by a change.
//
// A password is tried and then committed; sessions are taken between the two, and
// given back if the commit fails. So a session either is there when a change of the password
// ends those of the user, or is refused by the commit after it.
//
// All methods may be called from many goroutines.
type sessions struct {
	now func() time.Time

	mu      sync.Mutex
	open    map[[sha256.Size]byte]*session // by the hash of the id
	holding map[string]*holding            // of the kmsuser, by cluster
}

// holding is who has the kmsuser's sessions of a cluster, and how many.
type holding struct {
	holder string
	n      int
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, open: make(map[[sha256.Size]byte]*session), holding: make(map[string]*holding)}
}

// enter takes a session of a crypto user for a holder. leave gives it back; it may be called
// more than once. The error is errUserLoggedIn.
func (s *sessions) enter(cluster, name, holder string) (leave func(), err error) {
	if name != kmsuser {
		return func() {}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	if err := s.hold(cluster, holder); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.release(cluster, holder)
	}), nil
}

// begin begins an interactive session and gives its id, which is kept nowhere. The
// error is errUserLoggedIn or errTooManySessions.
func (s *sessions) begin(cluster, name string, role cloudhsmapi.UserRole) (secret.Text, session, error) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	id := secret.NewText(base64.RawURLEncoding.EncodeToString(random))
	hash := sha256.Sum256([]byte(id.Reveal()))

	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	n := 0
	for _, other := range s.open {
		if other.Cluster == cluster {
			n++
		}
	}
	if n >= maxSessions {
		return secret.Text{}, session{}, errTooManySessions
	}
	now := s.now()
	begun := &session{
		Cluster: cluster, Name: name, Role: role, Holder: "session " + hex.EncodeToString(hash[:8]),
		Expires: now.Add(hardLimit), used: now,
	}
	if begun.exclusive() {
		if err := s.hold(cluster, begun.Holder); err != nil {
			return secret.Text{}, session{}, err
		}
	}
	s.open[hash] = begun
	return id, *begun, nil
}

// use gives a session that something is asked for in, or errNoSession.
func (s *sessions) use(id secret.Text) (session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	found, ok := s.open[sha256.Sum256([]byte(id.Reveal()))]
	if !ok {
		return session{}, errNoSession
	}
	found.used = s.now()
	return *found, nil
}

// end ends a session. One that is not there is errNoSession.
func (s *sessions) end(id secret.Text) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	hash := sha256.Sum256([]byte(id.Reveal()))
	if _, ok := s.open[hash]; !ok {
		return errNoSession
	}
	s.drop(hash)
	return nil
}

// endUser ends the interactive sessions of a user: the password was set, or the user deleted.
func (s *sessions) endUser(cluster, name string, role cloudhsmapi.UserRole) {
	s.endAll(func(o *session) bool { return o.Cluster == cluster && o.Name == name && o.Role == role })
}

// endCluster ends the interactive sessions of a cluster that is no more.
func (s *sessions) endCluster(cluster string) {
	s.endAll(func(o *session) bool { return o.Cluster == cluster })
}

func (s *sessions) endAll(which func(*session) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hash, o := range s.open {
		if which(o) {
			s.drop(hash)
		}
	}
}

// sweep ends what is over. mu is held, as for all below.
func (s *sessions) sweep() {
	now := s.now()
	for hash, o := range s.open {
		if o.over(now) {
			s.drop(hash)
		}
	}
}

func (s *sessions) drop(hash [sha256.Size]byte) {
	o := s.open[hash]
	delete(s.open, hash)
	if o.exclusive() {
		s.release(o.Cluster, o.Holder)
	}
}

func (s *session) exclusive() bool {
	return s.Name == kmsuser && s.Role == cloudhsmapi.RoleCryptoUser
}

func (s *sessions) hold(cluster, holder string) error {
	h := s.holding[cluster]
	switch {
	case h == nil:
		s.holding[cluster] = &holding{holder: holder, n: 1}
	case h.holder != holder:
		return errUserLoggedIn
	default:
		h.n++
	}
	return nil
}

// heldByOther tells whether somebody else than a holder has the kmsuser's sessions of a cluster.
func (s *sessions) heldByOther(cluster, holder string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	h := s.holding[cluster]
	return h != nil && h.holder != holder
}

func (s *sessions) release(cluster, holder string) {
	h := s.holding[cluster]
	if h == nil || h.holder != holder {
		return
	}
	if h.n--; h.n == 0 {
		delete(s.holding, cluster)
	}
}
