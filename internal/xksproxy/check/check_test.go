package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/check"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	os.Exit(m.Run())
}

func run(t *testing.T, o check.Options) check.Report {
	t.Helper()
	report, err := check.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// notPassed lists the cases that neither passed nor were skipped, with their verdicts.
// notPassed gives the ids of what did not pass. What is measured tells of the machine too, which
// may have no time for anybody: it counts only for a test that wants it.
func notPassed(r check.Report, wanted ...string) []string {
	var ids []string
	for _, c := range r.Results {
		measured := c.ID == "load.cold" || strings.HasPrefix(c.ID, "load.latency")
		if measured && !slices.Contains(wanted, c.ID) {
			continue
		}
		if c.Verdict == check.Fail || c.Verdict == check.Warn {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func text(t *testing.T, r check.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// notForOurs are the cases that a proxy with ciphertext metadata and without mutual TLS skips.
var notForOurs = []string{"tls.client-certificate", "tls.client-stranger", "decrypt.tampered.metadata-added", "decrypt.tampered.metadata-from-aad"}

func TestOurProxyWithAKeyFilePassesEveryCase(t *testing.T) {
	t.Parallel()
	p := xksproxytest.Start(t, xksproxytest.Config(xksproxytest.FileRing(t)))
	r := run(t, p.Options())
	if got := notPassed(r); len(got) > 0 || !r.OK() || r.ExitStatus() != 0 {
		t.Errorf("not passed: %v\n%s", got, text(t, r))
	}
	for _, c := range r.Results {
		if c.Verdict == check.Skip && !slices.Contains(notForOurs, c.ID) {
			t.Errorf("%s was skipped: %s", c.ID, c.Seen)
		}
	}
	if r.Passed < 140 {
		t.Errorf("only %d cases passed", r.Passed)
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// Programs read the JSON and people compare the texts of two runs.
func TestTheFormOfTheReportIsStable(t *testing.T) {
	t.Parallel()
	r := check.Report{
		URL: "https://a.example/kms/xks/v1", Verdict: check.Fail, Started: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Took: 1500 * time.Millisecond,
		Passed: 2, Failed: 1, Warned: 1, Skipped: 1,
		Results: []check.Result{
			{ID: "a.pass", Title: "Title A", Level: check.Must, Verdict: check.Pass, Expected: "200", Seen: "200 OK", Took: time.Millisecond},
			{ID: "load.pass", Title: "Title L", Level: check.Should, Verdict: check.Pass, Expected: "p99 at most 250 ms", Seen: "p50 1ms, p99 2ms of 3 calls"},
			{ID: "b.fail", Title: "Title B", Level: check.Must, Verdict: check.Fail, Expected: "this", Seen: "that", Took: 2},
			{ID: "c.warn", Title: "Title C", Level: check.Should, Verdict: check.Warn, Expected: "this", Seen: "that"},
			{ID: "d.skip", Title: "Title D", Level: check.Should, Verdict: check.Skip, Expected: "this", Seen: "no such key"},
		},
	}
	golden(t, "report.txt", text(t, r))
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", b.String())
	var back check.Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Errorf("the JSON says something else (-want +got):\n%s", diff)
	}
	if r.ExitStatus() != 1 || (check.Report{Warned: 3}).ExitStatus() != 0 {
		t.Error("a failure gives 1 and warnings give 0")
	}
}

func TestWhatAProxySendsCannotSpeakToTheTerminal(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(400)
		_, _ = w.Write(xksapi.Encode(map[string]string{"errorName": "\x1b[2J\n\u202epass " + strings.Repeat("x", 5000)}))
	}))
	defer srv.Close()
	r := run(t, check.Options{URL: srv.URL, AccessKeyID: "A", Secret: secret.NewText("s"), KeyID: "k"})
	if r.OK() {
		t.Error("the proxy is good")
	}
	for _, c := range r.Results {
		if strings.ContainsAny(c.Seen, "\x1b\n\u202e") || len(c.Seen) > 600 {
			t.Fatalf("%s: %q", c.ID, c.Seen)
		}
	}
}

func TestAProxyThatStopsAnsweringIsNotWaitedForInEveryCase(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 1 {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-done:
			case <-r.Context().Done():
			}
		}
	}))
	defer srv.Close()
	defer close(done)
	r := run(t, check.Options{URL: srv.URL, AccessKeyID: "A", Secret: secret.NewText("s"), KeyID: "k", Timeout: 20 * time.Millisecond})
	if last := r.Results[len(r.Results)-1]; last.Verdict != check.Skip || r.OK() || calls.Load() > 10 {
		t.Errorf("%d calls; the last case: %+v", calls.Load(), last)
	}
}

