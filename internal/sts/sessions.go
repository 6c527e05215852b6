package sts

import (
	"maps"
	"strings"
	"sync"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/secret"
)

// Lookup finds the session that a token stands for, and what its requests are
// signed with. It is false for a token that is none, that belongs to another access key,
// or whose role or user is not there any more. Whether the session has ended is
// for the caller to find out by Key.Expires.
//
// A session that was seen before costs no cryptography and allocates nothing.
func (s *Service) Lookup(accessKeyID, token string) (*identity.Entry, bool) {
	if !strings.HasPrefix(accessKeyID, temporaryPrefix) || token == "" {
		return nil, false
	}
	directory := s.identities.Load()
	if e := s.opened.get(accessKeyID); e != nil && e.directory == directory && e.isToken(token) {
		return e.entry, true
	}
	credentials, claims, err := open(s.sealer, accessKeyID, token)
	if err != nil {
		return nil, false
	}
	p := principal(directory, credentials.accessKeyID, claims)
	if p == nil {
		return nil, false
	}
	key := identity.AccessKey{ID: credentials.accessKeyID, Secret: credentials.secret, SessionToken: credentials.token, Expires: credentials.expires}
	e := &session{directory, &identity.Entry{Key: key, Principal: p}}
	s.opened.put(e)
	return e.entry, true
}

// principal is who acts in a session; nil if there is nobody like that in the directory.
func principal(d *identity.Directory, accessKeyID string, c *claims) *identity.Principal {
	narrowed, err := narrow(d, c)
	if err != nil {
		return nil // a policy that could be read when the session began
	}
	s := identity.Session{
		Name:           c.Name,
		Issued:         time.Unix(c.Issued, 0).UTC(),
		Expires:        time.Unix(c.Expires, 0).UTC(),
		SourceIdentity: c.SourceID,
		Transitive:     c.Transitive,
		Provider:       c.Provider,
		Claims:         c.Claims,
	}
	if c.Kind == ofRole {
		if r, ok := d.Role(c.Issuer); ok && r.ID == c.IssuerID {
			return r.Session(accessKeyID, s, c.Tags, narrowed)
		}
		return nil
	}
	u, ok := d.User(c.Issuer)
	switch {
	case !ok || u.PrincipalID != c.IssuerID:
	case c.Kind == ofUser:
		return u.OwnSession(accessKeyID, s)
	case c.Kind == ofFederated:
		return u.Federated(accessKeyID, s, c.Tags, narrowed)
	}
	return nil
}

// narrow gives the session policies. A managed one that is gone is one that allows nothing.
func narrow(d *identity.Directory, c *claims) (all []*policy.Document, err error) {
	if c.Policy != "" {
		inline, err := policy.ParseSession([]byte(c.Policy))
		if err != nil {
			return nil, err
		}
		all = append(all, inline)
	}
	for _, arn := range c.PolicyARNs {
		managed, ok := d.ManagedPolicy(arn)
		if !ok {
			managed = new(policy.Document)
		}
		all = append(all, managed)
	}
	return all, nil
}

// session is a token that was opened.
type session struct {
	directory *identity.Directory // of which the principal is
	entry     *identity.Entry
}

func (e *session) isToken(token string) bool {
	return e.entry.Key.SessionToken.Equal(secret.NewText(token))
}

// ended tells whether there is nothing that the session is good for any more.
func (e *session) ended(now time.Time) bool { return !now.Before(e.entry.Key.Expires) }

const (
	// maxOpened bounds each of the two generations of a cache.
	maxOpened = 4096
	// sweepEvery is how often a cache is looked through for sessions that have ended.
	sweepEvery = time.Minute
)

// cache remembers sessions by their access keys. When the young generation is full
// it becomes the old one, and who was not asked for since then is forgotten. So are, a minute
// later, sessions that have ended, when another one is put in. Only tokens that could be opened,
// and are still good, get in.
type cache struct {
	now func() time.Time

	mu         sync.RWMutex
	young, old map[string]*session
	swept      time.Time
}

func (c *cache) get(accessKeyID string) *session {
	c.mu.RLock()
	e, young := c.young[accessKeyID]
	if !young {
		e = c.old[accessKeyID]
	}
	c.mu.RUnlock()
	if !young && e != nil {
		c.put(e)
	}
	return e
}

func (c *cache) put(e *session) {
	now := c.now()
	if e.ended(now) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.swept) >= sweepEvery {
		c.swept = now
		for _, generation := range []map[string]*session{c.young, c.old} {
			maps.DeleteFunc(generation, func(_ string, e *session) bool { return e.ended(now) })
		}
	}
	if len(c.young) >= maxOpened {
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = make(map[string]*session)
	}
	c.young[e.entry.Key.ID] = e
}
