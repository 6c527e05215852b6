package control

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kastellan.dev/internal/secret"
)

const cluster = "cluster-2345abcdefg"

// handClock is a clock that tests turn.
type handClock struct{ seconds atomic.Int64 }

func (c *handClock) now() time.Time           { return time.Unix(c.seconds.Load(), 0) }
func (c *handClock) advance(by time.Duration) { c.seconds.Add(int64(by / time.Second)) }

func sessionsAt(t *testing.T) (*sessions, *handClock) {
	t.Helper()
	clock := new(handClock)
	return newSessions(clock.now), clock
}

func begun(t *testing.T, s *sessions, name string) secret.Text {
	t.Helper()
	id, _, err := s.begin(cluster, name, cryptoUser)
	must(t, err)
	return id
}

func TestASessionIsKnownByItsIDUntilItEnds(t *testing.T) {
	t.Parallel()
	s, _ := sessionsAt(t)
	id, first, err := s.begin(cluster, "alice", cryptoUser)
	must(t, err)
	if id.Len() != 43 || first.Expires != time.Unix(0, 0).Add(8*time.Hour) {
		t.Errorf("an id of %d characters, until %v", id.Len(), first.Expires)
	}
	other := begun(t, s, "alice")
	found, err := s.use(id)
	if err != nil || found.Cluster != cluster || found.Name != "alice" || found.Role != cryptoUser || found.Holder != first.Holder {
		t.Errorf("%+v, %v", found, err)
	}
	if second, _ := s.use(other); second.Holder == first.Holder {
		t.Error("two sessions are one holder")
	}
	must(t, s.end(id))
	for _, id := range []secret.Text{id, textOf(""), textOf(strings.Repeat("A", 43))} {
		if _, err := s.use(id); err != errNoSession {
			t.Errorf("a session that is none: %v", err)
		}
		if err := s.end(id); err != errNoSession {
			t.Errorf("ending a session that is none: %v", err)
		}
	}
	_, err = s.use(other)
	must(t, err)
}

func TestIDsAreNotKept(t *testing.T) {
	t.Parallel()
	s, _ := sessionsAt(t)
	id := begun(t, s, "alice")
	if kept := fmt.Sprintf("%+v", s.open); strings.Contains(kept, id.Reveal()) {
		t.Error("the table of sessions holds an id")
	}
	for hash, o := range s.open {
		if strings.Contains(fmt.Sprintf("%s%+v", hash[:], o), id.Reveal()) {
			t.Error("a session holds its id")
		}
	}
}

func TestSessionsEndByTime(t *testing.T) {
	t.Parallel()
	s, clock := sessionsAt(t)
	idle, busy := begun(t, s, "alice"), begun(t, s, "alice")
	clock.advance(10*time.Minute - time.Second)
	_, err := s.use(busy)
	must(t, err)
	clock.advance(time.Second)
	if _, err := s.use(idle); err != errNoSession {
		t.Errorf("after ten minutes without use: %v", err)
	}
	for elapsed := 10 * time.Minute; elapsed < 8*time.Hour-5*time.Minute; elapsed += 5 * time.Minute {
		_, err = s.use(busy)
		must(t, err)
		clock.advance(5 * time.Minute)
	}
	_, err = s.use(busy)
	must(t, err)
	clock.advance(5 * time.Minute)
	if _, err := s.use(busy); err != errNoSession {
		t.Errorf("after eight hours: %v", err)
	}
}

