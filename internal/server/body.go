package server

import (
	"errors"
	"io"
	"sync/atomic"
)

// freeBody is how much of each body does not count towards Config.MaxBuffered,
// in bytes: about what the connection costs anyway. So who fills the memory with
// large bodies does not keep out ordinary requests, which are smaller than that.
const freeBody = 16 << 10

// errHeld says that too much of other bodies is held already.
var errHeld = errors.New("too many bytes of requests are held at once")

// body reads one request's body, and counts it among all that are held. The
// zero value holds nothing.
type body struct {
	from  io.Reader
	all   *atomic.Int64 // bytes that all requests hold beyond freeBody
	limit int64         // of all
	read  int64
	held  int64 // the part of all that is this one's
}

// Read implements io.Reader. It fails with errHeld instead of going over the limit.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.read += int64(n)
	if more := b.read - freeBody - b.held; more > 0 {
		b.held += more
		if b.all.Add(more) > b.limit {
			return 0, errHeld
		}
	}
	return n, err
}

// release gives back what was counted.
func (b *body) release() {
	if b.held > 0 {
		b.all.Add(-b.held)
	}
}
