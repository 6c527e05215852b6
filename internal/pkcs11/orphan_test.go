//go:build cgo && linux

package pkcs11_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
)

// The environment of a process that opens a token and waits to be killed.
const (
	parentURI = "KASTELLAN_TEST_PARENT_URI"
	parentEnv = "KASTELLAN_TEST_PARENT_ENV"
	parentPIN = "KASTELLAN_TEST_PARENT_PIN"
)

// actAsParent does that when the environment says so.
func actAsParent() {
	uri := os.Getenv(parentURI)
	if uri == "" {
		return
	}
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	u, err := pkcs11.ParseURI(uri)
	fail(err)
	ctx, pin := context.Background(), secret.NewText(os.Getenv(parentPIN))
	token, err := pkcs11.Open(ctx, pkcs11.Config{URI: u, Env: strings.Split(os.Getenv(parentEnv), "\n"), CallTimeout: testTime}, discard)
	fail(err)
	fail(token.Login(ctx, pin))
	fmt.Println("ready")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	fail(err)
	fail(token.SetPIN(ctx, pin, secret.NewText(os.Getenv(parentPIN)+"-changed")))
	fmt.Println("changed")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// parent is such a process and the child of it.
type parent struct {
	cmd   *exec.Cmd
	in    io.Writer
	out   *bufio.Reader
	child int
}

func startParent(t *testing.T, ref pkcs11test.TokenRef) *parent {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), parentURI+"="+ref.URI.String(), parentEnv+"="+strings.Join(ref.Env, "\n"), parentPIN+"="+ref.PIN)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &parent{cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the parent says %q, %v", line, err)
	}
	pid := cmd.Process.Pid
	var children string
	for _, task := range read(t, fmt.Sprintf("/proc/%d/task", pid)) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task))
		children += string(text)
	}
	if p.child, err = strconv.Atoi(strings.TrimSpace(children)); err != nil {
		t.Fatalf("the parent's children are %q", children)
	}
	return p
}

func read(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// gone tells whether no such process runs any more.
func gone(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(status, []byte(") Z "))
}

func TestChildEndsWithItsParent(t *testing.T) {
	t.Parallel()
	p := startParent(t, pkcs11test.NewTokens(t, 1)[0])
	if gone(p.child) {
		t.Fatal("there is no child")
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the child to end", func() bool { return gone(p.child) })
}

func TestChildKeepsNothingOfItsParent(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	ref.PIN = "1234"
	p := startParent(t, ref)
	for _, file := range []string{"environ", "cmdline"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.child, file))
		if errors.Is(err, fs.ErrPermission) {
			continue // the child's memory is private
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(parentPIN)) || bytes.Contains(text, []byte("PWD=")) {
			t.Errorf("the child's %s holds %q", file, text)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.child))
	if err != nil || !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("the child may leave a core dump: %s, %v", limits, err)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.child))
	if errors.Is(err, fs.ErrPermission) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.child, fd.Name()))
		if err == nil && strings.HasSuffix(to, ".db") {
			t.Errorf("the child has %s open", to)
		}
	}
}

// Nobody is left to kill a child whose module does not let go.
func TestChildEndsWithItsParentEvenIfTheModuleHangs(t *testing.T) {
	t.Parallel()
	children := map[string]int{}
	for _, fault := range []string{"C_SetPIN hang", "C_CloseSession hang", "C_Finalize hang"} {
		faults := pkcs11test.NewFaults(t)
		p := startParent(t, faults.Break(t, pkcs11test.NewTokens(t, 1)[0]))
		children[fault] = p.child
		faults.Set(t, fault)
		if _, err := io.WriteString(p.in, "go\n"); err != nil {
			t.Fatal(err)
		}
		polltest.Until(t, "the PIN to be changing", func() bool { return faults.Calls(t, "C_SetPIN") == 1 })
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for fault, pid := range children {
		polltest.Until(t, "the child to end with "+fault, func() bool { return gone(pid) })
	}
}

// SoftHSM2 writes a token in place, so that a process that is killed at the
// wrong moment leaves none: the child has to finish its call.
func TestChildFinishesWhatItIsDoingWhenItsParentDies(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	plain := pkcs11test.NewTokens(t, 1)[0]
	p := startParent(t, faults.Break(t, plain))
	faults.Set(t, "C_SetPIN delay=300")
	if _, err := io.WriteString(p.in, "go\n"); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the PIN to be changing", func() bool { return faults.Hits(t, "C_SetPIN") == 1 })
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the child to end", func() bool { return gone(p.child) })
	plain.PIN += "-changed"
	openLoggedIn(t, plain, plain.Config())
}
