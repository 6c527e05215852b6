//go:build cgo && unix

package pkcs11

import (
	"bufio"
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// conn is the parent's end of the socket to one child. Many questions are
// under way at once.
type conn struct {
	file   *os.File
	writer *frameWriter
	limit  int // questions under way

	mu       sync.Mutex
	nextID   uint32
	asked    map[uint32]*asked
	heard    time.Time // when the child last showed life, or was first asked
	epoch    uint32    // the latest of which an answer told
	failure  error     // set once the child is gone or given up
	leaving  bool      // a call hangs in the child's module: it says so and ends
	finished chan struct{}
}

// asked is a question under way. Nobody may wait for it any more.
type asked struct {
	answer chan outcome
}

var askedPool = sync.Pool{New: func() any { return &asked{answer: make(chan outcome, 1)} }}

func newConn(file *os.File, limit int) (*conn, error) {
	w, err := newFrameWriter(file)
	if err != nil {
		return nil, err
	}
	c := &conn{file: file, writer: w, limit: limit, asked: map[uint32]*asked{}, heard: time.Now(), finished: make(chan struct{})}
	go c.read()
	return c, nil
}

// ask sends the question and waits for its answer or the end of ctx.
func (c *conn) ask(ctx context.Context, question *message) (message, error) {
	patience, err := patienceOf(ctx)
	if err != nil {
		return message{}, waitError(err)
	}
	a := askedPool.Get().(*asked)
	id, err := c.register(a, question.code)
	if err != nil {
		askedPool.Put(a)
		return message{}, err
	}
	// If this fails the socket is broken: the reader notices as well, and fails all.
	_ = c.writer.send(id, patience, question)
	select {
	case o := <-a.answer:
		askedPool.Put(a)
		if errors.Is(o.err, errExpired) {
			o.err = waitError(context.DeadlineExceeded)
		}
		return o.answer, o.err
	case <-ctx.Done():
		return message{}, waitError(ctx.Err())
	}
}

// patienceOf is the time left in milliseconds, at least one; zero when there
// is no end.
func patienceOf(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, nil
	}
	return uint64(max(1, time.Until(deadline).Milliseconds())), nil
}

// register notes a question. Those that no session of the pool is for are as
// many again: logging in and closing must work while everybody encrypts.
func (c *conn) register(a *asked, ask code) (id uint32, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return 0, c.failure
	}
	if c.leaving {
		return 0, ErrLost
	}
	limit := c.limit
	if op := operations[ask]; op.control || op.run == nil {
		limit *= 2
	}
	if len(c.asked) >= limit {
		return 0, ErrBusy
	}
	if len(c.asked) == 0 {
		c.heard = time.Now()
	}
	c.nextID++
	if c.nextID == beatID {
		c.nextID++
	}
	c.asked[c.nextID] = a
	return c.nextID, nil
}

// beatID is the id of frames that only show that the child lives.
const beatID = 0

// read hands out the answers until the socket ends.
func (c *conn) read() {
	defer close(c.finished)
	r := bufio.NewReaderSize(c.file, readBuffer)
	for {
		body, err := readFrame(r)
		if err != nil {
			c.fail(ErrLost)
			return
		}
		var o outcome
		id, _, err := parseFrame(body, &o.answer)
		if err != nil {
			c.fail(ErrLost)
			return
		}
		o.err = o.answer.err()
		c.deliver(id, o, r.Buffered() == 0)
	}
}

// deliver gives the answer to whom it belongs. Looking at the clock for the
// last frame of a batch is enough.
func (c *conn) deliver(id uint32, o outcome, last bool) {
	c.mu.Lock()
	a := c.asked[id]
	delete(c.asked, id)
	if a != nil {
		c.epoch = max(c.epoch, o.answer.epoch)
	}
	if last {
		c.heard = time.Now()
	}
	c.leaving = c.leaving || errors.Is(o.err, ErrTimeout)
	c.mu.Unlock()
	if a != nil {
		a.answer <- o
	}
}

// fail ends all questions with err, now and from now on.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.failure == nil {
		c.failure = ErrLost
	}
	lost := c.asked
	c.asked = nil
	c.mu.Unlock()
	for _, a := range lost {
		a.answer <- outcome{err: err}
	}
	// The reader sees the end of the file and finishes.
	_ = c.file.Close()
}

// lastEpoch is the latest epoch of a handle that the child gave.
func (c *conn) lastEpoch() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// alive reports whether questions may still be asked.
func (c *conn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure == nil && !c.leaving
}

// silence is for how long the child owes an answer without a sign of life.
func (c *conn) silence() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil || len(c.asked) == 0 {
		return 0
	}
	return time.Since(c.heard)
}
