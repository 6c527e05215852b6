package probe

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"kastellan.dev/internal/pkcs11"
)

// survey loads the module and lists its tokens.
func (p *prober) survey(ctx context.Context) bool {
	cfg := pkcs11.Config{URI: pkcs11.URI{ModulePath: p.options.Module}, Env: p.options.Env, CallTimeout: p.options.CallTimeout}
	info, err := pkcs11.Survey(ctx, cfg)
	if !p.try(ctx, checkLoad, "loads, initialises, and lists its slots", "Nothing can be done with the module. Its own configuration, the environment variables that it reads (--env) and libraries that it needs are what is usually missing.", err) {
		return false
	}
	p.report.Library = fmt.Sprintf("%s, %s %s, PKCS#11 %s", info.Description, info.Manufacturer, info.Version, info.Cryptoki)
	for _, s := range info.Slots {
		p.report.Tokens = append(p.report.Tokens, TokenLine{
			Slot: s.Token.SlotID, Description: s.Description, Label: s.Token.Label, Maker: s.Token.Manufacturer,
			Model: s.Token.Model, Serial: s.Token.Serial, Firmware: s.Token.FirmwareVersion,
			Initialised: initialised(s), Failure: s.Failure,
		})
		if initialised(s) {
			p.slots = append(p.slots, s)
		}
	}
	seen := fmt.Sprintf("%d of %d slots hold an initialised token", len(p.slots), len(info.Slots))
	if len(p.slots) == 0 {
		p.note(checkTokens, Fails, seen, "There is nothing to use. Initialise a token with the vendor's tool, or make the module's configuration name the HSM.")
		return false
	}
	p.note(checkTokens, Works, seen, "")
	return true
}

func initialised(s pkcs11.SlotInfo) bool { return s.Token.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 }

