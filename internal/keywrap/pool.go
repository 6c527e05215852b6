package keywrap

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"kastellan.dev/internal/kmsapi"
)

// ready is how many keys of a kind wait in a [Pool].
const ready = 2

// errClosed is what a closed pool answers with.
var errClosed = errors.New("the pool of wrapping keys is closed")

// Pool has RSA wrapping keys ready, because making one takes long: a few of each kind
// that somebody has asked for, none before. One key is made at a time, so that no
// number of callers takes more than one processor. It may be used from many
// goroutines at once.
type Pool struct {
	shelves  []*shelf // never changed
	generate func(kmsapi.WrappingKeySpec) (*PrivateKey, error)

	wake   chan struct{} // something on a shelf may have changed
	closed chan struct{}
	once   sync.Once     // closes closed
	done   chan struct{} // fill has returned
}

// shelf has the keys of one kind. Each is received once, hence handed out once.
type shelf struct {
	spec    kmsapi.WrappingKeySpec
	keys    chan made
	used    atomic.Bool
	waiting atomic.Int32 // callers in Get
}

type made struct {
	key *PrivateKey
	err error
}

// NewPool makes an empty pool. It must be closed.
func NewPool() *Pool { return newPool(Generate) }

func newPool(generate func(kmsapi.WrappingKeySpec) (*PrivateKey, error)) *Pool {
	p := &Pool{
		generate: generate,
		wake:     make(chan struct{}, 1),
		closed:   make(chan struct{}),
		done:     make(chan struct{}),
	}
	for spec := range rsaBits {
		p.shelves = append(p.shelves, &shelf{spec: spec, keys: make(chan made, ready)})
	}
	go p.fill()
	return p
}

// Get gives a key that nobody else has got or will get. It waits for one if none is
// ready, until ctx ends or the pool is closed. SM2 keys are made on the spot, in
// microseconds. Kinds that do not exist are a ValidationException.
func (p *Pool) Get(ctx context.Context, spec kmsapi.WrappingKeySpec) (*PrivateKey, error) {
	if spec == kmsapi.WrappingSM2 {
		return p.generate(spec)
	}
	at := slices.IndexFunc(p.shelves, func(s *shelf) bool { return s.spec == spec })
	if at < 0 {
		return nil, unknownSpec(spec)
	}
	s := p.shelves[at]
	if err := p.ended(ctx); err != nil {
		return nil, err
	}
	s.used.Store(true)
	s.waiting.Add(1)
	p.look()
	defer p.look() // what is taken is to be replaced
	defer s.waiting.Add(-1)
	select {
	case m := <-s.keys:
		return m.key, m.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closed:
		return nil, errClosed
	}
}

// ended keeps a caller that has gone from taking a key that is ready.
func (p *Pool) ended(ctx context.Context) error {
	select {
	case <-p.closed:
		return errClosed
	default:
		return ctx.Err()
	}
}

// look has fill look at the shelves again.
func (p *Pool) look() {
	select {
	case p.wake <- struct{}{}:
	default: // it is about to
	}
}

// fill makes keys until the pool is closed.
func (p *Pool) fill() {
	defer close(p.done)
	at := 0
	for {
		if at = p.next(at); at < 0 {
			select {
			case <-p.wake:
				at = 0
				continue
			case <-p.closed:
				return
			}
		}
		select {
		case <-p.closed:
			return
		default:
		}
		s := p.shelves[at]
		key, err := p.generate(s.spec)
		s.keys <- made{key, err} // has room: only this goroutine puts keys there
	}
}

// next picks the shelf for the next key: one with callers that no key is ready for, or
// else one that is not full, or none (-1). It begins behind the shelf that had its turn
// last, so that nobody waits for ever behind the callers of other kinds.
func (p *Pool) next(last int) int {
	spare := -1
	for i := range p.shelves {
		at := (last + 1 + i) % len(p.shelves)
		s := p.shelves[at]
		switch keys := len(s.keys); {
		case keys == ready:
		case int(s.waiting.Load()) > keys:
			return at
		case spare < 0 && s.used.Load():
			spare = at
		}
	}
	return spare
}

// Close ends the pool; callers that wait get an error. It waits for the key that is
// being made, if there is one, which cannot be broken off.
func (p *Pool) Close() {
	p.once.Do(func() { close(p.closed) })
	<-p.done
}
