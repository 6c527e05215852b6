package sts

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/stsapi"
)

const (
	// fetchTimeout is how long a request to an issuer may take.
	fetchTimeout = 5 * time.Second
	// maxDocument is the largest answer of an issuer that is read, in bytes.
	maxDocument = 1 << 20

	// freshKeys is how long keys are used before they are asked for again.
	freshKeys = 15 * time.Minute
	// staleKeys is how long they are used if the issuer does not answer.
	staleKeys = 12 * time.Hour
	// pause is the time between two requests to an issuer, whatever strangers ask for.
	pause = 10 * time.Second
)

// maxIssuers bounds issuers; after a reload of the configuration providers are other ones.
const maxIssuers = 1024

// issuers remembers the keys of identity providers.
type issuers struct {
	now       func() time.Time
	transport *http.Transport

	mu  sync.Mutex
	all map[*identity.Provider]*issuer
}

func (s *issuers) of(p *identity.Provider) *issuer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.all[p]; i != nil {
		return i
	}
	if s.all == nil || len(s.all) >= maxIssuers {
		s.all = make(map[*identity.Provider]*issuer)
	}
	i := &issuer{url: p.URL, now: s.now, client: s.client(p), turn: make(chan struct{}, 1)}
	s.all[p] = i
	return i
}

// client asks over HTTPS only, and follows no redirection: an issuer is what its URL names.
func (s *issuers) client(p *identity.Provider) *http.Client {
	transport := s.transport
	if transport == nil {
		transport = http.DefaultTransport.(*http.Transport)
	}
	transport = transport.Clone()
	if p.Roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: p.Roots, MinVersion: tls.VersionTLS12}
	}
	transport.MaxIdleConns, transport.IdleConnTimeout = 1, 10*time.Second
	return &http.Client{
		Timeout:   fetchTimeout,
		Transport: bounded{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the issuer redirects, which is not followed")
		},
	}
}

// bounded refuses plain HTTP and cuts answers.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, errors.New("the issuer names an address without TLS")
	}
	answer, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, maxDocument), answer.Body}
	return answer, nil
}

// issuer is an identity provider with its keys.
type issuer struct {
	url    string
	now    func() time.Time
	client *http.Client
	keys   atomic.Pointer[issuerKeys] // nil: there were none yet

	turn    chan struct{} // holds who asks the issuer, or looks at what follows
	tried   time.Time     // when the issuer was asked last
	failure error         // of that time
}

// issuerKeys are keys as an issuer has told them.
type issuerKeys struct {
	all []jose.JSONWebKey
	at  time.Time // when it was asked
}

// verify gives the claims of a token that the issuer has signed.
func (i *issuer) verify(ctx context.Context, token string) ([]byte, error) {
	set := &keySet{issuer: i}
	config := &oidc.Config{SkipClientIDCheck: true, SkipExpiryCheck: true, SupportedSigningAlgs: algorithms, Now: i.now}
	verified, err := oidc.NewVerifier(i.url, set, config).Verify(ctx, token)
	switch {
	case set.failure != nil:
		return nil, kmsapi.Errorf(stsapi.IDPCommunicationError, "The keys of the identity provider could not be fetched from it.").Because(set.failure)
	case err != nil:
		return nil, kmsapi.Errorf(stsapi.InvalidIdentityToken, "The token is not one that the identity provider has signed with one of its keys, by RSA or ECDSA.").Because(err)
	}
	var payload rawClaims
	if err := verified.Claims(&payload); err != nil {
		return nil, notAToken()
	}
	return payload, nil
}

// rawClaims takes claims as they are.
type rawClaims []byte

// UnmarshalJSON implements json.Unmarshaler.
func (r *rawClaims) UnmarshalJSON(b []byte) error {
	*r = append((*r)[:0], b...)
	return nil
}

// keySet verifies one token by the keys of an issuer. It implements oidc.KeySet,
// and keeps the failure that would otherwise be told as one of the token.
type keySet struct {
	issuer  *issuer
	failure error
}

