package probe_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/pkcs11/probe"
	"kastellan.dev/internal/secret"
)

// TestModulesThatLackSomethingAreReportedTruly has a real module fail in one way each.
func TestModulesThatLackSomethingAreReportedTruly(t *testing.T) {
	t.Parallel()
	const nothing = ""
	const others = module // what is left where keys cannot be copied
	for _, c := range []struct {
		name   string
		faults []string
		change func(*probe.Options)
		want   map[string]probe.Status
		usable string
	}{
		{name: "a module that ends when it is initialised", faults: []string{"C_Initialize crash"},
			want: map[string]probe.Status{"module.load": probe.Fails}, usable: nothing},
		{name: "a module that hangs when it is initialised", faults: []string{"C_Initialize hang"}, change: impatient,
			want: map[string]probe.Status{"module.load": probe.Fails}, usable: nothing},
		{name: "a token that makes no keys", faults: []string{"C_GenerateKey rv=0xD0"},
			want: map[string]probe.Status{"keys.generate": probe.Fails, "gcm.iv": "", "destroy": probe.Works}, usable: nothing},
		{name: "a token without AES-GCM", faults: []string{"C_EncryptInit rv=0x70"},
			want: map[string]probe.Status{"gcm.iv": probe.Fails, "gcm.iv.caller": probe.Differs, "wrap.aes": probe.Fails, "destroy": probe.Works}, usable: nothing},
		{name: "a token that makes IVs by itself", faults: []string{"C_EncryptInit make-iv"},
			want: map[string]probe.Status{"gcm.iv.module": probe.Works, "gcm.iv.module-append": probe.Differs, "gcm.iv": probe.Works}, usable: everything},
		{name: "a token that appends its IVs", faults: []string{"C_EncryptInit make-iv", "C_Encrypt append-iv"},
			want: map[string]probe.Status{"gcm.iv.caller": probe.Differs, "gcm.iv.module": probe.Differs, "gcm.iv.module-append": probe.Works, "wrap.aes": probe.Works}, usable: everything},
		{name: "a token that appends IVs of 16 bytes", faults: []string{"C_EncryptInit make-iv=16", "C_Encrypt append-iv=16"},
			want: map[string]probe.Status{"gcm.iv.module-append": probe.Works, "gcm.iv": probe.Works}, usable: everything},
		{name: "a token that does not decrypt", faults: []string{"C_Decrypt rv=0x30"}, usable: nothing,
			want: map[string]probe.Status{"gcm.iv": probe.Fails}},
		{name: "a token that calls a wrong tag a broken device", faults: []string{"C_Decrypt rv=0x30 after=24 count=2"}, usable: nothing,
			want: map[string]probe.Status{"gcm.aad": probe.Works, "gcm.tag": probe.Fails, "sessions.parallel": probe.Works}},
		{name: "a token that wraps nothing", faults: []string{"C_WrapKey rv=0x70"}, usable: others,
			want: map[string]probe.Status{"wrap.aes": probe.Fails, "wrap.CKM_AES_KEY_WRAP": probe.Differs, "transport": probe.Fails}},
		{name: "a token that unwraps nothing", faults: []string{"C_UnwrapKey rv=0x70"}, usable: others,
			want: map[string]probe.Status{"wrap.aes": probe.Fails, "wrap.CKM_AES_KEY_WRAP": probe.Works, "transport": probe.Fails}},
		{name: "a token without RSA", faults: []string{"C_GenerateKeyPair rv=0x70"}, usable: others,
			want: map[string]probe.Status{"transport.pair": probe.Fails, "transport": "", "wrap.aes": probe.Works}},
		{name: "a token without a generator", faults: []string{"C_GenerateRandom rv=0x54"}, usable: everything,
			want: map[string]probe.Status{"random": probe.Differs, "gcm.iv.token-random": probe.Differs, "gcm.iv.caller": probe.Works}},
		{name: "a token whose user cannot change the PIN", faults: []string{"C_SetPIN rv=0x54"}, change: func(o *probe.Options) { o.SetPIN = true },
			want: map[string]probe.Status{"pin.change": probe.Fails}, usable: poolSO + "; " + poolPIN + "; " + vault},
		{name: "a token that fails when the PIN is changed back", faults: []string{"C_SetPIN rv=0x30 after=1 count=1"}, change: func(o *probe.Options) { o.SetPIN = true },
			want: map[string]probe.Status{"pin.change": probe.Fails, "pin.change.back": probe.Works}, usable: poolSO + "; " + poolPIN + "; " + vault},
		{name: "a module that ends while the PIN is changed back", faults: []string{"C_SetPIN crash after=1 count=1"}, change: func(o *probe.Options) { o.SetPIN = true },
			want: map[string]probe.Status{"pin.change": probe.Fails, "pin.change.back": probe.Works}, usable: poolSO + "; " + poolPIN + "; " + vault},
		{name: "a module that ends when a key is wrapped", faults: []string{"C_WrapKey crash count=1"}, usable: everything,
			want: map[string]probe.Status{"wrap.CKM_AES_KEY_WRAP_PAD": probe.Differs, "wrap.aes": probe.Works, "destroy": probe.Works}},
		{name: "a module that hangs when a key is unwrapped", faults: []string{"C_UnwrapKey hang count=1"}, change: impatient, usable: others,
			want: map[string]probe.Status{"wrap.aes": probe.Fails, "destroy": probe.Works}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			faults := pkcs11test.NewFaults(t)
			ref := pkcs11test.NewTokens(t, 1)[0]
			o := optionsFor(faults.Break(t, ref))
			if c.change != nil {
				c.change(&o)
			}
			faults.Set(t, c.faults...)
			r := run(t, o)
			got := statuses(r)
			for check, want := range c.want {
				if got[check] != want {
					t.Errorf("%s: %q instead of %q", check, got[check], want)
				}
			}
			if usable(r) != c.usable {
				t.Errorf("usable as %q instead of %q", usable(r), c.usable)
			}
			if r.OK() != (c.usable != nothing) {
				t.Errorf("OK: %t", r.OK())
			}
			if (r.Settings != "") != r.OK() {
				t.Errorf("settings: %q", r.Settings)
			}
			if t.Failed() {
				t.Log(text(t, r))
			}
			mustBeEmpty(t, ref)
		})
	}
}

