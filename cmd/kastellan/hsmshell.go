package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
)

type hsmShellCmd struct {
	hsmLoginFlags
}

// Run logs in and does what it is told line by line. At a terminal it goes on after an
// error; otherwise the first one ends it.
func (c *hsmShellCmd) Run(ctx context.Context, term terminal) error {
	return c.as(ctx, term, func(s *hsmSession, password secret.Text) error {
		err := (&hsmShell{session: s, term: term, own: password}).run(ctx)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
}

// hsmShell is a conversation in a session.
type hsmShell struct {
	session *hsmSession
	term    terminal
	own     secret.Text // the password of the user that is logged in
}

// shellCommand is something that a shell can be told. Its words are followed by
// arguments, of which there are as many as args has words.
type shellCommand struct {
	words, args, help string
	run               func(ctx context.Context, s *hsmShell, args []string) error
}

// errQuit ends a shell.
var errQuit = errors.New("quit")

// shellCommands gives all commands. Passwords are asked for: at a terminal
// without showing them, else they are the next line.
func shellCommands() []shellCommand {
	return []shellCommand{
		{"help", "", "show this", func(_ context.Context, s *hsmShell, _ []string) error { return s.help() }},
		{"whoami", "", "show who is logged in, and until when", func(_ context.Context, s *hsmShell, _ []string) error { return s.whoami() }},
		{"keys list", "", "list the keys", func(ctx context.Context, s *hsmShell, _ []string) error {
			return s.session.listKeys(ctx, s.term.out, false)
		}},
		{"user list", "", "list the users", func(ctx context.Context, s *hsmShell, _ []string) error {
			return s.session.listUsers(ctx, s.term.out, false)
		}},
		{"user create", "NAME ROLE", "make a user; asks for the password", func(ctx context.Context, s *hsmShell, args []string) error {
			return s.createUser(ctx, userOf(args))
		}},
		{"user delete", "NAME ROLE", "delete a user", func(ctx context.Context, s *hsmShell, args []string) error {
			return s.session.deleteUser(ctx, s.term.out, userOf(args))
		}},
		{"user change-password", "NAME ROLE", "give a user another password, asking for it", func(ctx context.Context, s *hsmShell, args []string) error {
			return s.changePassword(ctx, userOf(args))
		}},
		{"user unlock", "NAME ROLE", "unlock a user", func(ctx context.Context, s *hsmShell, args []string) error {
			return s.session.unlockUser(ctx, s.term.out, userOf(args))
		}},
		{"quit", "", "log out", func(context.Context, *hsmShell, []string) error { return errQuit }},
		{"exit", "", "log out", func(context.Context, *hsmShell, []string) error { return errQuit }},
	}
}

func userOf(args []string) hsmUserArgs {
	return hsmUserArgs{Name: args[0], Role: cloudhsmapi.UserRole(args[1])}
}

func (s *hsmShell) run(ctx context.Context) error {
	attended := s.term.answers()
	if attended {
		fmt.Fprintln(s.term.err, "`help` lists the commands")
	}
	for {
		if attended {
			fmt.Fprintf(s.term.err, "%s@%s> ", s.session.user, s.session.cluster)
		}
		line, err := s.term.line(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch err := s.do(ctx, strings.Fields(line)); {
		case err == nil:
		case errors.Is(err, errQuit):
			return nil
		case !attended, ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		default:
			complain(s.term.err, err)
		}
	}
}

// do runs one command.
func (s *hsmShell) do(ctx context.Context, words []string) error {
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return nil
	}
	for _, c := range shellCommands() {
		name := strings.Fields(c.words)
		if len(words) < len(name) || strings.Join(words[:len(name)], " ") != c.words {
			continue
		}
		args := words[len(name):]
		if len(args) != len(strings.Fields(c.args)) {
			return fmt.Errorf("usage: %s", strings.TrimSpace(c.words+" "+c.args))
		}
		return c.run(ctx, s, args)
	}
	return withHint(errors.New("there is no such command"), "`help` lists the commands")
}

func (s *hsmShell) help() error {
	table := tabwriter.NewWriter(s.term.out, 0, 0, 2, ' ', 0)
	for _, c := range shellCommands() {
		fmt.Fprintf(table, "%s\t%s\n", strings.TrimSpace(c.words+" "+c.args), c.help)
	}
	return table.Flush()
}

func (s *hsmShell) whoami() error {
	_, err := fmt.Fprintf(s.term.out, "%s %s at %s, until %s at the latest\n",
		s.session.role, s.session.user, s.session.cluster, s.session.expires.UTC().Format(time.RFC3339))
	return err
}

func (s *hsmShell) createUser(ctx context.Context, a hsmUserArgs) error {
	password, err := s.newPassword(ctx, a.Name)
	if err != nil {
		return err
	}
	return s.session.createUser(ctx, s.term.out, a, password)
}

func (s *hsmShell) changePassword(ctx context.Context, a hsmUserArgs) error {
	var old secret.Text
	own := a == hsmUserArgs{Name: s.session.user, Role: s.session.role}
	if own {
		old = s.own
	}
	password, err := s.newPassword(ctx, a.Name)
	if err != nil {
		return err
	}
	if err := s.session.changePassword(ctx, s.term.out, a, old, password); err != nil || !own {
		return err
	}
	if _, err := fmt.Fprintln(s.term.err, "that has ended the session: log in with the new password"); err != nil {
		return err
	}
	return errQuit
}

// newPassword asks for one, or takes the next line.
func (s *hsmShell) newPassword(ctx context.Context, user string) (secret.Text, error) {
	if s.term.answers() {
		return passwordSource{of: user, fresh: true}.ask(ctx, s.term)
	}
	line, err := s.term.line(ctx)
	if errors.Is(err, io.EOF) {
		err = withHint(errors.New("no password follows"), "without a terminal the password is the next line")
	}
	return secret.NewText(line), err
}
