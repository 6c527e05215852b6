package probe

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Status is how a check ended.
type Status string

// The statuses.
const (
	Works   Status = "ok"
	Differs Status = "note" // it works, or is not needed, and is worth knowing
	Fails   Status = "no"
	Skipped Status = "skip" // it was not tried; Seen says why
)

// Finding is what one check saw.
type Finding struct {
	Check  string `json:"check"` // as in the guide, such as "gcm.iv.caller"
	Status Status `json:"status"`
	Seen   string `json:"seen"`
	Means  string `json:"means,omitempty"` // for Kastellan; empty when it works
}

// Verdict says whether the token can serve for a purpose.
type Verdict struct {
	Use       string   `json:"use"`
	Usable    bool     `json:"usable"`
	Missing   []string `json:"missing,omitempty"`   // checks that did not end well
	Unreached []string `json:"unreached,omitempty"` // checks that nothing is known of because of others
	Untried   []string `json:"untried,omitempty"`   // what must work as well and was not to be tried
}

// TokenLine is a token that the module has.
type TokenLine struct {
	Slot        uint   `json:"slot"`
	Description string `json:"slotDescription"`
	Label       string `json:"label"`
	Maker       string `json:"manufacturer"`
	Model       string `json:"model"`
	Serial      string `json:"serial"`
	Firmware    string `json:"firmware"`
	Initialised bool   `json:"initialised"`
	Failure     string `json:"failure,omitempty"`
}

// MechanismLine is a mechanism of the token that was probed.
type MechanismLine struct {
	Type   string `json:"type"`           // hexadecimal
	Name   string `json:"name,omitempty"` // of those that matter here
	MinKey uint   `json:"minKeySize"`
	MaxKey uint   `json:"maxKeySize"`
	Flags  string `json:"flags"` // hexadecimal
}

// Report is the outcome of a run.
type Report struct {
	Module     string          `json:"module"`
	Library    string          `json:"library,omitempty"`
	Token      string          `json:"token,omitempty"` // a URI that names just this token
	Started    time.Time       `json:"started"`
	Took       time.Duration   `json:"tookNs"`
	Tokens     []TokenLine     `json:"tokens"`
	Mechanisms []MechanismLine `json:"mechanisms,omitempty"`
	Findings   []Finding       `json:"findings"`
	Verdicts   []Verdict       `json:"verdicts"`
	Settings   string          `json:"settings,omitempty"` // YAML for the server's configuration
}

// OK tells that the token can be used for something.
func (r *Report) OK() bool {
	for _, v := range r.Verdicts {
		if v.Usable {
			return true
		}
	}
	return false
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		OK bool `json:"ok"`
		*Report
	}{r.OK(), r})
}

// WriteText writes the report for people: a line for each finding, and below it what that
// means where it is not as wished; then the verdicts and the settings.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "module    %s\n", printable(r.Module))
	if r.Library != "" {
		fmt.Fprintf(&b, "library   %s\n", printable(r.Library))
	}
	for _, t := range r.Tokens {
		fmt.Fprintf(&b, "slot      %s\n", printable(t.String()))
	}
	if r.Token != "" {
		fmt.Fprintf(&b, "probed    %s\n", printable(r.Token))
	}
	b.WriteByte('\n')
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-4s  %-32s  %s\n", f.Status, f.Check, printable(f.Seen))
		if f.Means != "" {
			fmt.Fprintf(&b, "      %-32s  → %s\n", "", printable(f.Means))
		}
	}
	b.WriteByte('\n')
	for _, v := range r.Verdicts {
		v.writeText(&b)
	}
	if r.Settings != "" {
		fmt.Fprintf(&b, "\nsettings\n%s", r.Settings)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (v Verdict) writeText(b *strings.Builder) {
	fmt.Fprintf(b, "%-3s  %s\n", map[bool]string{true: "YES", false: "NO"}[v.Usable], v.Use)
	switch {
	case len(v.Missing) > 0:
		fmt.Fprintf(b, "     missing: %s\n", strings.Join(v.Missing, ", "))
	case len(v.Unreached) > 0:
		fmt.Fprintf(b, "     not known: %s\n", strings.Join(v.Unreached, ", "))
	case len(v.Untried) > 0:
		fmt.Fprintf(b, "     not tried: %s\n", strings.Join(v.Untried, ", "))
	}
}

// String is one line for people.
func (t TokenLine) String() string {
	switch {
	case t.Failure != "" && t.Label == "":
		return fmt.Sprintf("%d: %s: %s", t.Slot, t.Description, t.Failure)
	case !t.Initialised:
		return fmt.Sprintf("%d: %s: a token that is not initialised", t.Slot, t.Description)
	}
	return fmt.Sprintf("%d: %q, serial %s, %s %s, firmware %s", t.Slot, t.Label, t.Serial, t.Maker, t.Model, t.Firmware)
}

// printable keeps what a module says from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
