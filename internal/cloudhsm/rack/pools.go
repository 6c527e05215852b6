package rack

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// Pool is where the tokens of HSMs in an availability zone come from.
type Pool struct {
	Name             string // 1 to 64 of a-z, A-Z, 0-9, "-", "_" and "."
	AvailabilityZone string
	HsmTypes         []string        // for which it serves; empty: all
	SoftHSM2         *SoftHSM2       // tokens that are made on demand, after those of Tokens
	Tokens           []DeclaredToken // that there are already
}

// SoftHSM2 says how tokens of SoftHSM2 are made: each in a directory of its own, which goes with it.
type SoftHSM2 struct {
	Module      string        // absolute path of libsofthsm2.so
	Directory   string        // absolute; made if need be, and of no other use
	Tokens      int           // at most so many at a time
	Sessions    int           // as in pkcs11.Config
	CallTimeout time.Duration // as in pkcs11.Config
}

// DeclaredToken is a token that is there already. It has one of SOPIN and PIN.
type DeclaredToken struct {
	// Config has a URI that names one token by its label or serial number, and not by its slot alone: the token that is in a
	// slot is wiped. A label stays when the token is initialised.
	Config pkcs11.Config
	// SOPIN is the security officer's. With it the token is initialised for each HSM: all of its
	// objects are lost, and its user gets a fresh PIN. The token keeps the SO PIN.
	SOPIN secret.Text
	// PIN is the user's. With it the token is used as it stands, and all objects that its user
	// sees are destroyed between HSMs.
	PIN secret.Text
}

// Placement names a token of a pool, as records keep it.
type Placement struct {
	Pool  string
	Token string // the canonical URI of a declared token, or the name of one that was made, which no other ever has
}

// PINs are those of an HSM's token. Tokens that have theirs do not need them all.
type PINs struct{ SO, User secret.Text }

// Prepared says how to open the token of an HSM.
type Prepared struct {
	Config pkcs11.Config
	PIN    secret.Text // the user's, which opens it: not always the one that was asked for
	Info   pkcs11.TokenInfo
}

// Errors of pools.
var (
	// ErrNoPool: no pool is such.
	ErrNoPool = errors.New("rack: no such pool")
	// ErrNoToken: the pools that fit have no token to spare, or the pool has no such token.
	ErrNoToken = errors.New("rack: no such token is free")
	// ErrNotBlank: there is something on the token, or somebody, that no HSM has left there.
	ErrNotBlank = errors.New("rack: the token is in use")
	// ErrNotPrepared: the token is not, or no longer, prepared.
	ErrNotPrepared = errors.New("rack: the token is not prepared")
)

// Pools are all pools of a server. Its methods may be called from many goroutines at once, but for one
// token by one at a time.
type Pools struct{ pools []Pool }

// poolName fits into records and messages.
var poolName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// NewPools checks the pools: what is wrong with them is an error that names the pool and holds no PIN.
func NewPools(pools []Pool) (*Pools, error) {
	names, tokens := map[string]bool{}, map[string]bool{}
	var directories []string
	for _, p := range pools {
		if !poolName.MatchString(p.Name) {
			return nil, fmt.Errorf("rack: the name of a pool is not 1 to 64 letters, digits, dots, hyphens and underscores: %q", p.Name)
		}
		if names[p.Name] {
			return nil, fmt.Errorf("rack: two pools have the name %s", p.Name)
		}
		names[p.Name] = true
		if err := p.check(tokens); err != nil {
			return nil, fmt.Errorf("rack: pool %s: %w", p.Name, err)
		}
		if p.SoftHSM2 != nil {
			for _, other := range directories {
				if within(other, p.SoftHSM2.Directory) || within(p.SoftHSM2.Directory, other) {
					return nil, fmt.Errorf("rack: pool %s: its directory is another pool's", p.Name)
				}
			}
			directories = append(directories, p.SoftHSM2.Directory)
		}
	}
	return &Pools{pools: slices.Clone(pools)}, nil
}

// within tells whether path is dir or below it.
func within(path, dir string) bool {
	relative, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(relative)
}

// check notes the pool's tokens in seen, by their URIs.
func (p *Pool) check(seen map[string]bool) error {
	if p.AvailabilityZone == "" {
		return errors.New("it is in no availability zone")
	}
	if p.SoftHSM2 == nil && len(p.Tokens) == 0 {
		return errors.New("it has no tokens")
	}
	for _, t := range p.Tokens {
		uri := t.Config.URI.String()
		if err := t.check(); err != nil {
			return fmt.Errorf("token %s: %w", uri, err)
		}
		if seen[uri] {
			return fmt.Errorf("token %s is in the pools twice", uri)
		}
		seen[uri] = true
	}
	if p.SoftHSM2 == nil {
		return nil
	}
	return p.SoftHSM2.check()
}

