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

	turn    chan struct{} // holds who asks the issuer, or looks at what follows
	keys    []jose.JSONWebKey
	fetched time.Time // when keys were
	tried   time.Time // when the issuer was asked last
	failure error     // of that time
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
// or if they were fetched long ago.
func (i *issuer) find(ctx context.Context, id, algorithm string) ([]jose.JSONWebKey, error) {
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := i.now()
	found := i.fitting(id, algorithm)
	age := now.Sub(i.fetched)
	if len(found) > 0 && age < freshKeys {
		return found, nil
	}
	if i.tried.IsZero() || now.Sub(i.tried) >= pause {
		i.tried = now
		if i.failure = i.fetch(ctx); i.failure == nil {
			i.fetched = now
			return i.fitting(id, algorithm), nil
		}
	}
	if i.failure != nil && (len(i.keys) == 0 || age >= staleKeys) {
		return nil, i.failure
	}
	return found, nil
}

// fitting gives the keys with that id, or all if there is no id, that are for
// signatures by the algorithm.
func (i *issuer) fitting(id, algorithm string) (out []jose.JSONWebKey) {
	for _, k := range i.keys {
		if (id == "" || k.KeyID == id) && (k.Use == "" || k.Use == "sig") && (k.Algorithm == "" || k.Algorithm == algorithm) && k.IsPublic() && k.Valid() {
			out = append(out, k)
		}
	}
	return out
}

// fetch finds out where the issuer's keys are, and gets them.
func (i *issuer) fetch(ctx context.Context) error {
	// Who waits for the keys may go away; who comes next wants them too.
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.WithoutCancel(ctx), i.client), fetchTimeout)
	defer cancel()
	discovered, err := oidc.NewProvider(ctx, i.url)
	if err != nil {
		return err
	}
	var where struct {
		Keys string `json:"jwks_uri"`
	}
	if err := discovered.Claims(&where); err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where.Keys, nil)
	if err != nil {
		return err
	}
	answer, err := i.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the issuer answers the request for its keys with %s", answer.Status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&set); err != nil {
		return fmt.Errorf("reading the issuer's keys: %w", err)
	}
	keys := make([]jose.JSONWebKey, 0, len(set.Keys))
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) == nil { // one of a kind that is not known is no reason to refuse the others
			keys = append(keys, key)
		}
	}
	i.keys = keys
	return nil
}
