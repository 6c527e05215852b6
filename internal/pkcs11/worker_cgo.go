//go:build cgo && unix

package pkcs11

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kastellan.dev/internal/secret"
)

// Exit statuses of a child.
const (
	exitOK         = 0
	exitProtocol   = 70 // the parent wrote what cannot be understood
	exitHang       = 75 // a call took too long
	exitDeviceLoss = 76 // the token is gone; a fresh module may find it again
	exitOrphan     = 77 // the parent has gone, and the module did not finish
)

// WorkerMain makes this process serve a module if it was started for that
// (see WorkerEnv), and does not return then; otherwise it returns at once. Call it first thing
// in main, and in TestMain of every test package that opens tokens.
func WorkerMain() {
	if os.Getenv(WorkerEnv) == "" {
		return
	}
	// Whatever the module starts is not such a child.
	_ = os.Unsetenv(WorkerEnv)
	if err := secret.GuardMemory(); err != nil { // it will hold the PIN
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitProtocol)
	}
	// The parent decides when the child ends, not whoever signals the group;
	// and a module may write to standard error after the parent has gone.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	if err := syscall.SetNonblock(socketFD, true); err != nil {
		fmt.Fprintln(os.Stderr, "this process is a part of kastellan and is not started by hand")
		os.Exit(exitProtocol)
	}
	syscall.CloseOnExec(socketFD)
	file := os.NewFile(socketFD, "parent")
	writer, err := newFrameWriter(file)
	if err != nil {
		os.Exit(exitProtocol)
	}
	w := &worker{writer: writer}
	os.Exit(w.serve(bufio.NewReaderSize(file, readBuffer)))
}

// worker is the child's side of the socket.
type worker struct {
	writer  *frameWriter
	engine  atomic.Pointer[engine]
	bare    atomic.Pointer[module] // of a worker that serves no token
	ending  bool                   // the parent has asked for the end; of who serves
	tasks   sync.WaitGroup         // that call the module without an engine
	closing sync.Once
	closed  error
}

// serve reads questions until the parent closes the socket or dies. The
// module is never called from here, so that this end is always noticed.
func (w *worker) serve(r *bufio.Reader) int {
	for {
		body, err := readFrame(r)
		if err != nil {
			w.orphaned()
			return exitOK
		}
		j := &job{queued: time.Now()}
		id, patience, err := parseFrame(body, &j.question)
		if err != nil {
			return exitProtocol
		}
		if patience > 0 {
			j.deadline = j.queued.Add(time.Duration(patience) * time.Millisecond)
		}
		j.answer = func(answer message, err error) { w.reply(id, answer, err) }
		if !w.dispatch(j) {
			return exitProtocol
		}
	}
}

// dispatch hands the job on; false means that the question is none.
func (w *worker) dispatch(j *job) bool {
	if w.ending {
		j.finish(message{}, ErrLost)
		return true
	}
	switch j.question.code {
	case opStart:
		w.tasks.Go(func() { j.finish(message{}, w.start(&j.question)) })
	case opInitToken, opReinitToken:
		w.tasks.Go(func() { j.finish(w.initToken(&j.question)) })
	case opSurvey:
		w.tasks.Go(func() { j.finish(w.survey()) })
	case opClose:
		w.ending = true
		go func() {
			j.finish(message{}, w.close())
			w.exit(exitOK)
		}()
	default:
		e := w.engine.Load()
		if e == nil || j.question.code >= opCount || operations[j.question.code].run == nil {
			return false
		}
		e.submit(j)
	}
	return true
}

func (w *worker) reply(id uint32, answer message, err error) {
	if err == nil && !answer.fits() {
		err = fmt.Errorf("pkcs11: an answer is larger than %d bytes", maxFrame)
	}
	if err != nil {
		answer = errorMessage(err)
	}
	// A broken socket is noticed by the reader.
	_ = w.writer.send(id, 0, &answer)
}

// start loads the module and finds the token unless the parent wants none.
func (w *worker) start(m *message) error {
	u, err := ParseURI(string(m.blob(0)))
	if err != nil {
		return err
	}
	var bare bool
	if spread(m.number(0), &bare); bare {
		module, err := acquireModule(u.ModulePath)
		w.bare.Store(module)
		return err
	}
	e, err := startEngine(u, settings{
		timeout:  time.Duration(m.number(1)),
		sessions: int(m.number(2)),
		queue:    int(m.number(3)),
		iv:       IVSource(m.blob(1)),
	}, uint32(m.number(4)))
	if err != nil {
		return err
	}
	e.onHang = func() { w.exit(exitHang) }
	e.onDeviceLoss = func() { w.exit(exitDeviceLoss) }
	go e.watch(func() { _ = w.writer.send(beatID, 0, &message{}) })
	w.engine.Store(e)
	return nil
}

func (w *worker) initToken(m *message) (message, error) {
	module := w.bare.Load()
	if module == nil {
		return message{}, ErrModule
	}
	defer m.wipe()
	if m.code == opReinitToken {
		return module.reinitToken(m)
	}
	return module.initToken(m)
}

// orphaned lets the module finish the calls that it is in, and no others: a
// token that is left in the middle of a write may be damaged for good.
// SoftHSM2 writes its files in place, and loses a token whose PIN was about to change.
func (w *worker) orphaned() {
	time.AfterFunc(orphanWait, func() { os.Exit(exitOrphan) })
	if e := w.engine.Load(); e != nil {
		e.orphaned.Store(true)
	}
	_ = w.close() // nobody is left to be told
}

// orphanWait is how long a child may outlive its parent, whatever its module does.
const orphanWait = 2 * closeWait

func (w *worker) close() error {
	w.closing.Do(func() {
		w.tasks.Wait()
		if e := w.engine.Load(); e != nil {
			w.closed = e.close(closeWait)
		} else if m := w.bare.Load(); m != nil {
			w.closed = m.release()
		}
	})
	return w.closed
}

// exit ends the process after what was answered has reached the parent.
func (w *worker) exit(status int) {
	w.writer.drain(time.Second)
	os.Exit(status)
}
