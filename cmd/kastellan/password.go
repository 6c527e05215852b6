package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"kastellan.dev/internal/secret"
)

// The variables of passwords: of who logs in, and of who gets another one.
const (
	hsmPasswordEnv    = "KASTELLAN_HSM_PASSWORD"
	hsmNewPasswordEnv = "KASTELLAN_HSM_NEW_PASSWORD"
)

// passwordSource says where a password comes from: a file, a variable or whoever sits at
// the terminal. No flag holds one, since other processes can read the command line.
type passwordSource struct {
	file  string // may be empty
	env   string
	flag  string // that names the file
	of    string // whose it is
	fresh bool   // it is made up now, so that it is asked for twice
}

// read gives the password.
func (s passwordSource) read(ctx context.Context, t terminal) (secret.Text, error) {
	if s.file != "" {
		text, err := os.ReadFile(s.file)
		if err != nil {
			return secret.Text{}, fmt.Errorf("reading the password of %s: %w", s.of, err)
		}
		return s.given(strings.TrimRight(string(text), "\r\n"), s.file+" is empty")
	}
	if value, ok := os.LookupEnv(s.env); ok {
		return s.given(value, s.env+" is empty")
	}
	if !t.answers() {
		return secret.Text{}, s.missing("there is no terminal to ask at")
	}
	return s.ask(ctx, t)
}

func (s passwordSource) given(value, empty string) (secret.Text, error) {
	if value == "" {
		return secret.Text{}, s.missing(empty)
	}
	return secret.NewText(value), nil
}

func (s passwordSource) missing(why string) error {
	return withHint(fmt.Errorf("no password of %s: %s", s.of, why), "give %s, or set %s", s.flag, s.env)
}

func (s passwordSource) ask(ctx context.Context, t terminal) (secret.Text, error) {
	kind := "Password"
	if s.fresh {
		kind = "New password"
	}
	password, err := t.password(ctx, fmt.Sprintf("%s of %s: ", kind, s.of))
	if err != nil || !s.fresh {
		return password, err
	}
	again, err := t.password(ctx, "The same again: ")
	if err == nil && !again.Equal(password) {
		err = errors.New("the two passwords are not the same")
	}
	return password, err
}

// answers tells whether somebody sits at the terminal.
func (t terminal) answers() bool {
	_, ok := t.keyboard()
	return ok
}

// keyboard is the file descriptor of what is typed on.
func (t terminal) keyboard() (fd int, ok bool) {
	file, ok := t.in.(*os.File)
	if !ok {
		return 0, false
	}
	fd = int(file.Fd())
	return fd, term.IsTerminal(fd)
}

// password asks without showing what is typed. When ctx is done, the terminal shows again what is typed.
func (t terminal) password(ctx context.Context, prompt string) (secret.Text, error) {
	fd, _ := t.keyboard()
	before, err := term.GetState(fd)
	if err != nil {
		return secret.Text{}, fmt.Errorf("looking at the terminal: %w", err)
	}
	fmt.Fprint(t.err, prompt)
	typed, err := orDone(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(t.err)
	if ctx.Err() != nil {
		_ = term.Restore(fd, before)
	}
	if err != nil {
		return secret.Text{}, fmt.Errorf("asking for a password: %w", err)
	}
	return secret.NewText(string(typed)), nil
}

// line reads a line, without its end. It takes no byte more than that: a password may come
// next, which is read in another way. The error is io.EOF when there is none.
func (t terminal) line(ctx context.Context) (string, error) {
	return orDone(ctx, func() (string, error) {
		var line []byte
		for one := make([]byte, 1); ; {
			n, err := t.in.Read(one)
			switch {
			case n == 1 && one[0] == '\n':
				return strings.TrimSuffix(string(line), "\r"), nil
			case n == 1:
				line = append(line, one[0])
			}
			if errors.Is(err, io.EOF) && len(line) > 0 {
				return string(line), nil
			}
			if err != nil {
				return "", err
			}
		}
	})
}

// orDone waits for what reads a terminal, which nothing can interrupt, but not longer than
// ctx; the program ends soon after that.
func orDone[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	results := make(chan result, 1)
	go func() {
		value, err := read()
		results <- result{value, err}
	}()
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
