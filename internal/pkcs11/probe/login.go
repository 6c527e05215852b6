package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// probeSessions is how many sessions a probe opens at most.
const probeSessions = 4

var errNoInspector = errors.New("this token cannot be inspected")

// openWith opens the token in a process of its own.
func (p *prober) openWith(ctx context.Context, cfg pkcs11.Config) (pkcs11.Inspector, error) {
	t, err := pkcs11.Open(ctx, cfg, p.options.Log)
	if err != nil {
		return nil, err
	}
	inspector, ok := t.(pkcs11.Inspector)
	if !ok {
		return nil, errors.Join(errNoInspector, t.Close())
	}
	return inspector, nil
}

func (p *prober) open(ctx context.Context) bool {
	t, err := p.openWith(ctx, p.cfg)
	if err == nil {
		p.token = t
	}
	return p.try(ctx, checkOpen, "found again in a process of its own", "Nothing can be done with the token.", err)
}

// pinState tells in words what the token's flags say of the user's PIN.
func pinState(i pkcs11.TokenInfo) string {
	switch {
	case i.UserPINLocked:
		return "the user's PIN is locked"
	case i.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return "the next wrong PIN locks the user"
	case i.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0:
		return "wrong PINs were sent since the last right one"
	case !i.UserPINInitialized:
		return "the user's PIN is not set"
	}
	return "the user's PIN is set, and no wrong one is counted"
}

// logIn logs in once, unless the token says that this might lock the user.
func (p *prober) logIn(ctx context.Context) bool {
	info, err := p.token.Info(ctx)
	if !p.try(ctx, checkInfo, pinState(info), "The token cannot be asked about itself.", err) {
		return false
	}
	pin := p.options.PIN
	switch {
	case pin.IsEmpty():
		p.note(checkLogin, Skipped, "there is no PIN", "Give --pin-file, or KASTELLAN_HSM_PIN: without a login little can be found out.")
		return false
	case info.UserPINLocked, info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		p.note(checkLogin, Fails, pinState(info), "Nothing was tried. Have the security officer reset the PIN, or log in with the vendor's tool.")
		return false
	case p.options.UserPIN && !strings.Contains(pin.Reveal(), ":"):
		p.note(checkLogin, Skipped, "the PIN is not of the form user:password", "Nothing was tried.")
		return false
	}
	seen := "the user is logged in"
	err = p.token.Login(ctx, pin)
	if errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_USER_ALREADY_LOGGED_IN}) {
		seen, err = "the user was logged in already, for all processes: the PIN was not tested", nil
	}
	p.in = p.try(ctx, checkLogin, seen, "No more than this one login was tried.", err)
	return p.in
}

// wrongPIN sends one wrong PIN, if that was asked for, and looks what the token makes of it.
func (p *prober) wrongPIN(ctx context.Context) {
	if !p.options.WrongPIN {
		p.note("login.wrong-pin", Skipped, "only with --wrong-pin", "")
		return
	}
	if info, err := p.token.Info(ctx); err != nil || info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0 {
		p.note("login.wrong-pin", Skipped, "the token does not say that no wrong PIN is counted", "")
		return
	}
	if err := p.token.Logout(ctx); !p.try(ctx, "logout", "logs out", "", err) {
		return
	}
	wrong := p.token.Login(ctx, other(p.options.PIN, p.slot.MaxPIN))
	info, err := p.token.Info(ctx)
	state := pinState(info)
	if err != nil {
		state = err.Error()
	}
	switch {
	case wrong == nil:
		p.note("login.wrong-pin", Fails, "a wrong PIN was accepted", "The token does not check its PIN.")
	case errors.Is(wrong, &pkcs11.Error{RV: pkcs11.CKR_PIN_INCORRECT}):
		p.note("login.wrong-pin", Works, fmt.Sprintf("%v, then: %s", wrong, state), "")
	default:
		p.note("login.wrong-pin", Differs, fmt.Sprintf("%v, then: %s", wrong, state), "Key stores take CKR_PIN_INCORRECT, CKR_PIN_INVALID and CKR_PIN_LEN_RANGE for a wrong password, and everything else for a fault of the HSM.")
	}
	err = relogin(ctx, p.token, p.options.PIN)
	if p.try(ctx, "login.again", "the right PIN works after that", "The token does not take the right PIN any more: look at its state with the vendor's tool.", err) {
		return
	}
	p.in = false
}

// other makes a PIN that is not this one, and from which whoever knows the one can tell the other: the same
// with a 0 at its end, or in the place of its last character where the token takes no longer ones.
func other(pin secret.Text, longest uint) secret.Text {
	text := pin.Reveal()
	if longest == 0 || longest == pkcs11.Unavailable || uint(len(text)) < longest {
		return secret.NewText(text + "0")
	}
	last := "0"
	if strings.HasSuffix(text, last) {
		last = "1"
	}
	return secret.NewText(text[:len(text)-1] + last)
}

// backWait bounds the change back of a PIN, whatever became of the context.
const backWait = 30 * time.Second

// setPIN changes the PIN and changes it back, if that was asked for.
func (p *prober) setPIN(ctx context.Context) {
	if !p.options.SetPIN {
		p.note(checkSetPIN, Skipped, "only with --change-pin", "")
		return
	}
	pin, temporary := p.options.PIN, other(p.options.PIN, p.slot.MaxPIN)
	const means = "A key store cannot be connected: it gives its user a password that only the server knows."
	if err := p.token.SetPIN(ctx, pin, temporary); err != nil {
		var refused *pkcs11.Error
		if errors.As(err, &refused) { // the PIN is what it was
			p.try(ctx, checkSetPIN, "", means, err)
			return
		}
		p.note(checkSetPIN, Fails, err.Error(), means) // who knows which one it is
		p.recoverPIN(ctx, pin, temporary)
		return
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), backWait)
	defer cancel()
	if err := p.token.SetPIN(back, temporary, pin); err != nil {
		p.note(checkSetPIN, Fails, "changed, but not changed back: "+err.Error(), means)
		p.recoverPIN(ctx, pin, temporary)
		return
	}
	p.note(checkSetPIN, Works, "changes the PIN, and changes it back", "")
}

// recoverPIN finds out which of two PINs the token has after C_SetPIN went wrong, with one login for each.
func (p *prober) recoverPIN(ctx context.Context, pin, temporary secret.Text) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), backWait)
	defer cancel()
	const check = checkSetPIN + ".back"
	_ = p.token.Logout(ctx) // of a process that may be gone
	if relogin(ctx, p.token, pin) == nil {
		p.note(check, Works, "the token has the PIN that it had", "")
		return
	}
	err := relogin(ctx, p.token, temporary)
	if err == nil {
		err = p.token.SetPIN(ctx, temporary, pin)
	}
	if err == nil {
		p.note(check, Works, "the token has the PIN again that it had", "")
		return
	}
	p.in = false
	p.note(check, Fails, err.Error(), "The token may have another PIN now: the one given with a 0 at its end, or, where it was as long as the token allows, in the place of its last character. Change it back with the vendor's tool.")
}
