package kastellantest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/rootkey"
)

// The environment of a server that is a process of its own.
const (
	configVariable = "KASTELLANTEST_CONFIG" // its configuration file
	secretVariable = "KASTELLANTEST_SECRET" // of Admin's access key
	deathVariable  = "KASTELLANTEST_DEATH"  // the fault point at which it kills itself
	pointsVariable = "KASTELLANTEST_POINTS" // the file to which it writes the fault points it passes
)

// DieAt goes into the environment of Launch: the server kills itself at that fault point.
func DieAt(point string) string { return deathVariable + "=" + point }

// LogPoints goes into the environment of Launch: the server adds the fault points it passes to the file, a line each.
func LogPoints(file string) string { return pointsVariable + "=" + file }

// ServeMain makes this process a server when Launch has started it; else it does nothing. TestMain calls it.
func ServeMain() {
	file := os.Getenv(configVariable)
	if file == "" {
		return
	}
	if err := serve(file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(file string) error {
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	death, points := os.Getenv(deathVariable), &pointLog{path: os.Getenv(pointsVariable)}
	fault := func(point string) {
		points.add(point)
		if point == death {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	node, err := cfg.Open(ctx, config.Options{
		KMS:     func(c *kms.Config) { c.Sweep, c.FaultPoint = 20*time.Millisecond, fault },
		Control: func(c *control.Config) { quicken(c); c.FaultPoint = fault },
	})
	if err != nil {
		cancel()
		return err
	}
	fmt.Fprintln(os.Stdout, "http://"+node.Addr())
	go func() { // the parent's end closes standard input
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		cancel()
	}()
	err = node.Serve(ctx)
	node.Close()
	return err
}

// pointLog writes down which fault points there are.
type pointLog struct {
	path string
	mu   sync.Mutex
}

func (l *pointLog) add(point string) {
	if l.path == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, point); err != nil {
		panic(err)
	}
}

// Process is a server that is a process of its own, with Admin as its only user.
type Process struct {
	Endpoint string

	cmd  *exec.Cmd
	dead chan struct{}
	stop func()
}

// Launch starts a server on a configuration file of ConfigurationFile, and waits until it answers. The caller ends it.
func Launch(t testing.TB, file string, env ...string) *Process {
	t.Helper()
	_, text := Credentials(Admin)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), append(env, configVariable+"="+file, secretVariable+"="+text)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{cmd: cmd, dead: make(chan struct{})}
	endpoint, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		t.Fatalf("the server did not start: %v", err)
	}
	p.Endpoint = strings.TrimSpace(endpoint)
	go func() { _ = cmd.Wait(); close(p.dead) }()
	p.stop = func() { _ = stdin.Close(); <-p.dead }
	return p
}

// Stop ends the server gracefully.
func (p *Process) Stop() { p.stop() }

// Kill sends the server SIGKILL; see Killed.
func (p *Process) Kill() error { return p.cmd.Process.Kill() }

// Dead is closed when the process has ended.
func (p *Process) Dead() <-chan struct{} { return p.dead }

// Killed tells that the process died by SIGKILL; it waits a while for it.
func (p *Process) Killed() bool {
	select {
	case <-p.dead:
		status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
		return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
	case <-time.After(30 * time.Second):
		return false
	}
}

// SDK is the configuration of Admin's clients. They do not retry.
func (p *Process) SDK() aws.Config {
	id, text := Credentials(Admin)
	return aws.Config{
		Region: Region, BaseEndpoint: aws.String(p.Endpoint),
		Credentials: credentials.NewStaticCredentialsProvider(id, text, ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// ConfigurationFile writes the configuration of a server that has Admin, and the settings that are given. Its directory is a
// temporary one, in which the server has its data too.
func ConfigurationFile(t testing.TB, settings string) (file string) {
	t.Helper()
	dir := t.TempDir()
	if err := rootkey.Generate(filepath.Join(dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	id, _ := Credentials(Admin)
	text := fmt.Sprintf(`listen: {address: "127.0.0.1:0"}
data-directory: data
quotas: {request-rates: off}
root-key: {file: root.key}
accounts:
  - id: "%s"
    users:
      - name: %s
        access-keys: [{id: %s, secret-env: %s}]
        policies: [{document: %q}]
log: {level: error}
%s`, Account, Admin, id, secretVariable, Everything, settings)
	file = filepath.Join(dir, "kastellan.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
