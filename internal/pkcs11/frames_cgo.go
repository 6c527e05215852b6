//go:build cgo && unix

package pkcs11

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// readBuffer holds many small frames, so that one read takes all that wait.
const readBuffer = 64 << 10

// readFrame reads a frame's body; it is the caller's to keep.
func readFrame(r *bufio.Reader) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return nil, errFrame
	}
	body := make([]byte, size)
	_, err := io.ReadFull(r, body)
	return body, err
}

// frameWriter sends frames from many goroutines. Whoever finds nobody writing
// writes all that has gathered, and never waits for the other side: what
// the socket does not take at once is left to a goroutine.
type frameWriter struct {
	file *os.File
	raw  syscall.RawConn

	mu      sync.Mutex
	out     []byte // gathered frames
	spare   []byte // the other buffer
	writing bool
	err     error

	// Of the one who writes.
	pending []byte
	failure error
}

func newFrameWriter(file *os.File) (*frameWriter, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &frameWriter{file: file, raw: raw}, nil
}

// send takes the frame over, or tells why the socket is broken.
func (w *frameWriter) send(id uint32, patience uint64, m *message) error {
	w.mu.Lock()
	if w.err != nil {
		w.mu.Unlock()
		return w.err
	}
	w.out = appendFrame(w.out, id, patience, m)
	if w.writing {
		w.mu.Unlock()
		return nil
	}
	w.writing = true
	w.mu.Unlock()
	// Whoever else is ready to run gets to add a frame first: under load
	// that saves most of the system calls, and at rest it costs nothing.
	runtime.Gosched()
	w.flush()
	return nil
}

// flush writes until nothing is left, or leaves the rest to a goroutine.
func (w *frameWriter) flush() {
	for w.gather() {
		if err := w.raw.Write(w.attempt); err != nil && w.failure == nil {
			w.failure = err
		}
		if w.failure == nil && len(w.pending) > 0 {
			go func() {
				_, w.failure = w.file.Write(w.pending)
				w.flush()
			}()
			return
		}
	}
}

// gather makes the gathered frames pending; false means that the caller is no
// longer the one who writes.
func (w *frameWriter) gather() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.spare) // what was written may be a PIN
	if cap(w.spare) > readBuffer {
		w.spare = nil
	}
	if w.failure != nil {
		w.err = w.failure
	}
	if w.err != nil || len(w.out) == 0 {
		w.writing = false
		return false
	}
	w.pending, w.out, w.spare = w.out, w.spare[:0], w.out
	return true
}

// attempt writes what the socket takes at once.
func (w *frameWriter) attempt(fd uintptr) bool {
	n, err := syscall.Write(int(fd), w.pending)
	if n > 0 {
		w.pending = w.pending[n:]
	}
	if err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR) {
		w.failure = err
	}
	return true
}

// drain waits until all frames are written, at most for the time given.
func (w *frameWriter) drain(wait time.Duration) {
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(time.Millisecond) {
		w.mu.Lock()
		done := !w.writing || w.err != nil
		w.mu.Unlock()
		if done {
			return
		}
	}
}