func (t *DeclaredToken) check() error {
	u := t.Config.URI
	switch {
	case u.ModulePath == "":
		return errors.New("its URI has no module-path")
	case u.Token == "" && u.Serial == "":
		return errors.New("its URI names neither label nor serial number: slots can change their tokens")
	case u.Object != "" || u.ID != "" || u.Type != "":
		return errors.New("its URI names an object")
	case t.SOPIN.IsEmpty() == t.PIN.IsEmpty():
		return errors.New("it has to have one of the security officer's PIN and the user's")
	}
	return nil
}

func (s *SoftHSM2) check() error {
	switch {
	case !filepath.IsAbs(s.Module):
		return errors.New("the module's path is not absolute")
	case !filepath.IsAbs(s.Directory) || filepath.Clean(s.Directory) != s.Directory || s.Directory == "/":
		return errors.New("the directory is not an absolute path")
	case strings.ContainsAny(s.Directory, "#=\r\n\x00"):
		return errors.New("the directory has a character that SoftHSM2's configuration cannot hold")
	case s.Tokens < 1:
		return errors.New("the number of tokens is not positive")
	case s.Sessions < 0 || s.CallTimeout < 0:
		return errors.New("the number of sessions or the call timeout is negative")
	}
	return nil
}

// Zones gives the availability zones that have a pool, sorted.
func (p *Pools) Zones() []string {
	var zones []string
	for _, pool := range p.pools {
		zones = append(zones, pool.AvailabilityZone)
	}
	slices.Sort(zones)
	return slices.Compact(zones)
}

// Choose gives a token for an HSM of the type in the zone, other than those that are taken. It fails with
// ErrNoPool or ErrNoToken, and changes nothing: the token is taken once the caller has a record of it.
func (p *Pools) Choose(zone, hsmType string, taken []Placement) (Placement, error) {
	fits := false
	for _, pool := range p.pools {
		if pool.AvailabilityZone != zone || !pool.serves(hsmType) {
			continue
		}
		fits = true
		if token := pool.free(taken); token != "" {
			return Placement{Pool: pool.Name, Token: token}, nil
		}
	}
	if !fits {
		return Placement{}, fmt.Errorf("%w: none in %s has HSMs of type %s", ErrNoPool, zone, hsmType)
	}
	return Placement{}, fmt.Errorf("%w: all in %s are taken", ErrNoToken, zone)
}

// ChooseIn gives a token of one pool, other than those that are taken. It fails with ErrNoPool or ErrNoToken, and
// changes nothing.
func (p *Pools) ChooseIn(pool string, taken []Placement) (Placement, error) {
	i := slices.IndexFunc(p.pools, func(one Pool) bool { return one.Name == pool })
	if i < 0 {
		return Placement{}, fmt.Errorf("%w: %.64q", ErrNoPool, pool)
	}
	token := p.pools[i].free(taken)
	if token == "" {
		return Placement{}, fmt.Errorf("%w: all of %s are taken", ErrNoToken, pool)
	}
	return Placement{Pool: pool, Token: token}, nil
}

// Serves tells whether HSMs of a type can be made of the tokens of a pool.
func (p *Pools) Serves(pool, hsmType string) bool {
	return slices.ContainsFunc(p.pools, func(one Pool) bool { return one.Name == pool && one.serves(hsmType) })
}

func (p *Pool) serves(hsmType string) bool {
	return len(p.HsmTypes) == 0 || slices.Contains(p.HsmTypes, hsmType)
}

// free gives a token that is not taken, or an empty text. A token that was taken out of a pool of another name is taken
// all the same: pools are renamed, and tokens go from one to another.
func (p *Pool) free(taken []Placement) string {
	for _, t := range p.Tokens {
		if uri := t.Config.URI.String(); !isTaken(uri, taken) {
			return uri
		}
	}
	if p.makes(taken) == 0 {
		return ""
	}
	return newName()
}

func isTaken(uri string, taken []Placement) bool {
	return slices.ContainsFunc(taken, func(at Placement) bool { return at.Token == uri })
}

// makes tells how many tokens the pool can make on demand.
func (p *Pool) makes(taken []Placement) int {
	if p.SoftHSM2 == nil {
		return 0
	}
	n := p.SoftHSM2.Tokens
	for _, t := range taken {
		if t.Pool == p.Name && isMade(t.Token) {
			n--
		}
	}
	return max(0, n)
}

