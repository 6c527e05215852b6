package probe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"kastellan.dev/internal/pkcs11"
)

// The checks that verdicts depend on.
const (
	checkLoad        = "module.load"
	checkTokens      = "module.tokens"
	checkOpen        = "token.open"
	checkInfo        = "token.info"
	checkPIN         = "token.pin"
	checkLogin       = "login"
	checkGenerate    = "keys.generate"
	checkFind        = "keys.find"
	checkAttributes  = "keys.attributes"
	checkSensitive   = "keys.sensitive"
	checkCluster     = "keys.cluster"
	checkSession     = "keys.session"
	checkTrustedOnly = "keys.wrap-with-trusted"
	checkIV          = "gcm.iv"
	checkSizes       = "gcm.sizes"
	checkAAD         = "gcm.aad"
	checkTag         = "gcm.tag"
	checkProcesses   = "sessions.processes"
	checkParallel    = "sessions.parallel"
	checkWrap        = "wrap.aes"
	checkPair        = "transport.pair"
	checkOAEP256     = "transport.sha256"
	checkOAEP1       = "transport.sha1"
	checkCarry       = "transport"
	checkDestroy     = "destroy"
	checkSOLogin     = "so.login"
	checkSO          = "so.trusted"
	checkSetPIN      = "pin.change"
)

var (
	// keysNeeded is what every use needs.
	keysNeeded = []string{checkLoad, checkTokens, checkOpen, checkInfo, checkLogin, checkGenerate, checkFind, checkAttributes, checkSensitive,
		checkIV, checkSizes, checkAAD, checkTag, checkParallel, checkDestroy}
	// copyNeeded is what it takes to get keys from one token to another besides.
	copyNeeded = []string{checkCluster, checkSession, checkWrap, checkCarry}
	// passwordNeeded is what a key store's connection needs besides: it changes its user's password.
	passwordNeeded = []string{checkPIN, checkSetPIN}
)

// The uses.
const (
	useWrapped = "member of a declared cluster, replication: wrapped"
	useModule  = "member of a declared cluster, replication: module"
	usePoolSO  = "token of a pool, by so-pin-file"
	usePoolPIN = "token of a pool, by pin-file"
	useVault   = "backup vault"
)

// last gives the status of the last finding of the check.
func (r *Report) last(check string) Status {
	for _, f := range slices.Backward(r.Findings) {
		if f.Check == check {
			return f.Status
		}
	}
	return Skipped
}

func (r *Report) ok(check string) bool { return r.last(check) == Works }

// usable tells whether the report has a verdict that says so.
func (r *Report) usable(use string) bool {
	return slices.ContainsFunc(r.Verdicts, func(v Verdict) bool { return v.Use == use && v.Usable })
}

// judge draws the conclusions.
func (p *prober) judge() {
	withKeys := slices.Concat(keysNeeded, copyNeeded)
	p.verdict(useWrapped, slices.Concat(withKeys, passwordNeeded))
	p.verdict(useModule, slices.Concat(keysNeeded, passwordNeeded), "the vendor's replication: one token does not show it")
	so := withKeys
	untried := []string{"C_InitToken and C_InitPIN: a probe never initialises"}
	if p.options.SOPIN.IsEmpty() {
		untried = append(untried, checkSOLogin)
	} else {
		so = slices.Concat(withKeys, []string{checkSOLogin})
	}
	p.verdict(usePoolSO, so, untried...)
	p.verdict(usePoolPIN, withKeys)
	p.verdict(useVault, withKeys)
	p.report.Settings = p.settings()
}

// verdict adds the verdict of a use that needs the checks. What was not to be tried does not count against it.
func (p *prober) verdict(use string, checks []string, untried ...string) {
	v := Verdict{Use: use, Untried: untried}
	for _, check := range checks {
		switch status := p.report.last(check); {
		case status == Works, status == Differs:
		case status == Fails:
			v.Missing = append(v.Missing, check)
		case check == checkSetPIN && len(v.Missing)+len(v.Unreached) == 0:
			v.Untried = append(v.Untried, checkSetPIN)
		default:
			v.Unreached = append(v.Unreached, check)
		}
	}
	v.Usable = len(v.Missing)+len(v.Unreached) == 0
	p.report.Verdicts = append(p.report.Verdicts, v)
}

// settings are the YAML for what the token can be.
func (p *prober) settings() string {
	var b strings.Builder
	replication := ""
	switch {
	case p.report.usable(useWrapped):
		replication = "wrapped"
	case p.report.usable(useModule):
		replication = "module"
	}
	pool := p.report.usable(usePoolSO) || p.report.usable(usePoolPIN)
	if replication == "" && !pool {
		return ""
	}
	b.WriteString("hsm:\n")
	if replication != "" {
		b.WriteString("  clusters:\n    - # id, account, region and trust-anchor are yours to choose\n")
		if p.options.UserPIN {
			b.WriteString("      pin-format: \"user:password\"\n")
		}
		fmt.Fprintf(&b, "      replication: %s\n      members: # two at least, in two zones\n        - # id and availability-zone\n", replication)
		p.tokenSettings(&b, "          ")
	}
	if pool {
		b.WriteString("  pools:\n    - # name and availability-zone\n      tokens:\n        - # and, of the two, one: so-pin-file, pin-file\n")
		p.tokenSettings(&b, "          ")
	}
	return b.String()
}

func (p *prober) tokenSettings(b *strings.Builder, indent string) {
	line := func(key, value string) { fmt.Fprintf(b, "%s%s: %s\n", indent, key, value) }
	line("uri", quote(p.cfg.URI.String()))
	if len(p.cfg.Env) > 0 {
		entries := make([]string, len(p.cfg.Env))
		for i, entry := range p.cfg.Env {
			entries[i] = quote(entry)
		}
		line("env", "["+strings.Join(entries, ", ")+"]")
	}
	if p.cfg.IV != pkcs11.IVByCaller {
		line("iv", string(p.cfg.IV))
	}
	if n, ok := p.limited(); ok {
		line("sessions", fmt.Sprint(n))
	}
	if p.cfg.CallTimeout != 0 {
		line("call-timeout", p.cfg.CallTimeout.String())
	}
}

// quote writes a string as JSON does, which YAML reads.
func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		return `""` // there is no string that cannot be written
	}
	return string(text)
}
