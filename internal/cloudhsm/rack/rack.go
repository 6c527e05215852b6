// Package rack holds the tokens that stand for HSMs: pools of them, from which a token is taken,
// prepared and wiped, and one open handle for each HSM in this process.
//
// A token knows one user, and many people use an HSM. The server is the appliance in front of the
// token: it alone holds the token's PINs, and stays logged in for all who use the HSM. Each of
// those has a [Gate], which lets them at the token once a [Doorkeeper] has let them in as a user of the HSM.
//
// The package keeps no records. It does not know users, clusters or backups, and refuses to guess:
// which token belongs to which HSM, and with which PINs, is told by who calls.
package rack

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// HSM is a token that was prepared.
type HSM struct {
	ID     string
	Config pkcs11.Config
	PIN    secret.Text // the user PIN that opens the token
}

// key tells HSMs apart. An id whose token was replaced is another HSM.
func (h HSM) key() string {
	return strings.Join(append([]string{h.ID, h.Config.URI.String()}, h.Config.Env...), "\x00")
}

// Errors of handles.
var (
	// ErrClosed: the handle has been closed.
	ErrClosed = errors.New("rack: the handle is closed")
	// ErrRemoved: the HSM was taken out of the rack.
	ErrRemoved = errors.New("rack: the HSM was removed")
	// ErrPIN: the token refuses the PIN that the server keeps for it. It has nothing to do with the PINs of users.
	ErrPIN = errors.New("rack: the token refuses the appliance's PIN")
)

// Config says how a rack opens tokens.
type Config struct {
	// Open opens a token; nil: pkcs11.Open.
	Open func(ctx context.Context, cfg pkcs11.Config, log *slog.Logger) (pkcs11.Token, error)
}

// Rack holds one open token for each HSM that is in use. Its methods may be called from many
// goroutines at once.
type Rack struct {
	open func(ctx context.Context, cfg pkcs11.Config, log *slog.Logger) (pkcs11.Token, error)

	mu      sync.Mutex
	bays    map[string]*bay    // by HSM.key
	refused map[string]refused // of HSMs that were removed, by HSM.key
}

// refused is how often in a row a token has refused a PIN.
type refused struct {
	pin   secret.Text
	times int
}

// New makes an empty rack.
func New(cfg Config) *Rack {
	if cfg.Open == nil {
		cfg.Open = pkcs11.Open
	}
	return &Rack{open: cfg.Open, bays: make(map[string]*bay), refused: make(map[string]refused)}
}

// Open gives a handle of the HSM's token, whose user is logged in. The token is opened for the first
// one who asks, and closed with the last handle. Its errors are those of pkcs11.Open, ErrPIN and ErrRemoved.
func (r *Rack) Open(ctx context.Context, hsm HSM, log *slog.Logger) (*Shared, error) {
	b := r.take(hsm, log)
	s := &Shared{bay: b, giveBack: func() error { return r.giveBack(b) }}
	if err := s.Ready(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// take gives the bay of the HSM, with one user more. It stays when nobody uses it: it knows
// whether the token refuses the PIN.
func (r *Rack) take(hsm HSM, log *slog.Logger) *bay {
	key := hsm.key()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.bays[key]
	if b == nil || b.users == 0 && !b.hsm.PIN.Equal(hsm.PIN) {
		b = newBay(hsm, r.open, log.With("hsm", hsm.ID))
		if before := r.refused[key]; before.pin.Equal(hsm.PIN) {
			b.refusals = before.times
		}
		delete(r.refused, key)
		r.bays[key] = b
	}
	b.users++
	return b
}

// giveBack closes the token behind its last user.
func (r *Rack) giveBack(b *bay) error {
	r.mu.Lock()
	b.users--
	r.mu.Unlock()
	return b.close(func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return b.users == 0
	})
}

// Remove closes the HSM's token, however many use it: their calls fail with ErrRemoved. It is to be called
// before the token is wiped; with nothing open it does nothing. An HSM with the same id and another token stays.
func (r *Rack) Remove(hsm HSM) error {
	r.mu.Lock()
	b := r.bays[hsm.key()]
	delete(r.bays, hsm.key())
	r.mu.Unlock()
	if b == nil {
		return nil
	}
	b.removed.Store(true)
	times := 0
	err := b.close(func() bool { times = b.refusals; return true })
	if times > 0 { // whoever opens it again goes on counting, or the token's user would be locked
		r.mu.Lock()
		r.refused[hsm.key()] = refused{b.hsm.PIN, times}
		r.mu.Unlock()
	}
	return err
}
