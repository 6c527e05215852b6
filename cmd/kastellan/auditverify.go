package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"kastellan.dev/internal/audit/trail"
	"kastellan.dev/internal/config"
)

type auditVerifyCmd struct {
	auditLog
	PublicKey  []string `help:"What \"kastellan audit public-key\" has printed, or a file with it; may be given several times. With --config it is known." placeholder:"KEY"`
	Checkpoint []string `help:"A copy of the log's file \"checkpoint\" that was kept elsewhere: the log must go as far, at least; may be given several times." placeholder:"FILE" type:"existingfile"`
	JSON       bool     `name:"json" help:"Print the report as JSON."`
}

// Run verifies the log and prints what was found.
func (c *auditVerifyCmd) Run(term terminal) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	dir, err := c.directory(cfg)
	if err != nil {
		return err
	}
	options, err := c.options(cfg)
	if err != nil {
		return err
	}
	report, err := trail.Verify(os.DirFS(dir), options)
	if err != nil {
		return fmt.Errorf("verifying %s: %w", dir, err)
	}
	render := renderReport
	if c.JSON {
		render = renderReportJSON
	}
	if err := render(term.out, report); err != nil {
		return err
	}
	if c.trustsConfigAlone(report) {
		fmt.Fprintln(term.err, "the key is the one that the configuration has now: whether the log was begun anew with a new key, only a --public-key or --checkpoint that was kept elsewhere can tell")
	}
	if !report.OK() {
		return exitStatus(statusFailed)
	}
	return nil
}

// trustsConfigAlone tells whether nothing that was kept elsewhere vouches for the log: then one in an
// emptied directory, signed with a key that was made since, is as good.
func (c *auditVerifyCmd) trustsConfigAlone(r *trail.Report) bool {
	return len(c.PublicKey) == 0 && len(c.Checkpoint) == 0 && !r.KeysFromLog
}

func (c *auditVerifyCmd) options(cfg *config.Config) (o trail.VerifyOptions, err error) {
	for _, key := range c.PublicKey {
		text, err := os.ReadFile(key)
		if err != nil {
			text = []byte(key)
		}
		keys := strings.Fields(string(text))
		if len(keys) == 0 { // without a key, the log itself would be believed
			return o, errors.New("--public-key is empty, or names an empty file")
		}
		o.Keys = append(o.Keys, keys...)
	}
	if cfg != nil && len(o.Keys) == 0 {
		key, err := cfg.AuditPublicKey()
		if err != nil {
			return o, err
		}
		o.Keys = []string{key}
	}
	for _, file := range c.Checkpoint {
		text, err := os.ReadFile(file)
		if err != nil {
			return o, err
		}
		o.Checkpoints = append(o.Checkpoints, string(text))
	}
	return o, nil
}

func renderReportJSON(w io.Writer, r *trail.Report) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		OK bool `json:"ok"`
		*trail.Report
	}{r.OK(), r})
}

func renderReport(w io.Writer, r *trail.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "trail     %s\n", printable(r.Trail))
	fmt.Fprintf(&b, "holds     %d records in %d segments, entries %d to %d\n", r.Records, r.Segments, r.First, r.Last)
	if r.SignedThrough > 0 {
		fmt.Fprintf(&b, "signed    through entry %d, at %s\n", r.SignedThrough, r.SignedAt.Format(time.RFC3339))
	}
	for _, key := range r.Keys {
		fmt.Fprintf(&b, "key       %s\n", printable(key))
	}
	if r.KeysFromLog {
		b.WriteString("          that is what the log itself says: give --public-key or --config to be sure\n")
	}
	for _, f := range r.Notices {
		fmt.Fprintf(&b, "note      %s\n", printable(f.String()))
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "WRONG     %s\n", printable(f.String()))
	}
	switch {
	case r.More:
		b.WriteString("there is more; the log is not as it was written\n")
	case !r.OK():
		b.WriteString("the log is not as it was written\n")
	default:
		b.WriteString("the log is as it was written\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