func TestTheKMSUserHasOneHolder(t *testing.T) {
	t.Parallel()
	s, clock := sessionsAt(t)
	enter := func(holder string) (func(), error) { return s.enter(cluster, "kmsuser", holder) }
	first, err := enter(holderKMS)
	must(t, err)
	second, err := enter(holderKMS) // another HSM
	must(t, err)
	if _, _, err := s.begin(cluster, "kmsuser", cryptoUser); err != errUserLoggedIn {
		t.Errorf("an interactive session beside a key store: %v", err)
	}
	for _, name := range []string{"alice", "KMSUSER"} {
		must(t, s.end(begun(t, s, name)))
		leave, err := s.enter(cluster, name, "another holder")
		must(t, err)
		leave()
	}
	elsewhere, _, err := s.begin("cluster-anotherone2", "kmsuser", cryptoUser)
	must(t, err)
	must(t, s.end(elsewhere))

	first()
	first() // does not give back what the second has
	if _, err := enter("another holder"); err != errUserLoggedIn {
		t.Errorf("while one HSM is held: %v", err)
	}
	second()
	id := begun(t, s, "kmsuser")
	if _, err := enter(holderKMS); err != errUserLoggedIn {
		t.Errorf("a key store beside an interactive session: %v", err)
	}
	if _, _, err := s.begin(cluster, "kmsuser", cryptoUser); err != errUserLoggedIn {
		t.Errorf("a second interactive session: %v", err)
	}
	held, err := s.use(id)
	must(t, err)
	own, err := enter(held.Holder)
	must(t, err)
	own()
	clock.advance(idleLimit)
	third, err := enter(holderKMS)
	must(t, err)
	third()
	if len(s.holding) != 0 {
		t.Errorf("it is held by %v", s.holding)
	}
}

func TestAChangeEndsTheSessionsOfTheUser(t *testing.T) {
	t.Parallel()
	s, _ := sessionsAt(t)
	kms, alice, other := begun(t, s, "kmsuser"), begun(t, s, "alice"), begun(t, s, "bob")
	asAdmin, _, err := s.begin(cluster, "alice", admin)
	must(t, err)
	elsewhere, _, err := s.begin("cluster-anotherone2", "alice", cryptoUser)
	must(t, err)

	s.endUser(cluster, "kmsuser", cryptoUser)
	s.endUser(cluster, "alice", cryptoUser)
	for _, id := range []secret.Text{kms, alice} {
		if _, err := s.use(id); err != errNoSession {
			t.Errorf("the session of a changed user: %v", err)
		}
	}
	for _, id := range []secret.Text{other, asAdmin, elsewhere} {
		_, err := s.use(id)
		must(t, err)
	}
	leave, err := s.enter(cluster, "kmsuser", holderKMS)
	must(t, err)
	s.endUser(cluster, "kmsuser", cryptoUser) // a key store's stay is not interactive
	if _, _, err := s.begin(cluster, "kmsuser", cryptoUser); err != errUserLoggedIn {
		t.Errorf("the key store's session has ended: %v", err)
	}
	leave()

	s.endCluster(cluster)
	for _, id := range []secret.Text{other, asAdmin} {
		if _, err := s.use(id); err != errNoSession {
			t.Errorf("the session of a cluster that is gone: %v", err)
		}
	}
	_, err = s.use(elsewhere)
	must(t, err)
}

func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	s, clock := sessionsAt(t)
	for range maxSessions {
		begun(t, s, "alice")
	}
	if _, _, err := s.begin(cluster, "alice", cryptoUser); err != errTooManySessions {
		t.Errorf("one more: %v", err)
	}
	_, _, err := s.begin("cluster-anotherone2", "alice", cryptoUser)
	must(t, err)
	clock.advance(idleLimit)
	begun(t, s, "alice")
	if len(s.open) != 1 {
		t.Errorf("%d sessions are kept", len(s.open))
	}
}

func TestManyWantTheKMSUserAtOnce(t *testing.T) {
	t.Parallel()
	s, clock := sessionsAt(t)
	var inside atomic.Int64
	var all sync.WaitGroup
	alone := func() {
		if n := inside.Add(1); n != 1 {
			t.Errorf("%d holders at once", n)
		}
		inside.Add(-1)
	}
	for i := range 4 {
		all.Go(func() {
			for range 200 {
				leave, err := s.enter(cluster, "kmsuser", fmt.Sprint("store ", i))
				if err == nil {
					alone()
					leave()
				} else if !errors.Is(err, errUserLoggedIn) {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 200 {
				id, _, err := s.begin(cluster, "kmsuser", cryptoUser)
				if err != nil {
					continue
				}
				alone()
				_, _ = s.use(id)
				_ = s.end(id)
			}
		})
	}
	all.Go(func() {
		for range 200 {
			s.endUser(cluster, "alice", cryptoUser)
			s.endCluster("cluster-anotherone2")
			clock.advance(time.Second)
		}
	})
	all.Wait()
	if len(s.holding) != 0 || len(s.open) != 0 {
		t.Errorf("%d holders and %d sessions are left", len(s.holding), len(s.open))
	}
}
