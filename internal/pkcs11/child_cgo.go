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
}

// socketFD is the child's end of the socket.
const socketFD = 3

// spawn starts a child; nothing has been asked of it yet.
func spawn(env []string, limit int, log *slog.Logger) (*child, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, fmt.Errorf("making a socket pair: %w", err)
	}
	defer theirs.Close()
	cmd := exec.Command(executable())
	cmd.Args = []string{"kastellan-pkcs11"}
	cmd.Env = childEnv(env)
	cmd.ExtraFiles = []*os.File{theirs}
	// A group of its own: an interrupt at the terminal ends the service,
	// which then ends its children in order; and whatever the module starts dies with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("starting the module's process: %w", err)
	}
	log = log.With("pid", cmd.Process.Pid)
	c := &child{cmd: cmd, started: time.Now(), exited: make(chan struct{}), log: log}
	go c.wait(stderr)
	if c.conn, err = newConn(ours, limit); err != nil {
		ours.Close()
		c.signal()
		return nil, err
	}
	return c, nil
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
var inherited = []string{"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LD_LIBRARY_PATH", "GODEBUG"}

func childEnv(extra []string) []string {
	// Goroutine traces of a crash would flood the log.
	env := []string{WorkerEnv + "=1", "GOTRACEBACK=none"}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, extra...)
}

// stderrLines bounds how much of a child's standard error is logged.
const stderrLines = 20

// wait logs what the process says on standard error and how it ends.
func (c *child) wait(stderr io.Reader) {
	defer close(c.exited)
	r := bufio.NewReaderSize(stderr, 1024)
	for logged := 0; ; {
		line, partial, err := r.ReadLine()
		if err != nil {
			break
		}
		if text := strings.TrimSpace(string(line)); text != "" && !partial && logged < stderrLines {
			c.log.Warn("The module's process says", "line", text)
			logged++
		}
	}
	if err := c.cmd.Wait(); err != nil {
		c.log.Warn("The module's process ended", "status", err.Error())
	}
}

// signal kills the process and what it started.
func (c *child) signal() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }

// kill ends the process now; questions under way fail with err.
func (c *child) kill(err error) {
	c.signal()
	c.fail(err)
}

// start makes the child load the module and find its token.
func (c *child) start(cfg Config, bare bool) error {
	s := cfg.settings()
	limit := startPatience * s.timeout
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := c.ask(ctx, &message{
		code:    opStart,
		numbers: []uint64{bits(bare), uint64(s.timeout), uint64(s.sessions), uint64(s.queue)},
		blobs:   [][]byte{[]byte(cfg.URI.String()), []byte(s.iv)},
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: loading it takes longer than %v: %w", ErrModule, limit, ErrTimeout)
	case errors.Is(err, ErrLost):
		return fmt.Errorf("%w: it ended its process", ErrModule)
	}
	return err
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
	case <-ctx.Done():
	}
	c.kill(ErrLost)
	<-c.exited
}

// guard kills the child when it owes answers and shows no sign of life. That
// is for a process that is stopped or stuck as a whole; of a hanging
// module it tells by itself.
func (c *child) guard(limit time.Duration) {
	ticker := time.NewTicker(max(limit/8, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-c.finished:
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
