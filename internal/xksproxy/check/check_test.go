package check_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
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
func notPassed(r check.Report) []string {
	var ids []string
	for _, c := range r.Results {
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

func TestOurProxyWithAKeyFilePassesEveryCase(t *testing.T) {
	t.Parallel()
	p := xksproxytest.Start(t, xksproxytest.Config(xksproxytest.FileRing(t)))
	r := run(t, p.Options())
	if got := notPassed(r); len(got) > 0 || !r.OK() || r.ExitStatus() != 0 {
		t.Errorf("not passed: %v\n%s", got, text(t, r))
	}
	for _, c := range r.Results {
		if c.Verdict == check.Skip && c.ID != "tls.client-certificate" {
			t.Errorf("%s was skipped: %s", c.ID, c.Seen)
		}
	}
	if r.Passed < 100 {
		t.Errorf("only %d cases passed", r.Passed)
	}
}

func TestReportSaysTheSameInJSONAndText(t *testing.T) {
	t.Parallel()
	r := check.Report{URL: "https://a.example", Failed: 1, Results: []check.Result{
		{ID: "x.y", Title: "A title", Level: check.Must, Verdict: check.Fail, Expected: "this", Seen: "that"},
	}}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back check.Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"x.y", "A title", "MUST", "fail", "this", "that"} {
		if !strings.Contains(text(t, r), want) {
			t.Errorf("the text lacks %q", want)
		}
		if !strings.Contains(b.String(), want) {
			t.Errorf("the JSON lacks %q", want)
		}
	}
	if back.ExitStatus() != 1 {
		t.Error("a failure gives exit status 0")
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
	if r.Failed != 1 || r.Results[0].ID != "reach" || r.Skipped != len(r.Results)-1 {
		t.Errorf("%d failed, %d skipped of %d", r.Failed, r.Skipped, len(r.Results))
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	good := check.Options{URL: "https://a.example", AccessKeyID: "A", Secret: secret.NewText("s"), KeyID: "k"}
	for name, change := range map[string]func(*check.Options){
		"no host":        func(o *check.Options) { o.URL = "https://" },
		"another scheme": func(o *check.Options) { o.URL = "ftp://a.example" },
		"a query":        func(o *check.Options) { o.URL += "?a=b" },
		"no credential":  func(o *check.Options) { o.AccessKeyID = "" },
		"no secret":      func(o *check.Options) { o.Secret = secret.Text{} },
		"no key":         func(o *check.Options) { o.KeyID = "" },
	} {
		o := good
		change(&o)
		if _, err := check.Run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOurProxyWithTokensPassesEveryCase(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	ring := xksproxytest.TokenRing(t, []pkcs11test.TokenRef{ref, ref})
	p := xksproxytest.Start(t, xksproxytest.Config(ring))
	r := run(t, p.Options())
	if got := notPassed(r); len(got) > 0 || !r.OK() {
		t.Errorf("not passed: %v\n%s", got, text(t, r))
	}
	if r.Passed < 100 {
		t.Errorf("only %d cases passed", r.Passed)
	}
}
