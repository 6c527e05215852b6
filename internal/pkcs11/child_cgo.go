//go:build cgo && unix

package pkcs11

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a running child process and the socket to it.
type child struct {
	*conn
	cmd     *exec.Cmd
	started time.Time
	exited  chan struct{} // closed when the process has been waited for
	log     *slog.Logger

	mu     sync.Mutex
	buried bool // the process has been waited for, and its number may be another one's
}

// socketFD is the child's end of the socket.
const socketFD = 3

// errNoWorker: without WorkerMain a child would do what its parent does, and
// start children.
var errNoWorker = errors.New("this process was started as a child, and did not call WorkerMain")

// spawn starts a child; nothing has been asked of it yet.
func spawn(cfg Config, limit int, log *slog.Logger) (*child, error) {
	if os.Getenv(WorkerEnv) != "" {
		return nil, errNoWorker
	}
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, fmt.Errorf("making a socket pair: %w", err)
	}
	defer theirs.Close()
	c := &child{cmd: exec.Command(executable()), started: time.Now(), exited: make(chan struct{}), log: log}
	if c.conn, err = newConn(ours, limit); err != nil {
		ours.Close()
		return nil, err
	}
	// For people who look at a list of processes.
	c.cmd.Args = []string{"kastellan-pkcs11", cfg.URI.String()}
	c.cmd.Env = childEnv(cfg.Env)
	c.cmd.ExtraFiles = []*os.File{theirs}
	// A group of its own: an interrupt at the terminal ends the service,
	// which then ends its children in order; and whatever the module starts dies with it.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.run(); err != nil {
		c.fail(ErrLost)
		return nil, fmt.Errorf("starting the module's process: %w", err)
	}
	return c, nil
}

// run starts the process, and what waits for its end.
func (c *child) run() error {
	stderr, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	c.cmd.Stderr = theirs
	if err := c.cmd.Start(); err != nil {
		stderr.Close()
		return err
	}
	c.log = c.log.With("pid", c.cmd.Process.Pid)
	go c.wait(stderr)
	return nil
}

// executable is this very program: through /proc even after the file has been
// replaced by another version, which might speak another protocol.
func executable() string {
	const self = "/proc/self/exe"
	if runtime.GOOS == "linux" {
		if _, err := os.Stat(self); err == nil {
			return self
		}
	}
	path, err := os.Executable()
	if err != nil {
		return self
	}
	return path
}

func socketpair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, syscall.Close(fds[0]), syscall.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "module"), os.NewFile(uintptr(fds[1]), "module"), nil
}

// inherited are the environment variables that a child gets from us. Whatever
// else is in our environment may be a secret.
var inherited = []string{"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LD_LIBRARY_PATH", "GODEBUG", "GORACE"}

func childEnv(extra []string) []string {
	// Goroutine traces of a crash would flood the log.
	env := []string{"GOTRACEBACK=none"}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(append(env, extra...), WorkerEnv+"=1")
}

// stderrLines bounds how much of a child's standard error is logged.
const stderrLines = 20

// lastWords is how long what an ended process has written is waited for.
const lastWords = time.Second

// wait sees the process off. What it wrote before its end is still read, but
// others who hold its socket or its standard error are not waited for.
func (c *child) wait(stderr *os.File) {
	defer close(c.exited)
	defer stderr.Close()
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		c.logLines(stderr)
	}()
	err := c.cmd.Wait()
	c.bury()
	select {
	case <-c.finished:
	case <-time.After(lastWords):
		c.fail(ErrLost)
	}
	_ = stderr.SetReadDeadline(time.Now().Add(lastWords))
	<-logged
	if err != nil {
		c.log.Warn("The module's process ended", "status", err.Error())
	}
}

func (c *child) logLines(stderr io.Reader) {
	r := bufio.NewReaderSize(stderr, 1024)
	for logged := 0; ; {
		line, partial, err := r.ReadLine()
		if err != nil {
			return
		}
		if text := strings.TrimSpace(string(line)); text != "" && !partial && logged < stderrLines {
			c.log.Warn("The module's process says", "line", text)
			logged++
		}
	}
}

// bury ends what the process started and left behind. Right after its end its
// number cannot have been given away; later no signal is sent any more.
func (c *child) bury() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	c.buried = true
}

// signal kills the process and what it started.
func (c *child) signal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.buried {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// kill ends the process now; questions under way fail with err.
func (c *child) kill(err error) {
	c.signal()
	c.fail(err)
}

// start makes the child load the module and find its token.
func (c *child) start(ctx context.Context, cfg Config, bare bool, epoch uint32) error {
	s := cfg.settings()
	limit := startPatience * s.timeout
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := c.ask(limited, &message{
		code:    opStart,
		numbers: []uint64{bits(bare), uint64(s.timeout), uint64(s.sessions), uint64(s.queue), uint64(epoch)},
		blobs:   [][]byte{[]byte(cfg.URI.String()), []byte(s.iv)},
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return waitError(ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return errSlowStart(limit)
	case errors.Is(err, ErrLost):
		return fmt.Errorf("%w: it ended its process", ErrModule)
	}
	return err
}

func errSlowStart(limit time.Duration) error {
	return fmt.Errorf("%w: loading it takes longer than %v: %w", ErrModule, limit, ErrTimeout)
}

// startPatience is how many times Config.CallTimeout loading may take.
const startPatience = 4

// closeWait is how long a module has for its running calls and C_Finalize.
const closeWait = 2 * time.Second

// stop lets the child finalize the module, and kills it if that takes long.
func (c *child) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait+closeWait/2)
	defer cancel()
	if _, err := c.ask(ctx, &message{code: opClose}); err != nil && !errors.Is(err, ErrLost) {
		c.log.Warn("The module does not close in order", "error", err)
	}
	select {
	case <-c.exited:
		return
	case <-ctx.Done():
	}
	c.kill(ErrLost)
	select {
	case <-c.exited:
	case <-time.After(closeWait):
		c.log.Error("The module's process does not end even when killed")
	}
}

// guard kills the child when it owes answers and shows no sign of life. That
// is for a process that is stopped or stuck as a whole; of a hanging
// module it tells by itself. It also sees to it that no process outlives its socket for long.
func (c *child) guard(limit time.Duration) {
	ticker := time.NewTicker(max(limit/8, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-c.finished:
			c.reap()
			return
		case <-ticker.C:
		}
		if c.silence() > limit {
			c.log.Error("The module's process shows no sign of life and is replaced")
			c.kill(ErrTimeout)
			return
		}
	}
}

// reap kills a process that does not end although its socket has: it wrote
// what cannot be understood.
func (c *child) reap() {
	timer := time.NewTimer(orphanWait)
	defer timer.Stop()
	select {
	case <-c.exited:
	case <-timer.C:
		c.signal()
	}
}