// Trust has the security officer mark the secret keys with the label trusted (CKA_TRUSTED), where the officer of
// the token is the server. It tells whether that was so. SoftHSM2's officer does not see keys, so its tokens are left alone.
func (p *Pools) Trust(ctx context.Context, at Placement, label string) (done bool, err error) {
	s, err := p.find(at)
	if err != nil {
		return false, err
	}
	t, declared := s.(*DeclaredToken)
	if !declared || t.SOPIN.IsEmpty() {
		return false, nil
	}
	if err := pkcs11.MarkTrusted(ctx, t.Config, t.SOPIN, label); err != nil {
		return false, fmt.Errorf("marking a key of a token of pool %s trusted: %w", at.Pool, err)
	}
	return true, nil
}

// Free tells by the name of each pool how many tokens that are not taken it has.
func (p *Pools) Free(taken []Placement) map[string]int {
	free := make(map[string]int, len(p.pools))
	for i := range p.pools {
		pool := &p.pools[i]
		for _, t := range pool.Tokens {
			if !isTaken(t.Config.URI.String(), taken) {
				free[pool.Name]++
			}
		}
		free[pool.Name] += pool.makes(taken)
	}
	return free
}

// site is what is done with a token, whatever its kind.
type site interface {
	prepare(ctx context.Context, label string, pins PINs) (Prepared, error)
	reach(pins PINs) (Prepared, error)
	wipe(ctx context.Context) error
	vanished(why error) bool
	blank(ctx context.Context) error
}

// find gives the token of a placement.
func (p *Pools) find(at Placement) (site, error) {
	for i := range p.pools {
		pool := &p.pools[i]
		if pool.Name != at.Pool {
			continue
		}
		for j := range pool.Tokens {
			if t := &pool.Tokens[j]; t.Config.URI.String() == at.Token {
				return t, nil
			}
		}
		if pool.SoftHSM2 != nil && isMade(at.Token) {
			return made{pool.SoftHSM2, at.Token}, nil
		}
		return nil, fmt.Errorf("%w: pool %s has no %.200q", ErrNoToken, at.Pool, at.Token)
	}
	return nil, fmt.Errorf("%w: %.64q", ErrNoPool, at.Pool)
}

// Blank fails with ErrNotBlank unless a token is as Wipe leaves it, so that nothing is lost when it is prepared. It is asked
// before a token is prepared for the first time: whoever lists a token that is in use by mistake is not to lose what is on it.
func (p *Pools) Blank(ctx context.Context, at Placement) error {
	s, err := p.find(at)
	if err != nil {
		return err
	}
	if err := s.blank(ctx); err != nil {
		return fmt.Errorf("looking at a token of pool %s: %w", at.Pool, err)
	}
	return nil
}

// Prepare makes the token empty and gives it the PINs, whatever was there, and however far
// a Prepare or Wipe before has come. The label, of 1 to 32 bytes, is the token's if the pool does not tell it.
func (p *Pools) Prepare(ctx context.Context, at Placement, label string, pins PINs) (Prepared, error) {
	s, err := p.find(at)
	if err != nil {
		return Prepared{}, err
	}
	prepared, err := s.prepare(ctx, label, pins)
	if err == nil {
		prepared.Info, err = prove(ctx, prepared)
	}
	if err != nil {
		return Prepared{}, fmt.Errorf("preparing a token of pool %s: %w", at.Pool, err)
	}
	return prepared, nil
}

// Identity tells which device a token is that there was already, by its maker's name, model and serial number: two URIs may
// name one. It is empty for a token that the pool makes, and for one that does not answer, such as one that was never initialised.
func (p *Pools) Identity(ctx context.Context, at Placement) (string, error) {
	s, err := p.find(at)
	if err != nil {
		return "", err
	}
	t, declared := s.(*DeclaredToken)
	if !declared {
		return "", nil
	}
	return t.identity(ctx), nil
}

// Reach tells how to open a token that was prepared with the PINs, without touching it. Info is empty.
// It fails with ErrNotPrepared where that can be seen.
func (p *Pools) Reach(at Placement, pins PINs) (Prepared, error) {
	s, err := p.find(at)
	if err != nil {
		return Prepared{}, err
	}
	return s.reach(pins)
}

// Vanished tells whether a token that could not be opened is a token no more: it was made by its pool, and somebody else
// has removed it or initialised it, so that nothing of an HSM is left in it. Of a token that there was already that cannot be known.
func (p *Pools) Vanished(at Placement, why error) bool {
	s, err := p.find(at)
	return err == nil && s.vanished(why)
}

// Wipe leaves nothing of an HSM in the token, and may be called again. Whoever has the token open must have closed it: see Rack.Remove.
func (p *Pools) Wipe(ctx context.Context, at Placement, _ PINs) error {
	s, err := p.find(at)
	if err != nil {
		return err
	}
	if err := s.wipe(ctx); err != nil {
		return fmt.Errorf("wiping a token of pool %s: %w", at.Pool, err)
	}
	return nil
}
