package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
)

type hsmKeysCmd struct {
	List hsmKeysListCmd `cmd:"" help:"List the keys, and the HSMs that have them."`
}

// hsmLoginFlags say which cluster and which user.
type hsmLoginFlags struct {
	hsmFlags
	User         string               `required:"" help:"The user to log in as." placeholder:"NAME"`
	Role         cloudhsmapi.UserRole `enum:",crypto-user,admin" default:"" help:"The user's role, crypto-user or admin; needed where two users have the name." placeholder:"ROLE"`
	PasswordFile string               `help:"The file of its password; without it, the variable KASTELLAN_HSM_PASSWORD, or it is asked for." placeholder:"FILE" type:"existingfile"`
}

// as runs fn in a session of the user.
func (f hsmLoginFlags) as(ctx context.Context, term terminal, fn func(*hsmSession, secret.Text) error) error {
	source := passwordSource{file: f.PasswordFile, env: hsmPasswordEnv, flag: "--password-file", of: f.User}
	return f.within(ctx, term, f.User, f.Role, source, fn)
}

type hsmKeysListCmd struct {
	hsmLoginFlags
	JSON bool `name:"json" help:"Print the server's answer as JSON."`
}

// Run lists the keys.
func (c *hsmKeysListCmd) Run(ctx context.Context, term terminal) error {
	return c.as(ctx, term, func(s *hsmSession, _ secret.Text) error { return s.listKeys(ctx, term.out, c.JSON) })
}

func (s *hsmSession) listKeys(ctx context.Context, w io.Writer, asJSON bool) error {
	answer, err := hsmCall[cloudhsmapi.ListKeysResponse](ctx, s.client, "ListKeys", cloudhsmapi.ListKeysRequest{SessionID: s.id})
	if err != nil {
		return fmt.Errorf("listing the keys of %s: %w", s.cluster, err)
	}
	if asJSON {
		return writeJSON(w, answer)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LABEL\tID\tTYPE\tBITS\tEXTRACTABLE\tHSMS")
	for _, k := range answer.Keys {
		bits := ""
		if k.KeyLength != nil {
			bits = fmt.Sprint(*k.KeyLength * 8)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(k.Label), printable(k.ID), printable(k.KeyType), bits, yesNo(k.Extractable), printable(strings.Join(k.Hsms, " ")))
	}
	return table.Flush()
}

// yesNo is what people read of something that may be unknown.
func yesNo(b *bool) string {
	switch {
	case b == nil:
		return ""
	case *b:
		return "yes"
	default:
		return "no"
	}
}