func impatient(o *probe.Options) { o.CallTimeout = patience }

func TestSettingsSayWhatWorked(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	o := optionsFor(faults.Break(t, pkcs11test.NewTokens(t, 1)[0]))
	faults.Set(t, "C_EncryptInit make-iv", "C_Encrypt append-iv", "C_GenerateKeyPair rv=0x70")
	r := run(t, o)
	for _, want := range []string{"replication: module\n", "iv: module-append\n", "call-timeout: 20s\n", "module-path=" + o.Module, `"` + faults.Env() + `"`} {
		if !strings.Contains(r.Settings, want) {
			t.Errorf("the settings lack %q:\n%s", want, r.Settings)
		}
	}
	if strings.Contains(r.Settings, "pools") {
		t.Errorf("there are settings of a pool, which it cannot be in:\n%s", r.Settings)
	}
}

func TestWhatCannotBeDestroyedIsTold(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	ref := pkcs11test.NewTokens(t, 1)[0]
	o := optionsFor(faults.Break(t, ref))
	faults.Set(t, "C_DestroyObject rv=0x1B")
	r := run(t, o)
	got := statuses(r)
	if got["destroy"] != probe.Fails || got["leftovers"] != probe.Fails || r.OK() {
		t.Errorf("usable as %q:\n%s", usable(r), text(t, r))
	}
	left := keysOn(t, ref)
	if len(left) == 0 {
		t.Fatal("nothing was left")
	}
	for _, label := range left {
		if !strings.HasPrefix(label, probe.LabelPrefix) || !strings.Contains(text(t, r), label) {
			t.Errorf("the report does not name %q", label)
		}
	}
	faults.Clear(t)
	again := run(t, o)
	if statuses(again)["leftovers"] != probe.Differs || !again.OK() {
		t.Errorf("another probe does not tell of what is left:\n%s", text(t, again))
	}
	if now := keysOn(t, ref); len(now) != len(left) {
		t.Errorf("another probe's keys were touched: %d instead of %d", len(now), len(left))
	}
}

func TestOptionsThatContradictAreRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []probe.Options{{SetPIN: true}, {WrongPIN: true}, {SOPIN: secret.NewText("12345678")}} {
		o.Module = pkcs11test.Module
		if _, err := probe.Run(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if _, err := probe.Run(t.Context(), probe.Options{Module: "relative.so"}); err != nil {
		t.Errorf("a module that does not exist is no error of the probe: %v", err)
	}
}
