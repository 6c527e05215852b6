package probe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/pkcs11/probe"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	os.Exit(m.Run())
}

// patience is for calls that a test lets hang.
const patience = time.Second

// noPause keeps the many processes of a test from each pausing at their end for a second, under the race detector.
const noPause = "GORACE=atexit_sleep_ms=0"

func optionsFor(ref pkcs11test.TokenRef) probe.Options {
	return probe.Options{
		Module: ref.URI.ModulePath, Token: ref.Label, Env: append(slices.Clone(ref.Env), noPause), PIN: secret.NewText(ref.PIN), CallTimeout: 20 * time.Second,
	}
}

func run(t *testing.T, o probe.Options) *probe.Report {
	t.Helper()
	report, err := probe.Run(t.Context(), o)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return report
}

// statuses are the last ones of each check.
func statuses(r *probe.Report) map[string]probe.Status {
	out := make(map[string]probe.Status)
	for _, f := range r.Findings {
		out[f.Check] = f.Status
	}
	return out
}

func usable(r *probe.Report) string {
	var uses []string
	for _, v := range r.Verdicts {
		if v.Usable {
			uses = append(uses, v.Use)
		}
	}
	return strings.Join(uses, "; ")
}

func text(t *testing.T, r *probe.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// mustBeEmpty fails if there are keys on the token, which had none before.
func mustBeEmpty(t *testing.T, ref pkcs11test.TokenRef) {
	t.Helper()
	if labels := keysOn(t, ref); len(labels) > 0 {
		t.Errorf("left on the token: %q", labels)
	}
}

func keysOn(t *testing.T, ref pkcs11test.TokenRef) (labels []string) {
	t.Helper()
	token, err := pkcs11.Open(t.Context(), ref.Config(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	if err := token.Login(t.Context(), secret.NewText(ref.PIN)); err != nil {
		t.Fatalf("the token's PIN is not what it was: %v", err)
	}
	keys, err := token.ListKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		labels = append(labels, key.Label)
	}
	return labels
}

const (
	wrapped = "member of a declared cluster, replication: wrapped"
	module  = "member of a declared cluster, replication: module"
	poolSO  = "token of a pool, by so-pin-file"
	poolPIN = "token of a pool, by pin-file"
	vault   = "backup vault"
)

const everything = wrapped + "; " + module + "; " + poolSO + "; " + poolPIN + "; " + vault

func TestSoftHSM2CanServeForEverything(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	o := optionsFor(ref)
	o.SOPIN, o.WrongPIN, o.SetPIN = secret.NewText(ref.SOPIN), true, true
	r := run(t, o)
	if usable(r) != everything || !r.OK() {
		t.Errorf("usable as %s", usable(r))
	}
	got := statuses(r)
	for check, want := range map[string]probe.Status{
		"gcm.iv.caller": probe.Works, "gcm.iv.module": probe.Differs, "gcm.iv.module-append": probe.Differs, "gcm.iv.token-random": probe.Works,
		"gcm.tag": probe.Differs, "wrap.CKM_AES_KEY_WRAP_PAD": probe.Works, "wrap.CKM_AES_KEY_WRAP_KWP": probe.Differs,
		"transport.sha256": probe.Differs, "transport.sha1": probe.Works, "keys.sensitive": probe.Works, "sessions.processes": probe.Works,
		"so.login": probe.Works, "so.trusted": probe.Differs, "login.wrong-pin": probe.Works, "pin.change": probe.Works, "destroy": probe.Works,
	} {
		if got[check] != want {
			t.Errorf("%s: %q instead of %q", check, got[check], want)
		}
	}
	if len(r.Mechanisms) < 50 || !strings.Contains(text(t, r), "CKM_AES_GCM is listed") {
		t.Errorf("%d mechanisms are told", len(r.Mechanisms))
	}
	mustBeEmpty(t, ref)
}

func TestWhatIsNotAskedForIsNotDone(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	r := run(t, optionsFor(ref))
	if n := faults.Calls(t, "C_SetPIN") + faults.Calls(t, "C_InitToken") + faults.Calls(t, "C_InitPIN") + faults.Calls(t, "C_SetAttributeValue"); n != 0 {
		t.Errorf("%d calls that nobody asked for", n)
	}
	got := statuses(r)
	for _, check := range []string{"login.wrong-pin", "pin.change", "so.login"} {
		if got[check] != probe.Skipped {
			t.Errorf("%s: %q", check, got[check])
		}
	}
	if usable(r) != everything {
		t.Errorf("usable as %s", usable(r))
	}
	if report := text(t, r); !strings.Contains(report, "not tried: pin.change\n") || !strings.Contains(report, "not tried: C_InitToken") {
		t.Errorf("it is not told what was not tried:\n%s", report)
	}
}

func TestOneWrongPINIsSentOnceOnly(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	o := optionsFor(ref)
	o.PIN = secret.NewText("not-it")
	r := run(t, o)
	if n := faults.Calls(t, "C_Login"); n != 1 || r.OK() || statuses(r)["login"] != probe.Fails {
		t.Errorf("%d logins, usable as %q", n, usable(r))
	}
}

func TestNobodyLogsInWhereThatMightDoHarm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, fault string
		change      func(*probe.Options)
		want        probe.Status
	}{
		{name: "the user has one try left", fault: "C_GetTokenInfo flags=0x20000", want: probe.Fails},
		{name: "the user is locked", fault: "C_GetTokenInfo flags=0x40000", want: probe.Fails},
		{name: "the PIN lacks the user", change: func(o *probe.Options) { o.UserPIN = true }, want: probe.Skipped},
		{name: "there is no PIN", change: func(o *probe.Options) { o.PIN = secret.Text{} }, want: probe.Skipped},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			faults := pkcs11test.NewFaults(t)
			o := optionsFor(faults.Break(t, pkcs11test.NewTokens(t, 1)[0]))
			if c.change != nil {
				c.change(&o)
			}
			if c.fault != "" {
				faults.Set(t, c.fault)
			}
			r := run(t, o)
			if n := faults.Calls(t, "C_Login"); n != 0 || statuses(r)["login"] != c.want || r.OK() {
				t.Errorf("%d logins, %q, usable as %q", n, statuses(r)["login"], usable(r))
			}
		})
	}
}

