package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kastellan.dev/internal/secret"
)

// openTerminals keeps all terminals open until the tests end: what reads a password that nobody types any
// more has the number of a file only, which must not become that of another.
var openTerminals sync.Map

// pseudoTerminal gives the two ends of a terminal: where somebody types, and
// where a program reads.
func pseudoTerminal(t *testing.T) (typist, program *os.File) {
	t.Helper()
	typist, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(int(typist.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(typist.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	openTerminals.Store(program, typist)
	return typist, program
}

// shows tells whether a terminal shows what is typed.
func shows(t *testing.T, f *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// typeHidden types a line once it is not shown.
func typeHidden(t *testing.T, typist, program *os.File, line string) {
	t.Helper()
	for shows(t, program) {
		time.Sleep(time.Millisecond)
	}
	if _, err := io.WriteString(typist, line); err != nil {
		t.Error(err)
	}
}

type answer struct {
	password secret.Text
	err      error
}

func ask(ctx context.Context, s passwordSource, program *os.File) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		password, err := s.read(ctx, terminal{in: program, out: io.Discard, err: io.Discard})
		answers <- answer{password, err}
	}()
	return answers
}

func TestATerminalDoesNotShowAPassword(t *testing.T) {
	t.Parallel()
	typist, program := pseudoTerminal(t)
	answers := ask(t.Context(), passwordSource{env: "KASTELLAN_TEST_UNSET", of: "admin"}, program)
	typeHidden(t, typist, program, "a:b c\n")
	if a := <-answers; a.err != nil || a.password.Reveal() != "a:b c" {
		t.Errorf("%v", a.err)
	}
	if !shows(t, program) {
		t.Error("the terminal still hides what is typed")
	}
	if _, err := io.WriteString(program, "that was all."); err != nil {
		t.Fatal(err)
	}
	var seen []byte
	for one := make([]byte, 64); !strings.HasSuffix(string(seen), "that was all."); {
		n, err := typist.Read(one)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, one[:n]...)
	}
	if strings.Contains(string(seen), "a:b") {
		t.Errorf("the terminal showed %q", seen)
	}
}

func TestANewPasswordIsAskedForTwice(t *testing.T) {
	t.Parallel()
	for again, want := range map[string]string{"password\n": "", "passwort\n": "not the same"} {
		typist, program := pseudoTerminal(t)
		answers := ask(t.Context(), passwordSource{env: "KASTELLAN_TEST_UNSET", of: "admin", fresh: true}, program)
		typeHidden(t, typist, program, "password\n"+again)
		switch a := <-answers; {
		case want == "" && (a.err != nil || a.password.Reveal() != "password"):
			t.Errorf("the same twice: %v", a.err)
		case want != "" && (a.err == nil || !strings.Contains(a.err.Error(), want)):
			t.Errorf("two that differ: %v", a.err)
		}
	}
}

func TestATerminalShowsAgainWhatIsTypedAfterAnInterruption(t *testing.T) {
	t.Parallel()
	typist, program := pseudoTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	answers := ask(ctx, passwordSource{env: "KASTELLAN_TEST_UNSET", of: "admin"}, program)
	typeHidden(t, typist, program, "half of a passw")
	cancel()
	if a := <-answers; !errors.Is(a.err, context.Canceled) {
		t.Errorf("%v", a.err)
	}
	if !shows(t, program) {
		t.Error("the terminal still hides what is typed")
	}
}