func TestARunEndsWhenItsContextDoes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel() }))
	defer srv.Close()
	if _, err := check.Run(ctx, check.Options{URL: srv.URL, AccessKeyID: "A", Secret: secret.NewText("s"), KeyID: "k"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAProxyThatCannotBeReachedFailsOneCaseAndSkipsTheRest(t *testing.T) {
	t.Parallel()
	p := xksproxytest.Start(t, xksproxytest.Config(xksproxytest.FileRing(t)))
	o := p.Options()
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	r := run(t, o)
	if r.Failed != 1 || r.Results[0].ID != "reach" || r.Skipped != len(r.Results)-1 || r.Verdict != check.Fail {
		t.Errorf("%d failed, %d skipped of %d", r.Failed, r.Skipped, len(r.Results))
	}
	// What the cases are, and how much each matters, is part of the report too.
	var list strings.Builder
	seen := map[string]bool{}
	for _, c := range r.Results {
		fmt.Fprintf(&list, "%-6s  %-36s  %s\n", c.Level, c.ID, c.Title)
		if seen[c.ID] {
			t.Errorf("%s is there twice", c.ID)
		}
		seen[c.ID] = true
	}
	golden(t, "cases.txt", list.String())
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	good := check.Options{URL: "https://a.example", AccessKeyID: "A", Secret: secret.NewText("s"), KeyID: "k"}
	for name, change := range map[string]func(*check.Options){
		"no host":                  func(o *check.Options) { o.URL = "https://" },
		"another scheme":           func(o *check.Options) { o.URL = "ftp://a.example" },
		"a query":                  func(o *check.Options) { o.URL += "?a=b" },
		"no credential":            func(o *check.Options) { o.AccessKeyID = "" },
		"no secret":                func(o *check.Options) { o.Secret = secret.Text{} },
		"no key":                   func(o *check.Options) { o.KeyID = "" },
		"a password":               func(o *check.Options) { o.URL = "https://u:p@a.example" },
		"a fragment":               func(o *check.Options) { o.URL += "#x" },
		"half a second credential": func(o *check.Options) { o.SecondAccessKeyID = "B" },
	} {
		o := good
		change(&o)
		if _, err := check.Run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOurProxyWithMutualTLSRefusesStrangers(t *testing.T) {
	t.Parallel()
	pki := xksproxytest.NewPKI(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pki.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, kms := pki.Server(t, xksproxytest.Host), pki.Client(t, "cks.kms.us-east-1.amazonaws.com")
	p := xksproxytest.StartServer(t, xksproxy.ServerConfig{
		Proxy: xksproxytest.Config(xksproxytest.FileRing(t)),
		TLS:   &xksproxy.TLSConfig{Certificate: &cert, ClientCAFile: ca, ClientNames: []string{"cks.kms.us-east-1.amazonaws.com"}},
	}, pki)
	o := p.Options()
	o.ClientCert, o.Calls = &kms, 2
	r := run(t, o)
	if got := notPassed(r); len(got) > 0 {
		t.Errorf("not passed: %v\n%s", got, text(t, r))
	}
	for _, c := range r.Results {
		if strings.HasPrefix(c.ID, "tls.client-") && c.Verdict != check.Pass {
			t.Errorf("%s: %s", c.ID, c.Seen)
		}
	}
}

func TestOurProxyWithTokensPassesEveryCase(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	ring := xksproxytest.TokenRing(t, []pkcs11test.TokenRef{ref}) // SoftHSM2 fails at times when two open one token at once
	p := xksproxytest.Start(t, xksproxytest.Config(ring))
	r := run(t, p.Options())
	if got := notPassed(r); len(got) > 0 || !r.OK() {
		t.Errorf("not passed: %v\n%s", got, text(t, r))
	}
	if r.Passed < 140 {
		t.Errorf("only %d cases passed", r.Passed)
	}
}