func TestWrongPINIsNotAddedToOthers(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	o := optionsFor(faults.Break(t, pkcs11test.NewTokens(t, 1)[0]))
	o.WrongPIN = true
	faults.Set(t, "C_GetTokenInfo flags=0x10000")
	if r := run(t, o); statuses(r)["login.wrong-pin"] != probe.Skipped || !r.OK() {
		t.Errorf("usable as %q:\n%s", usable(r), text(t, r))
	}
}

func TestTokensAreChosenByWhatNamesThem(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewToken(t, "first", "1234")
	if _, err := pkcs11.InitToken(t.Context(), pkcs11.ProvisionConfig{
		ModulePath: pkcs11test.Module, Env: ref.Env, Label: "second", SOPIN: secret.NewText(ref.SOPIN), UserPIN: secret.NewText("1234"),
	}); err != nil {
		t.Fatal(err)
	}
	o := optionsFor(ref)
	o.PIN = secret.Text{} // nobody needs to log in
	for _, c := range []struct {
		token string
		works bool
	}{
		{"", false}, {"first", true}, {"second", true}, {"third", false}, {"pkcs11:token=second", true}, {"pkcs11:serial=" + ref.URI.Serial, true},
		{"pkcs11:manufacturer=SoftHSM%20project", false}, {"4000000000", false}, {"pkcs11:token=first?module-path=/another.so", false}, {"pkcs11:nonsense", false},
	} {
		o.Token = c.token
		r, err := probe.Run(t.Context(), o)
		if (err == nil) != c.works {
			t.Errorf("%q: %v", c.token, err)
		}
		if c.works && !strings.Contains(r.Token, "serial=") {
			t.Errorf("%q: probed %q", c.token, r.Token)
		}
		if len(r.Tokens) != 3 { // and a free slot
			t.Errorf("%q: %d tokens are told", c.token, len(r.Tokens))
		}
	}
}

func TestReportKeepsPINs(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewToken(t, "kept", "pin-that-nobody-may-see")
	o := optionsFor(ref)
	o.SOPIN, o.SetPIN, o.WrongPIN = secret.NewText("so-that-nobody-may-see"), true, true
	r := run(t, o)
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if all := string(out) + text(t, r); strings.Contains(all, "nobody-may-see") {
		t.Errorf("a PIN is in the report:\n%s", all)
	}
	if statuses(r)["so.login"] != probe.Fails || strings.Contains(usable(r), poolSO) {
		t.Errorf("with a wrong PIN of the security officer: usable as %s", usable(r))
	}
}

func TestInterruptionLeavesNothing(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	ref := pkcs11test.NewTokens(t, 1)[0]
	broken := faults.Break(t, ref)
	faults.Set(t, "C_UnwrapKey hang count=1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	o := optionsFor(broken)
	go func() {
		_, err := probe.Run(ctx, o)
		ended <- err
	}()
	polltest.Until(t, "the probe to hang", func() bool { return faults.Hits(t, "C_UnwrapKey") == 1 })
	cancel()
	faults.Clear(t)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	mustBeEmpty(t, ref)
}
