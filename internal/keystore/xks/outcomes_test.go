package xks_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksapi"
)

// trouble is one way in which a proxy, or the way to it, can fail, and what
// follows for whom.
type trouble struct {
	outcome string // as the package calls it
	options xkstest.Options
	change  func(*rig, *xks.Config)
	spoil   func(*testing.T, *rig) // after the rig was made

	store   kmsapi.Code                // of CreateCustomKeyStore and UpdateCustomKeyStore
	connect kmsapi.ConnectionErrorCode // of ConnectCustomKeyStore
	says    string                     // in the evidence
}

// onHealth makes the health request fail.
func onHealth(f xkstest.Fault) func(*testing.T, *rig) {
	return func(_ *testing.T, r *rig) { r.proxy.Fail(xkstest.Health, f) }
}

// onConnections makes connections fail below HTTP.
func onConnections(f func(net.Conn) net.Conn) func(*testing.T, *rig) {
	return func(_ *testing.T, r *rig) { r.proxy.OnConnection(f) }
}

// at makes the proxy's address another one.
func at(address func(testing.TB) string) func(t *testing.T) func(*rig, *xks.Config) {
	return func(t *testing.T) func(*rig, *xks.Config) {
		return func(r *rig, cfg *xks.Config) {
			h := cfg.Hosts[r.proxy.Host]
			h.Address = address(t)
			cfg.Hosts[r.proxy.Host] = h
		}
	}
}

// withLeaf makes the proxy show another certificate.
func withLeaf(t *testing.T, l xkstest.Leaf) xkstest.Options {
	ca := xkstest.NewCA(t)
	return xkstest.Options{CA: ca, Certificate: ca.Issue(t, l)}
}

func answers(status int, body string) func(*testing.T, *rig) {
	return onHealth(xkstest.Answer(status, body))
}

const (
	host       = "proxy.xks.example.com"
	healthyEKM = `{"id":"1","model":"m","healthStatus":"ACTIVE"}`
)

// health is an answer to GetHealthStatus.
func health(size, vendor, fleet string) string {
	return `{"xksProxyFleetSize":` + size + `,"xksProxyVendor":"` + vendor + `","xksProxyModel":"m","ekmVendor":"v","ekmFleetDetails":[` + fleet + `]}`
}