// choose finds the token that the options name.
func (p *prober) choose() error {
	matches, err := matcher(p.options)
	if err != nil {
		return err
	}
	var found []pkcs11.SlotInfo
	for _, s := range p.slots {
		if matches(s) {
			found = append(found, s)
		}
	}
	if len(found) == 0 { // no label is such: a slot's number
		if n, err := strconv.ParseUint(p.options.Token, 10, 32); err == nil {
			for _, s := range p.slots {
				if s.Token.SlotID == uint(n) {
					found = append(found, s)
				}
			}
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("%w: %d of the module's %d tokens are such", ErrWhichToken, len(found), len(p.slots))
	}
	p.slot = found[0]
	p.cfg = pkcs11.Config{URI: p.uri(), Env: p.options.Env, CallTimeout: p.options.CallTimeout, Sessions: probeSessions}
	p.report.Token = p.cfg.URI.String()
	return nil
}

// matcher tells tokens that Options.Token names, but for a slot's number.
func matcher(o Options) (func(pkcs11.SlotInfo) bool, error) {
	switch {
	case o.Token == "":
		return func(pkcs11.SlotInfo) bool { return true }, nil
	case !strings.HasPrefix(o.Token, "pkcs11:"):
		return func(s pkcs11.SlotInfo) bool { return s.Token.Label == o.Token }, nil
	}
	u, err := pkcs11.ParseURI(o.Token)
	if err != nil {
		return nil, err
	}
	if u.ModulePath != "" && u.ModulePath != o.Module {
		return nil, fmt.Errorf("%w: the token's URI names another module", ErrOptions)
	}
	agrees := func(wanted, have string) bool { return wanted == "" || wanted == have }
	return func(s pkcs11.SlotInfo) bool {
		t := s.Token
		return agrees(u.Token, t.Label) && agrees(u.Serial, t.Serial) && agrees(u.Manufacturer, t.Manufacturer) &&
			agrees(u.Model, t.Model) && agrees(u.SlotDescription, s.Description) && (!u.HasSlotID || u.SlotID == t.SlotID)
	}, nil
}

// uri names the chosen token by what stays the same: label and serial, and the slot's number only
// where those fit several.
func (p *prober) uri() pkcs11.URI {
	u := pkcs11.URI{ModulePath: p.options.Module, Token: p.slot.Token.Label, Serial: p.slot.Token.Serial}
	same := 0
	for _, s := range p.slots {
		if s.Token.Label == u.Token && s.Token.Serial == u.Serial {
			same++
		}
	}
	if same > 1 {
		u.SlotID, u.HasSlotID = p.slot.Token.SlotID, true
	}
	return u
}

// needed are the mechanisms that matter.
var needed = []struct {
	kind uint
	name string
	does uint
	gone string // what it means when it is not there
}{
	{0x1080, "CKM_AES_KEY_GEN", pkcs11.CKF_GENERATE, "Keys cannot be made."},
	{0x1087, "CKM_AES_GCM", pkcs11.CKF_ENCRYPT | pkcs11.CKF_DECRYPT, "Nothing can be encrypted: the token cannot back a key store."},
	{mechanismKWP, "CKM_AES_KEY_WRAP_KWP", pkcs11.CKF_WRAP | pkcs11.CKF_UNWRAP, ""},
	{mechanismWrapPad, "CKM_AES_KEY_WRAP_PAD", pkcs11.CKF_WRAP | pkcs11.CKF_UNWRAP, ""},
	{mechanismWrap, "CKM_AES_KEY_WRAP", pkcs11.CKF_WRAP | pkcs11.CKF_UNWRAP, ""},
	{0x0, "CKM_RSA_PKCS_KEY_PAIR_GEN", pkcs11.CKF_GENERATE_KEY_PAIR, "The cluster key cannot be carried to this token."},
	{0x9, "CKM_RSA_PKCS_OAEP", pkcs11.CKF_WRAP | pkcs11.CKF_UNWRAP, "The cluster key cannot be carried to this token."},
}

// describe notes what the token says of itself.
func (p *prober) describe() {
	have := make(map[uint]pkcs11.Mechanism)
	for _, m := range p.slot.Mechanisms {
		have[m.Type] = m
	}
	names := make(map[uint]string)
	for _, n := range needed {
		names[n.kind] = n.name
		m, ok := have[n.kind]
		check := "mechanism." + strings.ToLower(strings.TrimPrefix(n.name, "CKM_"))
		switch {
		case ok && m.Flags&n.does == n.does:
			p.note(check, Works, fmt.Sprintf("%s is listed, key sizes %d to %d", n.name, m.MinKey, m.MaxKey), "")
		case ok:
			p.note(check, Differs, fmt.Sprintf("%s is listed with the flags 0x%X, which do not have all of 0x%X", n.name, m.Flags, n.does), "What counts is whether it works, below.")
		default:
			p.note(check, Differs, n.name+" is not listed", strings.TrimSpace(n.gone+" What counts is whether it works, below."))
		}
	}
	for _, m := range p.slot.Mechanisms {
		p.report.Mechanisms = append(p.report.Mechanisms, MechanismLine{
			Type: fmt.Sprintf("0x%X", m.Type), Name: names[m.Type], MinKey: m.MinKey, MaxKey: m.MaxKey, Flags: fmt.Sprintf("0x%X", m.Flags),
		})
	}
	p.note("mechanism.all", Differs, fmt.Sprintf("%d mechanisms are listed; --json tells them all", len(p.slot.Mechanisms)), "")
	p.note("token.sessions", Differs, fmt.Sprintf("%s open now, at most %s; read-write %s, at most %s",
		count(p.slot.Sessions, "0"), count(p.slot.MaxSessions, "any number"), count(p.slot.RWSessions, "0"), count(p.slot.MaxRWSessions, "any number")), p.sessionAdvice())
	status, advice := Works, p.pinAdvice()
	if advice != "" {
		status = Fails
	}
	p.note(checkPIN, status, fmt.Sprintf("the token takes PINs of %d to %d bytes", p.slot.MinPIN, p.slot.MaxPIN), advice)
}

// count writes a number of sessions; zero is what the standard means by 0 there.
func count(n uint, zero string) string {
	switch n {
	case 0:
		return zero
	case pkcs11.Unavailable:
		return "an untold number"
	}
	return strconv.FormatUint(uint64(n), 10)
}

// serverSessions is how many sessions a server opens unless it is told otherwise: 16, and one that keeps the login.
const serverSessions = 17

// limited tells how many sessions a server may be given; false where the default is fine.
func (p *prober) limited() (sessions uint, ok bool) {
	most := p.slot.MaxRWSessions
	if most == 0 || most == pkcs11.Unavailable {
		most = p.slot.MaxSessions
	}
	if most == 0 || most == pkcs11.Unavailable || most >= serverSessions {
		return 0, false
	}
	return max(most, 2) - 1, true
}

func (p *prober) sessionAdvice() string {
	if n, ok := p.limited(); ok {
		return fmt.Sprintf("Set sessions to %d at most: one more session keeps the login.", n)
	}
	return ""
}

// passwordSize is how long a password a key store sets.
const passwordSize = 32

func (p *prober) pinAdvice() string {
	size := uint(passwordSize)
	if p.options.UserPIN {
		size += uint(len("kmsuser:"))
	}
	if p.slot.MaxPIN != 0 && p.slot.MaxPIN < size || p.slot.MinPIN != pkcs11.Unavailable && p.slot.MinPIN > size {
		return fmt.Sprintf("Key stores set PINs of %d characters: connecting one would fail.", size)
	}
	return ""
}
