package probe

import (
	"context"
	"strings"
	"testing"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// careless is a token that does what no token may do, and no real one can be brought to.
type careless struct{ pkcs11.Inspector }

func (careless) FindKeys(context.Context, string, []byte) ([]pkcs11.Handle, error) {
	return []pkcs11.Handle{{Epoch: 1, Object: 1}}, nil
}

func (careless) ReadsValue(context.Context, pkcs11.Handle) (bool, error) { return true, nil }

func (careless) EncryptGCM(_ context.Context, _ pkcs11.Handle, plaintext, _ []byte) (pkcs11.GCM, error) {
	return pkcs11.GCM{IV: make([]byte, ivSize), Ciphertext: plaintext, Tag: make([]byte, 16)}, nil
}

func (careless) DecryptGCM(_ context.Context, _ pkcs11.Handle, in pkcs11.GCM, _ []byte) ([]byte, error) {
	return in.Ciphertext, nil
}

func (careless) Info(context.Context) (pkcs11.TokenInfo, error) { return pkcs11.TokenInfo{}, nil }
func (careless) Logout(context.Context) error                   { return nil }
func (careless) Login(context.Context, secret.Text) error       { return nil }

func TestCarelessTokensAreFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		check, seen string
		step        func(*prober, context.Context)
	}{
		{checkSensitive, "can be read", (*prober).value},
		{checkTag, "a wrong tag is accepted", (*prober).tag},
		{checkAAD, "other additional data", func(p *prober, ctx context.Context) { p.try(ctx, checkAAD, "", "", p.aad(ctx)) }},
		{"login.wrong-pin", "a wrong PIN was accepted", (*prober).wrongPIN},
		{"gcm.iv.caller", "the same IV came twice", func(p *prober, ctx context.Context) {
			_, err := p.roundTrips(ctx, p.token)
			p.try(ctx, "gcm.iv.caller", "", "", err)
		}},
	} {
		p := &prober{options: Options{WrongPIN: true, PIN: secret.NewText("1234")}, report: &Report{}, run: newRun(), token: careless{}}
		c.step(p, t.Context())
		found := false
		for _, f := range p.report.Findings {
			found = found || f.Check == c.check && f.Status == Fails && strings.Contains(f.Seen, c.seen)
		}
		if !found {
			t.Errorf("%s is not found: %+v", c.check, p.report.Findings)
		}
		p.judge()
		if p.report.OK() {
			t.Errorf("%s: it can be used all the same", c.check)
		}
	}
}

func TestNumbersOfSessionsBecomeSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		most, readWrite, want uint
		limited               bool
	}{
		{0, 0, 0, false}, {pkcs11.Unavailable, pkcs11.Unavailable, 0, false}, {1024, 1024, 0, false}, {17, 17, 0, false},
		{16, 16, 15, true}, {100, 4, 3, true}, {8, 0, 7, true}, {1, 1, 1, true},
	} {
		p := &prober{slot: pkcs11.SlotInfo{MaxSessions: c.most, MaxRWSessions: c.readWrite}}
		if n, limited := p.limited(); n != c.want || limited != c.limited {
			t.Errorf("%d and %d: %d, %t", c.most, c.readWrite, n, limited)
		}
	}
}

func TestPINsThatAreTooShortForKeyStoresCount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		least, most uint
		user        bool
		fits        bool
	}{
		{4, 255, true, true}, {4, 32, false, true}, {4, 32, true, false}, {4, 31, false, false}, {33, 64, false, false}, {0, 0, false, true},
		{pkcs11.Unavailable, pkcs11.Unavailable, false, true},
	} {
		p := &prober{options: Options{UserPIN: c.user}, slot: pkcs11.SlotInfo{MinPIN: c.least, MaxPIN: c.most}}
		if advice := p.pinAdvice(); (advice == "") != c.fits {
			t.Errorf("%d to %d: %q", c.least, c.most, advice)
		}
	}
}

func TestTemporaryPINsAreOthersOfTheSameKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pin     string
		longest uint
		want    string
	}{{"1234", 255, "12340"}, {"1234", 0, "12340"}, {"1234", 4, "1230"}, {"1230", 4, "1231"}, {"user:abc", 8, "user:ab0"}} {
		if got := other(secret.NewText(c.pin), c.longest); got.Reveal() != c.want {
			t.Errorf("%q: %q", c.pin, got.Reveal())
		}
	}
}
