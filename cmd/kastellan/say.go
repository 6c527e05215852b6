package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// How the program speaks. Every text for people follows these rules:
//
//   - what was asked for goes to standard output, everything else to standard error;
//   - an error is one line that begins with "kastellan: ", in lower case, without a
//     full stop; several errors are several such lines;
//   - it says what was being done and what stood in the way, and where somebody can do
//     something about it, a line that begins with "hint: " says what;
//   - file names, addresses and ids appear as they were given; secrets never;
//   - no exclamation marks, no apologies, no colours.

// Exit statuses other than 0.
const (
	statusFailed = 1 // it could not be done, or what was asked about is not well
	statusUsage  = 2 // the command line is wrong
)

// exitStatus is the error of a subcommand that has said everything already.
type exitStatus int

// Error implements error.
func (s exitStatus) Error() string { return "exit status " + strconv.Itoa(int(s)) }

// hinted is an error and what to do about it.
type hinted struct {
	error
	hint string
}

// Unwrap gives the error itself.
func (h *hinted) Unwrap() error { return h.error }

// withHint adds to err what to do about it.
func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{error: err, hint: fmt.Sprintf(format, args...)}
}

// complain prints an error as the rules say.
func complain(w io.Writer, err error) {
	for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
		fmt.Fprintf(w, "kastellan: %s\n", line)
	}
	var h *hinted
	if errors.As(err, &h) {
		fmt.Fprintf(w, "hint: %s\n", h.hint)
	}
}
