// Package check tells whether an XKS proxy, anybody's, does what AWS KMS expects
// of it. It talks to a running proxy as KMS would, and as KMS never would, and
// reports one result for each case.
//
// It needs a credential and a key of the proxy that nobody minds: it encrypts
// and decrypts under it. Further keys (disabled, restricted to one use) make
// further cases possible; without them those are skipped.
//
// A case is a MUST or a SHOULD. A MUST that is not met fails, a SHOULD that is
// not met warns; only failures make the verdict bad. Where the specification leaves
// room, every reading of it passes.
package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksapi"
)

// Options say what to check, and with what.
type Options struct {
	// URL of the proxy: "https://host[:port][/prefix]", with or without
	// "/kms/xks/v1" at its end.
	URL string
	// Address is dialled instead of the URL's host and port; empty means those.
	Address string

	Region      string // that signs; empty means us-east-1
	AccessKeyID string
	Secret      secret.Text

	CA         *x509.CertPool   // nil means the system's
	ClientCert *tls.Certificate // for mutual TLS

	KeyID            string // an enabled AES-256 key with both usages; required
	DisabledKeyID    string
	EncryptOnlyKeyID string
	DecryptOnlyKeyID string
	ImpotentKeyID    string // that may neither encrypt nor decrypt
	DeniedKeyID      string // that the proxy's own rules deny
	UnknownKeyID     string // empty means one that nobody has

	// SecondAccessKeyID and SecondSecret are another credential of the same store.
	SecondAccessKeyID string
	SecondSecret      secret.Text

	// Principal and KMSKeyARN are sent as awsPrincipalArn and kmsKeyArn, for proxies whose
	// own rules look at them; empty means made-up ones.
	Principal string
	KMSKeyARN string

	Calls       int           // of the latency measurement; zero means 200
	Concurrency int           // of the burst; zero means 32
	Timeout     time.Duration // of one call; zero means 5 s. KMS itself waits 250 ms.
}

// Level tells how much a case matters.
type Level string

// The levels.
const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
)

// Verdict is the outcome of a case.
type Verdict string

// The verdicts.
const (
	Pass Verdict = "pass"
	Fail Verdict = "fail"
	Warn Verdict = "warn"
	Skip Verdict = "skip"
)

// Result is a case and its outcome.
type Result struct {
	ID       string        `json:"id"`
	Title    string        `json:"title"`
	Level    Level         `json:"level"`
	Verdict  Verdict       `json:"verdict"`
	Expected string        `json:"expected,omitempty"`
	Seen     string        `json:"seen,omitempty"`
	Took     time.Duration `json:"tookNs"`
}

// testCase is a case before it was run. run returns what was seen, and nil if
// that is as expected.
type testCase struct {
	id       string
	title    string
	level    Level
	expected string
	run      func(ctx context.Context, p *prober) (seen string, err error)
}

// should makes the case a SHOULD.
func (c testCase) should() testCase {
	c.level = Should
	return c
}

// skipped is the error of a case that cannot be run.
type skipped string

func (s skipped) Error() string { return string(s) }

// errNotMet is the error of a case whose expectation is not met.
var errNotMet = errors.New("not met")

// Run runs all cases, one after the other. It fails only if the options are
// wrong or ctx is done; a proxy that cannot be reached gives a report that says so.
func Run(ctx context.Context, o Options) (Report, error) {
	p, err := newProber(o)
	if err != nil {
		return Report{}, err
	}
	defer p.close()
	report := Report{URL: p.base, Started: time.Now().UTC()}
	for i, c := range cases() {
		if err := ctx.Err(); err != nil {
			return report, fmt.Errorf("checking %s: %w", p.base, err)
		}
		switch {
		case i > 0 && report.Results[0].Verdict == Fail:
			report.add(c.skipped("the proxy cannot be reached"))
		case p.silent >= patience:
			report.add(c.skipped("the proxy has stopped answering"))
		default:
			report.add(runCase(ctx, p, c))
		}
	}
	report.Took = time.Since(report.Started)
	return report, nil
}

// patience is how many calls in a row may get no answer in time before the rest of the
// cases, each of which would wait as long, is left out.
const patience = 4

func (c testCase) skipped(why string) Result {
	return Result{ID: c.id, Title: c.title, Level: c.level, Verdict: Skip, Seen: why}
}

func cases() []testCase {
	var all []testCase
	for _, group := range [][]testCase{
		reachCases(), healthCases(), metadataCases(), encryptCases(), decryptCases(), usageCases(),
		authCases(), httpCases(), jsonCases(), tlsCases(), loadCases(), formCases(),
	} {
		all = append(all, group...)
	}
	return all
}

func runCase(ctx context.Context, p *prober, c testCase) Result {
	started := time.Now()
	seen, err := c.run(ctx, p)
	r := Result{ID: c.id, Title: c.title, Level: c.level, Verdict: Pass, Expected: c.expected, Seen: seen, Took: time.Since(started)}
	var skip skipped
	switch {
	case err == nil:
		r.Seen = oneLine(r.Seen)
		return r
	case errors.As(err, &skip):
		r.Verdict, r.Seen = Skip, oneLine(string(skip))
		return r
	case c.level == Should:
		r.Verdict = Warn
	default:
		r.Verdict = Fail
	}
	if !errors.Is(err, errNotMet) {
		r.Seen = strings.TrimPrefix(seen+"; "+err.Error(), "; ")
	}
	r.Seen = oneLine(r.Seen)
	return r
}

const maxSeen = 500 // characters

// oneLine makes what a proxy sent fit for a terminal and for a line of the report.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if len(text) > maxSeen {
		return strings.ToValidUTF8(text[:maxSeen], "") + "…"
	}
	return text
}

func (o Options) check() (base string, err error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the URL must be https://host[:port][/prefix]")
	}
	switch {
	case o.AccessKeyID == "" || o.Secret.IsEmpty():
		return "", errors.New("a credential of the proxy is needed: access key id and secret")
	case o.KeyID == "":
		return "", errors.New("a key of the proxy is needed that may encrypt and decrypt")
	case (o.SecondAccessKeyID == "") != o.SecondSecret.IsEmpty():
		return "", errors.New("a second credential needs both access key id and secret")
	}
	base = strings.TrimSuffix(o.URL, "/")
	return strings.TrimSuffix(base, xksapi.BasePath) + xksapi.BasePath, nil
}