// VerifySignature implements oidc.KeySet. That a key is of the kind that the
// algorithm needs is for the library to see to, which has only those of algorithms to choose from.
func (s *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	allowed := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, name := range algorithms {
		allowed[i] = jose.SignatureAlgorithm(name)
	}
	signed, err := jose.ParseSigned(token, allowed)
	if err != nil {
		return nil, err
	}
	if len(signed.Signatures) != 1 {
		return nil, errors.New("it does not have one signature")
	}
	header := signed.Signatures[0].Header
	keys, err := s.issuer.find(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		s.failure = err
		return nil, err
	}
	for _, key := range keys {
		if payload, err := signed.Verify(key); err == nil {
			return payload, nil
		}
	}
	return nil, fmt.Errorf("none of the issuer's keys fits")
}

// find gives the keys that a token may be signed with. It asks the issuer if there is none,
// or if they were fetched long ago. Who knows a key does not wait for a stranger who names one that nobody
// knows: fresh keys are given at once, and older ones while another call asks. All others wait for the
// issuer as long as one question to it may take.
func (i *issuer) find(ctx context.Context, id, algorithm string) ([]jose.JSONWebKey, error) {
	if found := i.fitting(id, algorithm, freshKeys); len(found) > 0 {
		return found, nil
	}
	select {
	case i.turn <- struct{}{}:
	default:
		if found := i.fitting(id, algorithm, staleKeys); len(found) > 0 {
			return found, nil
		}
		select {
		case i.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { <-i.turn }()
	if found := i.fitting(id, algorithm, freshKeys); len(found) > 0 {
		return found, nil // of the call that had the turn before
	}
	return i.ask(ctx, id, algorithm)
}

// ask asks the issuer, unless that was done a moment ago. It is called by who has the turn.
func (i *issuer) ask(ctx context.Context, id, algorithm string) ([]jose.JSONWebKey, error) {
	if now := i.now(); i.tried.IsZero() || now.Sub(i.tried) >= pause {
		i.tried = now
		var keys []jose.JSONWebKey
		if keys, i.failure = i.fetch(ctx); i.failure == nil {
			i.keys.Store(&issuerKeys{keys, now})
		}
	}
	if i.failure != nil && !i.known() {
		return nil, i.failure
	}
	return i.fitting(id, algorithm, staleKeys), nil
}

// known tells whether there are keys that can be used although the issuer does not answer.
func (i *issuer) known() bool {
	k := i.keys.Load()
	return k != nil && len(k.all) > 0 && i.now().Sub(k.at) < staleKeys
}

// fitting gives the keys with that id, or all if there is no id, that are for
// signatures by the algorithm; none if they were fetched longer ago than that.
func (i *issuer) fitting(id, algorithm string, age time.Duration) (out []jose.JSONWebKey) {
	known := i.keys.Load()
	if known == nil || i.now().Sub(known.at) >= age {
		return nil
	}
	for _, k := range known.all {
		if (id == "" || k.KeyID == id) && (k.Use == "" || k.Use == "sig") && (k.Algorithm == "" || k.Algorithm == algorithm) && k.IsPublic() && k.Valid() {
			out = append(out, k)
		}
	}
	return out
}

// fetch finds out where the issuer's keys are, and gets them.
func (i *issuer) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	// Who waits for the keys may go away; who comes next wants them too.
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.WithoutCancel(ctx), i.client), fetchTimeout)
	defer cancel()
	discovered, err := oidc.NewProvider(ctx, i.url)
	if err != nil {
		return nil, err
	}
	var where struct {
		Keys string `json:"jwks_uri"`
	}
	if err := discovered.Claims(&where); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where.Keys, nil)
	if err != nil {
		return nil, err
	}
	answer, err := i.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the issuer answers the request for its keys with %s", answer.Status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&set); err != nil {
		return nil, fmt.Errorf("reading the issuer's keys: %w", err)
	}
	keys := make([]jose.JSONWebKey, 0, len(set.Keys))
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) == nil { // one of a kind that is not known is no reason to refuse the others
			keys = append(keys, key)
		}
	}
	return keys, nil
}
