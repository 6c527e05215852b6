package sts_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// idp is an identity provider over TLS.
type idp struct {
	t   testing.TB
	web *httptest.Server

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	broken  bool
	fetched int           // how often the keys were asked for
	held    chan struct{} // what their answer waits for; nil: nothing
	waits   chan struct{} // is told that it does
}

func startIDP(t testing.TB) *idp {
	t.Helper()
	p := &idp{t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.web.URL, "jwks_uri": p.web.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fetched++
		if p.broken {
			http.Error(w, "not today", http.StatusServiceUnavailable)
			return
		}
		known := make([]any, 0, len(p.keys)+1)
		known = append(known, map[string]string{"kty": "future", "kid": "x"}) // of a kind that nobody knows yet
		for _, k := range p.keys {
			known = append(known, k)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": known})
	})
	p.web = httptest.NewTLSServer(mux)
	t.Cleanup(p.web.Close)
	return p
}

// ca is a file with the certificate that the provider shows.
func (p *idp) ca() string {
	path := filepath.Join(p.t.TempDir(), "idp.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.web.Certificate().Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// publish replaces the provider's keys.
func (p *idp) publish(keys ...signingKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = nil
	for _, k := range keys {
		p.keys = append(p.keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Use: "sig"})
	}
}

func (p *idp) fail(broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = broken
}

// hold lets who asks for the keys wait until answer is called; waiting is told of each.
func (p *idp) hold() (waiting <-chan struct{}, answer func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.waits = make(chan struct{}), make(chan struct{}, 10)
	answer = sync.OnceFunc(func() { close(p.held) })
	p.t.Cleanup(answer)
	return p.waits, answer
}

func (p *idp) wait() {
	p.mu.Lock()
	held, waits := p.held, p.waits
	p.mu.Unlock()
	if held != nil {
		waits <- struct{}{}
		<-held
	}
}

func (p *idp) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetched
}

// signingKey is a key of a provider.
type signingKey struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

var rsaKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var out [2]*rsa.PrivateKey
	for i := range out {
		out[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return out
})

func rs256(id string, n int) signingKey { return signingKey{id, jose.RS256, rsaKeys()[n]} }

func es256(t testing.TB, id string) signingKey {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signingKey{id, jose.ES256, private}
}

// claims are those of a good token, with changes; a nil value takes one out.
func (p *idp) claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	out := map[string]any{
		"iss": p.web.URL, "sub": "system:serviceaccount:shop:checkout", "aud": []string{"sts.amazonaws.com"},
		"iat": now - 10, "nbf": now - 10, "exp": now + 600,
	}
	for k, v := range changes {
		if out[k] = v; v == nil {
			delete(out, k)
		}
	}
	return out
}

// token signs a token.
func (p *idp) token(k signingKey, changes map[string]any) string {
	return p.signed(k.algorithm, k.private, k.id, changes)
}

func (p *idp) signed(algorithm jose.SignatureAlgorithm, key any, id string, changes map[string]any) string {
	p.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", id))
	if err != nil {
		p.t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(p.claims(changes)).Serialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

// unsigned is a token that says it needs no signature.
func (p *idp) unsigned() string {
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]string{"alg": "none", "typ": "JWT"}) + "." + part(p.claims(nil)) + "."
}