func troubles(t *testing.T) map[string]trouble {
	short := timeout(1500 * time.Millisecond)
	strict := xkstest.NewCA(t)
	all := map[string]trouble{
		"nobody listens": {outcome: "not reachable", change: at(xkstest.Nowhere)(t),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyNotReachable, says: "refused"},
		"packets vanish": {outcome: "connecting timed out", change: both(short, at(xkstest.BlackHole)(t)),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyNotReachable, says: "connecting timed out"},
		"the handshake gets no answer": {outcome: "timed out", change: short, spoil: onConnections(xkstest.HangTLS),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyTimedOut, says: "TLS handshake"},
		"the request gets no answer": {outcome: "timed out", change: short, spoil: func(_ *testing.T, r *rig) { r.proxy.Fail(xkstest.Health, r.proxy.Hang()) },
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyTimedOut, says: "timed out"},
		"the answer comes in drops": {outcome: "timed out", change: short, spoil: func(_ *testing.T, r *rig) { r.proxy.Fail(xkstest.Health, r.proxy.Drip(50*time.Millisecond)) },
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyTimedOut, says: "timed out"},
		"connections are closed at once": {outcome: "connection lost", spoil: onConnections(xkstest.CloseAtOnce),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.NetworkErrors, says: "connection lost"},
		"the connection breaks without an answer": {outcome: "connection lost", spoil: onHealth(xkstest.Cut()),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.NetworkErrors, says: "connection lost"},
		"the connection breaks in the middle of the answer": {outcome: "connection lost", spoil: onHealth(xkstest.CutMidway()),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.NetworkErrors, says: "connection lost"},
		"the answer is no HTTP": {outcome: "malformed answer", spoil: onHealth(xkstest.NotHTTP()),
			store: kmsapi.XksProxyInvalidResponse, connect: kmsapi.XksProxyInvalidResponseCode, says: "malformed"},
		"there is no TLS": {outcome: "TLS failed", spoil: onConnections(xkstest.PlainHTTP),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyInvalidTLSConfiguration, says: "TLS handshake"},
		"the certificate has expired": {outcome: "TLS failed", options: withLeaf(t, xkstest.Leaf{Host: host, NotAfter: time.Now().Add(-time.Hour)}),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyInvalidTLSConfiguration, says: "expired"},
		"the certificate is another host's": {outcome: "TLS failed", options: withLeaf(t, xkstest.Leaf{Host: "other.example.com"}),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyInvalidTLSConfiguration, says: "other.example.com"},
		"the name stands in the common name alone": {outcome: "TLS failed", options: withLeaf(t, xkstest.Leaf{Host: host, NoSAN: true}),
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyInvalidTLSConfiguration, says: "Common Name"},
		"the certificate is of an unknown authority": {outcome: "TLS failed", options: xkstest.Options{Certificate: xkstest.NewCA(t).Issue(t, xkstest.Leaf{Host: host})},
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyInvalidTLSConfiguration, says: "unknown authority"},
		"the proxy knows TLS 1.1 only": {outcome: "TLS failed", options: xkstest.Options{TLS: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}},
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyInvalidTLSConfiguration, says: "protocol version"},
		"the proxy knows other cipher suites only": {outcome: "TLS failed",
			options: xkstest.Options{TLS: &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}},
			store:   kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyInvalidTLSConfiguration, says: "handshake failure"},
		"the proxy wants a certificate of the client": {outcome: "TLS failed", options: xkstest.Options{ClientCAs: strict.Pool},
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyInvalidTLSConfiguration, says: "certificate required"},
		"the secret is another one": {outcome: "AuthenticationFailedException",
			spoil: func(_ *testing.T, r *rig) { r.proxy.SetSecret(secret.NewText(strings.Repeat("x", 43))) },
			store: kmsapi.XksProxyIncorrectAuthenticationCredential, connect: kmsapi.InvalidCredentials, says: "HTTP status 401"},
		"the path is unknown": {outcome: "InvalidUriPathException", spoil: func(_ *testing.T, r *rig) { r.store.XKS.URIPath = "/nobody" + xksapi.BasePath },
			store: kmsapi.XksProxyInvalidConfiguration, connect: kmsapi.XksProxyInvalidConfigurationCode, says: "HTTP status 404"},
		"all key managers are unavailable": {outcome: "all key managers unavailable", spoil: func(_ *testing.T, r *rig) { r.proxy.Fleet(xksapi.Unavailable, xksapi.Unavailable) },
			store: kmsapi.XksProxyUriUnreachable, connect: kmsapi.XksProxyNotReachable, says: "2 unavailable"},
		"the service is not declared": {outcome: "endpoint service not found", change: throughService(t, nil),
			spoil: func(_ *testing.T, r *rig) { r.store.XKS.ServiceName = strings.Replace(serviceName, "0123", "9999", 1) },
			store: kmsapi.XksProxyVpcEndpointServiceNotFound, connect: kmsapi.XksVPCEndpointServiceNotFound, says: "find endpoint service"},
		"KMS may not use the service": {outcome: "endpoint service not found",
			change: throughService(t, func(s *endpointservice.Service) { s.AllowedPrincipals = []string{"arn:aws:iam::" + account + ":root"} }),
			store:  kmsapi.XksProxyVpcEndpointServiceNotFound, connect: kmsapi.XksVPCEndpointServiceNotFound, says: "KMS is an allowed principal"},
	}
	for name, body := range map[string]string{
		"HTML": "<html>", "nothing": "", "no object": `"ok"`, "an empty object": "{}", "other types": `{"xksProxyFleetSize":"1"}`,
		"no proxy": health("0", "v", healthyEKM), "no vendor": health("1", "", healthyEKM), "no key manager": health("1", "v", ""),
		"eleven key managers":   health("1", "v", healthyEKM+strings.Repeat(","+healthyEKM, 10)),
		"a status of its own":   health("1", "v", `{"id":"1","model":"m","healthStatus":"FINE"}`),
		"a key manager unnamed": health("1", "v", `{"model":"m","healthStatus":"ACTIVE"}`),
	} {
		all["200 with "+name] = trouble{outcome: "malformed answer", spoil: answers(http.StatusOK, body),
			store: kmsapi.XksProxyInvalidResponse, connect: kmsapi.XksProxyInvalidResponseCode, says: "malformed answer"}
	}
	for name, spoil := range map[string]func(*testing.T, *rig){
		"a redirect":            onHealth(xkstest.Redirect("https://elsewhere.example.com/")),
		"a huge answer":         onHealth(xkstest.Huge(1 << 20)),
		"502 from something":    answers(http.StatusBadGateway, "<html>bad gateway</html>"),
		"an unknown error":      answers(http.StatusBadRequest, `{"errorName":"OwnException","errorMessage":"m"}`),
		"204 without a content": answers(http.StatusNoContent, ""),
	} {
		all[name] = trouble{outcome: "malformed answer", spoil: spoil,
			store: kmsapi.XksProxyInvalidResponse, connect: kmsapi.XksProxyInvalidResponseCode, says: "malformed answer"}
	}
	for name, codes := range map[xksapi.ErrorName]struct {
		store   kmsapi.Code
		connect kmsapi.ConnectionErrorCode
	}{
		xksapi.ValidationException:           {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode},
		xksapi.InvalidStateException:         {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode},
		xksapi.InvalidCiphertextException:    {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode},
		xksapi.InvalidKeyUsageException:      {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode},
		xksapi.AuthenticationFailedException: {kmsapi.XksProxyIncorrectAuthenticationCredential, kmsapi.InvalidCredentials},
		xksapi.AccessDeniedException:         {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyAccessDenied},
		xksapi.KeyNotFoundException:          {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode},
		xksapi.InvalidURIPathException:       {kmsapi.XksProxyInvalidConfiguration, kmsapi.XksProxyInvalidConfigurationCode},
		xksapi.ThrottlingException:           {kmsapi.XksProxyUriUnreachable, kmsapi.XksProxyNotReachable},
		xksapi.InternalException:             {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode},
		xksapi.UnsupportedOperationException: {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode},
		xksapi.DependencyTimeoutException:    {kmsapi.XksProxyUriUnreachable, kmsapi.XksProxyTimedOut},
	} {
		all[string(name)] = trouble{outcome: string(name), spoil: onHealth(xkstest.Error(name)), store: codes.store, connect: codes.connect, says: string(name)}
	}
	return all
}

