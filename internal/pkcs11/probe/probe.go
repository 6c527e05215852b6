// Package probe finds out what Kastellan can do with a vendor's PKCS#11 module: it
// does with one token what key stores, pools and backups do, step by step, and tells what works, what
// does not, and which settings follow.
//
// It is made for tokens that are in use. Whatever it makes bears a label that begins with LabelPrefix and is
// destroyed at the end, also when a step fails. It never initialises a token, never sends a wrong PIN, never changes a PIN and never
// logs in as the security officer unless the options say so. A module that hangs or crashes ends its child
// process and one step.
package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// LabelPrefix begins the label of every object that a probe makes.
const LabelPrefix = "kastellan hsm probe "

// Options say what to probe and how far to go.
type Options struct {
	Module string   // absolute path
	Token  string   // a pkcs11: URI, a label or a slot's number; empty: the only token there is
	Env    []string // as in pkcs11.Config

	PIN      secret.Text // empty: nobody logs in, and most cannot be found out
	UserPIN  bool        // the PIN is "user:password"
	SOPIN    secret.Text // set: CKA_TRUSTED is tried as the security officer
	WrongPIN bool        // send one wrong PIN, and see what the token says of it
	SetPIN   bool        // change the PIN and change it back

	IV          []pkcs11.IVSource // to try; none: all
	CallTimeout time.Duration     // zero: as in pkcs11.Config
	Log         *slog.Logger      // of the module's process; nil: none
}

// Errors of Run: there is nothing to report on.
var (
	ErrOptions = errors.New("probe: the options contradict each other")
	// ErrWhichToken: the module has several tokens, and Options.Token does not name one of them.
	ErrWhichToken = errors.New("probe: no token is chosen")
)

// allSources are tried unless Options.IV says otherwise.
var allSources = []pkcs11.IVSource{pkcs11.IVByCaller, pkcs11.IVByModule, pkcs11.IVInOutput, pkcs11.IVFromTokenRNG}

// prober is one run.
type prober struct {
	options Options
	report  *Report
	run     string            // in every label
	slots   []pkcs11.SlotInfo // those with an initialised token
	slot    pkcs11.SlotInfo   // the one that is probed
	cfg     pkcs11.Config
	token   pkcs11.Inspector // nil before it is open, and after it cannot be opened again
	in      bool             // the PIN was right once
	hasIV   bool             // cfg.IV is a source that works
	labels  []string         // of what may exist
}

// Run probes. The report is there even if the module cannot be used at all; an error
// says that nothing could be found out because of the options or ctx. The module's own
// failures are in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.IV) == 0 {
		o.IV = allSources
	}
	if o.PIN.IsEmpty() && (o.WrongPIN || o.SetPIN || !o.SOPIN.IsEmpty()) {
		return nil, fmt.Errorf("%w: without the user's PIN nothing can be tried with it", ErrOptions)
	}
	p := &prober{options: o, run: newRun(), report: &Report{Module: o.Module, Started: time.Now()}}
	if !p.survey(ctx) {
		return p.finish(ctx)
	}
	if err := p.choose(); err != nil {
		return p.report, err
	}
	p.describe()
	p.probeToken(ctx)
	return p.finish(ctx)
}

// newRun names the run, so that two at once do not destroy each other's objects.
func newRun() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return time.Now().UTC().Format("20060102T150405Z") + " " + hex.EncodeToString(b)
}

// probeToken does all that needs the token to be open.
func (p *prober) probeToken(ctx context.Context) {
	if !p.open(ctx) {
		return
	}
	defer func() {
		if p.token != nil {
			_ = p.token.Close() // what it has to say changes nothing any more
		}
	}()
	if !p.logIn(ctx) {
		return
	}
	defer p.cleanUp(ctx)
	p.leftovers(ctx)
	for _, step := range []func(context.Context){
		p.random, p.keys, p.gcm, p.sessions, p.wrapping, p.transport, p.trusted, p.destroying, p.wrongPIN, p.setPIN,
	} {
		if ctx.Err() != nil {
			return
		}
		step(ctx)
	}
}

func (p *prober) finish(ctx context.Context) (*Report, error) {
	p.report.Took = time.Since(p.report.Started)
	p.judge()
	return p.report, ctx.Err()
}

// note adds a finding; errors that were joined become one line.
func (p *prober) note(check string, status Status, seen, means string) {
	seen = strings.ReplaceAll(seen, "\n", "; ")
	p.report.Findings = append(p.report.Findings, Finding{Check: check, Status: status, Seen: seen, Means: means})
}

// try adds a finding of something that either works or does not, and tells which. If the module was lost meanwhile, it
// is brought back for the next step.
func (p *prober) try(ctx context.Context, check, seen, means string, err error) bool {
	if err == nil {
		p.note(check, Works, seen, "")
		return true
	}
	p.note(check, Fails, err.Error(), means)
	p.recover(ctx, err)
	return false
}

// recover logs in again after the loss of the module's process, which the call that made it die reports.
func (p *prober) recover(ctx context.Context, err error) {
	lost := errors.Is(err, pkcs11.ErrLost) || errors.Is(err, pkcs11.ErrTimeout) || errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_USER_NOT_LOGGED_IN})
	if p.token == nil || !p.in || !lost {
		return
	}
	if err := relogin(ctx, p.token, p.options.PIN); err != nil {
		p.note("recovery", Fails, err.Error(), "After a call that ended the module's process, logging in again failed; later findings follow from that.")
	}
}

// relogin logs in with a PIN that was right before.
func relogin(ctx context.Context, t pkcs11.Token, pin secret.Text) error {
	err := t.Login(ctx, pin)
	for range 2 { // the first call may still meet the process that is lost
		if !errors.Is(err, pkcs11.ErrLost) {
			break
		}
		err = t.Login(ctx, pin)
	}
	if errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}) {
		return nil
	}
	return err
}
