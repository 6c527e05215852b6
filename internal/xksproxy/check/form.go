package check

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime"

	"kastellan.dev/internal/xksapi"
)

// formCases look at all answers of the run, hence come last.
func formCases() []testCase {
	return []testCase{
		{
			id: "form.errors", title: "Errors have the specified form", level: Must,
			expected: "an errorName of the 12 with its status; errorMessage absent, or below 512 printable ASCII characters",
			run:      everyAnswer(errorForm),
		},
		{
			id: "form.content-type", title: "Answers are application/json", level: Must, expected: "Content-Type: application/json",
			run: everyAnswer(func(a answer) error {
				if media, _, err := mime.ParseMediaType(a.header.Get("Content-Type")); err != nil || media != "application/json" {
					return fmt.Errorf("Content-Type %q", a.header.Get("Content-Type"))
				}
				return nil
			}),
		},
		{
			id: "form.one-line", title: "Answers are compact JSON on one line", level: Should, expected: "no white space between tokens",
			run: everyAnswer(func(a answer) error {
				var compact bytes.Buffer
				if err := json.Compact(&compact, a.body); err != nil {
					return fmt.Errorf("not JSON")
				}
				if !bytes.Equal(bytes.TrimSuffix(a.body, []byte("\n")), compact.Bytes()) {
					return fmt.Errorf("not compact")
				}
				return nil
			}),
		},
	}
}

func everyAnswer(check func(answer) error) func(context.Context, *prober) (string, error) {
	return func(_ context.Context, p *prober) (string, error) {
		for _, a := range p.answers {
			if err := check(a); err != nil {
				return fmt.Sprintf("%s: %s: %s", a.what, a, err), errNotMet
			}
		}
		return fmt.Sprintf("%d answers", len(p.answers)), nil
	}
}

func errorForm(a answer) error {
	if a.status == 200 {
		return nil
	}
	var e struct {
		ErrorName    xksapi.ErrorName `json:"errorName"`
		ErrorMessage *string          `json:"errorMessage"`
	}
	if err := json.Unmarshal(a.body, &e); err != nil {
		return fmt.Errorf("the body is not JSON")
	}
	status, known := e.ErrorName.Status()
	switch {
	case !known:
		return fmt.Errorf("unknown errorName")
	case status != a.status:
		return fmt.Errorf("the status of this error is %d", status)
	case e.ErrorMessage == nil:
		return nil
	case len(*e.ErrorMessage) > xksapi.MaxErrorMessage:
		return fmt.Errorf("errorMessage of %d characters", len(*e.ErrorMessage))
	}
	for _, c := range []byte(*e.ErrorMessage) {
		if c < 0x20 || c > 0x7E {
			return fmt.Errorf("errorMessage with the byte %#x", c)
		}
	}
	return nil
}
