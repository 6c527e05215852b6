package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Report is the outcome of a run.
type Report struct {
	URL     string        `json:"url"`
	Verdict Verdict       `json:"verdict"` // pass or fail
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"tookNs"`
	Passed  int           `json:"passed"`
	Failed  int           `json:"failed"`
	Warned  int           `json:"warned"`
	Skipped int           `json:"skipped"`
	Results []Result      `json:"results"`
}

func (r *Report) add(result Result) {
	if r.Verdict == "" {
		r.Verdict = Pass
	}
	switch result.Verdict {
	case Pass:
		r.Passed++
	case Fail:
		r.Failed++
		r.Verdict = Fail
	case Warn:
		r.Warned++
	case Skip:
		r.Skipped++
	}
	r.Results = append(r.Results, result)
}

// OK tells that nothing failed.
func (r Report) OK() bool { return r.Failed == 0 }

// ExitStatus is 0 if nothing failed and 1 otherwise.
func (r Report) ExitStatus() int {
	if r.OK() {
		return 0
	}
	return 1
}

// WriteText writes the report for people: a line for each case, what was
// expected and seen where those differ, and what was measured.
func (r Report) WriteText(w io.Writer) error {
	for _, c := range r.Results {
		if _, err := fmt.Fprintf(w, "%-4s  %-6s  %-36s  %s\n", c.Verdict, c.Level, c.ID, c.Title); err != nil {
			return err
		}
		if err := writeDetail(w, c); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%s: %d passed, %d failed, %d warnings, %d skipped, in %s\n",
		r.URL, r.Passed, r.Failed, r.Warned, r.Skipped, r.Took.Round(time.Millisecond))
	return err
}

func writeDetail(w io.Writer, c Result) error {
	var err error
	switch c.Verdict {
	case Pass:
		if strings.HasPrefix(c.ID, "load.") { // a measurement says more than that it was good enough
			_, err = fmt.Fprintf(w, "      %s\n", c.Seen)
		}
	case Fail, Warn:
		_, err = fmt.Fprintf(w, "      expected: %s\n      seen:     %s\n", c.Expected, c.Seen)
	case Skip:
		_, err = fmt.Fprintf(w, "      %s\n", c.Seen)
	}
	return err
}

// WriteJSON writes the report for programs: one object on one line.
func (r Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }
