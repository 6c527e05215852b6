package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/audit/trail"
)

type auditTailCmd struct {
	Path   string `arg:"" optional:"" help:"The log: its directory, or a file of plain records." placeholder:"LOG" type:"path"`
	Config string `help:"The server's configuration file, which names the log." placeholder:"FILE" type:"path"`

	Lines  int  `short:"n" default:"10" help:"Show as many of the newest records that match; 0 for all of them."`
	Follow bool `short:"f" help:"Then wait for records, and show them as they come."`
	JSON   bool `name:"json" help:"Print the lines of the log as they are."`

	Event     []string `help:"Names of operations or events." placeholder:"NAME"`
	Principal string   `help:"Who called: an ARN, a user's or role's name, a principal id or an access key id."`
	Key       string   `help:"A key or an alias: an ARN, a key id or alias/NAME."`
	Error     string   `help:"An error code; \"any\" for every failure, \"none\" for every success." placeholder:"CODE"`
	Source    string   `help:"The address that the call came from." placeholder:"ADDRESS"`
	RequestID string   `help:"A request's id." placeholder:"ID"`
	Since     string   `help:"Not before this time: RFC 3339, a date, or how long ago, such as 90m." placeholder:"TIME"`
	Until     string   `help:"Before this time." placeholder:"TIME"`
}

// Run shows records until there are no more, or it is told to stop.
func (c *auditTailCmd) Run(ctx context.Context, term terminal) error {
	path, err := c.log()
	if err != nil {
		return err
	}
	options, err := c.options(time.Now())
	if err != nil {
		return err
	}
	show := func(_ []byte, r *audit.Record) error {
		_, err := io.WriteString(term.out, recordLine(r))
		return err
	}
	if c.JSON {
		show = func(line []byte, _ *audit.Record) error {
			_, err := term.out.Write(append(bytes.Clone(line), '\n'))
			return err
		}
	}
	err = trail.Tail(ctx, path, options, show)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// log is the directory or the file.
func (c *auditTailCmd) log() (string, error) {
	log := auditLog{Path: c.Path, Config: c.Config}
	cfg, err := log.config()
	if err != nil {
		return "", err
	}
	switch {
	case cfg == nil:
		return c.Path, nil
	case cfg.Audit.Directory == "" && cfg.Audit.File != "":
		return cfg.AuditFile(), nil
	default:
		return log.directory(cfg)
	}
}

func (c *auditTailCmd) options(now time.Time) (trail.TailOptions, error) {
	o := trail.TailOptions{Newest: c.Lines, Follow: c.Follow, Filter: trail.Filter{
		Events: c.Event, Principal: c.Principal, Key: c.Key, ErrorCode: c.Error, Source: c.Source, RequestID: c.RequestID,
	}}
	if c.Lines <= 0 {
		o.Newest = -1
	}
	var err error
	if o.Filter.Since, err = moment(c.Since, now); err != nil {
		return o, fmt.Errorf("--since: %w", err)
	}
	if o.Filter.Until, err = moment(c.Until, now); err != nil {
		return o, fmt.Errorf("--until: %w", err)
	}
	return o, nil
}

// moment reads a time as people write one; empty is the zero time.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: 2026-12-31T23:59:59Z, 2026-12-31 (in UTC), or 90m for a while ago", text)
}

// recordLine is a record for people: when, what, how it ended, who, with what, from where, and its id.
func recordLine(r *audit.Record) string {
	outcome := r.ErrorCode
	if outcome == "" {
		outcome = "ok"
	}
	from := r.SourceIPAddress
	if r.EventType == audit.ServiceEvent {
		from = "-"
	}
	return printable(fmt.Sprintf("%s  %-24s %-24s %-32s %s  %s  %s", r.EventTime.UTC().Format("2006-01-02T15:04:05.000Z"),
		r.EventName, outcome, whoOf(&r.UserIdentity), targetsOf(r), orDash(from), orDash(r.RequestID))) + "\n"
}

// whoOf is an account and the end of an ARN: "111122223333 user/alice".
func whoOf(u *audit.UserIdentity) string {
	if u.ARN == "" {
		return strings.TrimSpace(u.AccountID + " " + u.InvokedBy)
	}
	return u.AccountID + " " + u.ARN[strings.LastIndexByte(u.ARN, ':')+1:]
}

// targetsOf are the keys and aliases, without what comes before in their ARNs.
func targetsOf(r *audit.Record) string {
	var names []string
	for _, resource := range r.Resources {
		names = append(names, resource.ARN[strings.LastIndexByte(resource.ARN, ':')+1:])
	}
	if id, ok := r.AdditionalEventData["customKeyStoreId"].(string); ok {
		names = append(names, id)
	}
	return orDash(strings.Join(names, ","))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
