package rack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"kastellan.dev/internal/pkcs11"
)

// maxRefusals is how many times in a row a token may refuse the PIN before it is not tried
// any more: tokens lock their user sooner or later. Once is not enough, since SoftHSM2 may refuse the
// right PIN when two processes log in at the same moment.
const maxRefusals = 3

// bay is the place of one HSM in the rack, with its token while somebody uses it.
type bay struct {
	hsm     HSM
	open    func(ctx context.Context, cfg pkcs11.Config, log *slog.Logger) (pkcs11.Token, error)
	log     *slog.Logger
	users   int  // of the rack, under its mu
	objects lock // held by who makes, destroys or looks for objects

	current  atomic.Pointer[shifted] // the open token, or nil
	logins   atomic.Uint64           // of the token's user so far
	sick     atomic.Bool             // the token has failed in a way that only opening it anew may cure
	removed  atomic.Bool
	restarts atomic.Uint64 // of the processes of tokens that were closed since

	repair   lock   // held by who opens, logs in or closes, and for what follows
	floor    uint32 // the latest epoch of handles of tokens that were closed
	refusals int    // of the PIN, in a row
}

func newBay(hsm HSM, open func(context.Context, pkcs11.Config, *slog.Logger) (pkcs11.Token, error), log *slog.Logger) *bay {
	return &bay{hsm: hsm, open: open, log: log, objects: make(lock, 1), repair: make(lock, 1)}
}

// lock is a mutex for which one waits no longer than a context lasts. It holds one.
type lock chan struct{}

func (l lock) hold(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) release() { <-l }

// ready makes sure that the token is open and its user logged in, and tells how many
// logins there were. As long as that number stays the same, no login was lost.
func (b *bay) ready(ctx context.Context) (logins uint64, err error) {
	if err := b.repair.hold(ctx); err != nil {
		return 0, err
	}
	defer b.repair.release()
	token, err := b.reach(ctx)
	if err != nil {
		return 0, err
	}
	err = b.confirm(ctx, token)
	if errors.Is(err, pkcs11.ErrLost) { // told to one call; the next one meets a fresh process
		err = b.confirm(ctx, token)
	}
	b.note(err)
	return b.logins.Load(), err
}

// reach gives the token, opened unless it is open and sound.
func (b *bay) reach(ctx context.Context) (*shifted, error) {
	if b.removed.Load() {
		return nil, ErrRemoved
	}
	if t := b.current.Load(); t != nil && !b.sick.Load() {
		return t, nil
	}
	if err := b.shut(); err != nil {
		b.log.Warn("a token that failed could not be closed", "error", err)
	}
	token, err := b.open(ctx, b.hsm.Config, b.log)
	if err != nil {
		return nil, err
	}
	b.sick.Store(false)
	t := &shifted{Token: token, by: b.floor}
	b.current.Store(t)
	return t, nil
}

// confirm asks the token for a sign of life, and logs its user in.
func (b *bay) confirm(ctx context.Context, token pkcs11.Token) error {
	if _, err := token.Info(ctx); err != nil {
		return err
	}
	return b.logIn(ctx, token)
}

// logIn logs the token's user in unless that has happened.
func (b *bay) logIn(ctx context.Context, token pkcs11.Token) error {
	if b.refusals >= maxRefusals {
		return ErrPIN
	}
	err := token.Login(ctx, b.hsm.PIN)
	switch {
	case err == nil:
		b.refusals = 0
		b.logins.Add(1)
	case hasRV(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		return nil
	case hasRV(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_LOCKED,
		pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED):
		b.refusals++
		// Not wrapped: a return value of C_Login is taken for what a user's PIN met.
		return fmt.Errorf("%w: %s", ErrPIN, pkcs11.Class(err))
	}
	return err
}

// close closes the token if that is still wanted when nobody repairs it.
func (b *bay) close(wanted func() bool) error {
	b.repair <- struct{}{}
	defer b.repair.release()
	if !wanted() {
		return nil
	}
	return b.shut()
}

// shut closes the token if it is open. It is called with repair held.
func (b *bay) shut() error {
	t := b.current.Swap(nil)
	if t == nil {
		return nil
	}
	err := t.Close()
	b.floor = max(b.floor, t.highest())
	b.restarts.Add(pkcs11.Restarts(t.Token))
	return err
}

// note remembers failures of the token as a whole: of functions that take neither a key nor data, so
// that nobody who uses the HSM can bring them about. SoftHSM2 stays that way when it has read
// its files at the moment that another process wrote them.
func (b *bay) note(err error) {
	var e *pkcs11.Error
	if !errors.As(err, &e) {
		return
	}
	switch e.Function {
	case "C_OpenSession", "C_GetTokenInfo", "C_GetSessionInfo", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GenerateRandom", "C_Login":
		if hasRV(e, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_MEMORY,
			pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED) {
			b.sick.Store(true)
		}
	}
}

func hasRV(err error, values ...uint) bool {
	for _, rv := range values {
		if errors.Is(err, &pkcs11.Error{RV: rv}) {
			return true
		}
	}
	return false
}