// both makes two changes.
func both(a, b func(*rig, *xks.Config)) func(*rig, *xks.Config) {
	return func(r *rig, cfg *xks.Config) { a(r, cfg); b(r, cfg) }
}

func TestTroubles(t *testing.T) {
	t.Parallel()
	for name, tr := range troubles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := tr.change
			if change == nil {
				change = func(*rig, *xks.Config) {}
			}
			r := newRig(t, tr.options, change)
			if tr.spoil != nil {
				tr.spoil(t, r)
			}
			_, evidence, err := r.tryConnect(t)
			if got := keystore.CodeOf(err); got != tr.connect {
				t.Errorf("Connect: got %s, want %s: %v", got, tr.connect, err)
			}
			if len(evidence.Steps) == 0 || !says(evidence, tr.says) {
				t.Errorf("the evidence does not say %q: %+v", tr.says, evidence)
			}
			wantCode(t, "UpdateCustomKeyStore", r.kind.Verify(t.Context(), call("UpdateCustomKeyStore"), r.store), tr.store)
			// A new store behind an endpoint service is not asked before it is connected.
			if !strings.Contains(r.store.XKS.ServiceName, "vpce") {
				wantCode(t, "CreateCustomKeyStore", r.kind.Verify(t.Context(), call("CreateCustomKeyStore"), r.store), tr.store)
			}
			if text := r.log.String() + evidence.Failure; strings.Contains(text, r.proxy.Secret.Reveal()) {
				t.Error("the secret is told")
			}
		})
	}
}

// says tells whether a failed step, or the failure itself, tells a text.
func says(e keystore.Evidence, text string) bool {
	return strings.Contains(e.Failure, text) || slices.ContainsFunc(e.Steps, func(s keystore.Step) bool {
		return s.Failure != "" && (strings.Contains(s.Name, text) || strings.Contains(s.Failure, text) || strings.Contains(s.Detail, text))
	})
}

// Two outcomes are of requests that connecting does not make, or need a key.
func TestEveryOutcomeIsTested(t *testing.T) {
	t.Parallel()
	tested := []string{"inner layer failed", "endpoint service violates a rule"} // see layers_test.go and service_test.go
	for _, tr := range troubles(t) {
		tested = append(tested, tr.outcome)
	}
	for _, o := range xks.Outcomes() {
		if !slices.Contains(tested, o) {
			t.Errorf("nothing causes %q", o)
		}
	}
}

func TestEvidenceOfAConnectionShowsEachStep(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{TLS: &tls.Config{MaxVersion: tls.VersionTLS12}})
	_, evidence, err := r.tryConnect(t)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range evidence.Steps {
		names = append(names, s.Name)
		if s.Failure != "" || s.Started.IsZero() || s.Took < 0 {
			t.Errorf("step %+v", s)
		}
		if s.Name == "TLS handshake" && !strings.Contains(s.Detail, "TLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, certificate for "+host+" from xkstest CA, good until ") {
			t.Errorf("the handshake tells %q", s.Detail)
		}
		if s.Name == "connect" && s.Target != r.proxy.Address {
			t.Errorf("connected to %s", s.Target)
		}
	}
	if !slices.Equal(names, []string{"connect", "TLS handshake", "send request", "check key managers"}) {
		t.Errorf("the steps are %q", names)
	}
}
