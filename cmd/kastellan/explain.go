package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/kmsclient"
)

type keyStoreCmd struct {
	Explain explainCmd `cmd:"" help:"Show the last attempt to connect a custom key store, step by step. The exit status is 1 if the store is FAILED."`
}

type explainCmd struct {
	clientFlags
	ID   string `arg:"" help:"The key store's id, cks-…"`
	JSON bool   `name:"json" help:"Print the server's answer as JSON."`
}

// Run asks the server and renders what it says.
func (c *explainCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var answer kmsapi.ExplainCustomKeyStoreResponse
	in := map[string]any{"CustomKeyStoreId": c.ID}
	if err := client.Call(ctx, kmsclient.Kastellan+"ExplainCustomKeyStore", in, &answer); err != nil {
		return fmt.Errorf("asking about %s: %w", c.ID, err)
	}
	render := renderExplanation
	if c.JSON {
		render = renderExplanationJSON
	}
	if err := render(term.out, &answer); err != nil {
		return err
	}
	if answer.ConnectionState == kmsapi.Failed {
		return exitStatus(statusFailed)
	}
	return nil
}

// explanation is the answer with its inner documents unfolded.
type explanation struct {
	ID                  string                     `json:"id"`
	Name                string                     `json:"name"`
	Type                kmsapi.CustomKeyStoreType  `json:"type"`
	ConnectionState     kmsapi.ConnectionState     `json:"connectionState"`
	ConnectionErrorCode kmsapi.ConnectionErrorCode `json:"connectionErrorCode,omitempty"`
	Advice              string                     `json:"advice,omitempty"`
	LastAttempt         json.RawMessage            `json:"lastAttempt,omitempty"`
	Health              json.RawMessage            `json:"health,omitempty"`
}

func renderExplanationJSON(w io.Writer, a *kmsapi.ExplainCustomKeyStoreResponse) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(explanation{
		ID: a.CustomKeyStoreID, Name: a.CustomKeyStoreName, Type: a.CustomKeyStoreType,
		ConnectionState: a.ConnectionState, ConnectionErrorCode: a.ConnectionErrorCode, Advice: advice[a.ConnectionErrorCode],
		LastAttempt: json.RawMessage(a.Evidence), Health: json.RawMessage(a.Health),
	})
}

func renderExplanation(w io.Writer, a *kmsapi.ExplainCustomKeyStoreResponse) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  %s\n", a.CustomKeyStoreID, a.CustomKeyStoreType, printable(a.CustomKeyStoreName))
	fmt.Fprintf(&b, "state     %s", a.ConnectionState)
	if a.ConnectionErrorCode != "" {
		fmt.Fprintf(&b, ", %s", a.ConnectionErrorCode)
	}
	b.WriteByte('\n')
	if err := renderEvidence(&b, a.Evidence); err != nil {
		return err
	}
	if text := advice[a.ConnectionErrorCode]; text != "" {
		fmt.Fprintf(&b, "\nwhat to do\n  %s\n", text)
		b.WriteString("  Then disconnect the key store, if it is not yet, and connect it again.\n")
	}
	if a.Health != "" {
		fmt.Fprintf(&b, "\nhealth now\n  %s\n", indent(a.Health))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// renderEvidence shows the last attempt.
func renderEvidence(b *strings.Builder, evidence string) error {
	if evidence == "" {
		b.WriteString("no attempt to connect has ended yet\n")
		return nil
	}
	var ev keystore.Evidence
	if err := json.Unmarshal([]byte(evidence), &ev); err != nil {
		return fmt.Errorf("decoding the evidence: %w", err)
	}
	fmt.Fprintf(b, "attempt   %s, took %s, request %s\n", ev.Started.UTC().Format(time.RFC3339), round(ev.Ended.Sub(ev.Started)), ev.RequestID)
	if ev.Failure != "" {
		fmt.Fprintf(b, "failure   %s\n", printable(ev.Failure))
	}
	b.WriteByte('\n')
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, s := range ev.Steps {
		mark, finding := "ok", s.Detail
		if s.Failure != "" {
			mark, finding = "FAILED", strings.TrimPrefix(s.Detail+"; "+s.Failure, "; ")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", mark, s.Name, printable(s.Target), round(s.Took), printable(finding))
	}
	return table.Flush()
}

// round leaves the digits of a duration that matter.
func round(d time.Duration) time.Duration {
	for unit := time.Second; unit > time.Microsecond; unit /= 10 {
		if d >= unit*10 {
			return d.Round(unit / 10)
		}
	}
	return d.Round(time.Microsecond)
}

// printable keeps what the other side of a connection said from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// indent spreads JSON over lines, two columns in.
func indent(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return printable(text)
	}
	out, err := json.MarshalIndent(v, "  ", "  ")
	if err != nil {
		return printable(text)
	}
	return string(out)
}
