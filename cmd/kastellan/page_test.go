package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// step is a block of commands of a page.
type step struct {
	line     int // of the page
	commands string
	fails    bool   // the last command is to fail
	prints   string // "…" stands for anything
	compared bool   // the page shows what is printed
}

// stepsOf finds the blocks "```sh" and "```sh fails" of a page, and those with "```text" that follow them.
func stepsOf(page string) (steps []step) {
	kind, before := "", 0
	for i, line := range strings.Split(page, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		last := len(steps) - 1
		switch {
		case isFence && kind != "":
			kind, before = "", i
		case isFence:
			kind = fence
			switch {
			case kind == "sh" || kind == "sh fails":
				steps = append(steps, step{line: i + 1, fails: kind == "sh fails"})
			case kind == "text" && last >= 0 && i == before+1:
				steps[last].compared = true
			}
		case kind == "sh" || kind == "sh fails":
			steps[last].commands += line + "\n"
		case kind == "text":
			steps[last].prints += line + "\n"
		}
	}
	return steps
}

// endOfStep is printed after each block.
const endOfStep = "=== end of the block in line %d\n"

// program has a shell run all blocks, and end where one fails that is not to fail.
func program(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		if s.fails {
			fmt.Fprintf(&b, "set +e\n%sstatus=$?\nset -e\n[ $status -ne 0 ] || { echo 'it does not fail'; exit 1; }\n", s.commands)
		} else {
			fmt.Fprintf(&b, "set -e\n%s", s.commands)
		}
		fmt.Fprintf(&b, "printf '"+strings.ReplaceAll(endOfStep, "\n", `\n`)+"'\n", s.line)
	}
	return b.String()
}

// pattern is what a block has to print.
func (s step) pattern() *regexp.Regexp {
	parts := strings.Split(strings.TrimSpace(s.prints), "…")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile(`(?s)^\s*` + strings.Join(parts, ".*") + `\s*$`)
}

// follow runs the commands of a page of the documentation in one shell, and compares what they print with what the
// page shows: follow PAGE, a path from the top of the repository.
func follow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: follow PAGE")
	}
	page, err := os.ReadFile("../../" + args[0])
	ts.Check(err)
	steps := stepsOf(string(page))
	if len(steps) == 0 {
		ts.Fatalf("%s has no commands", args[0])
	}
	var out bytes.Buffer
	sh := exec.Command("sh", "-c", program(steps))
	sh.Dir, sh.Stdout, sh.Stderr = ts.MkAbs("."), &out, &out
	for _, name := range []string{"PATH", "HOME", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		sh.Env = append(sh.Env, name+"="+ts.Getenv(name))
	}
	failure := sh.Run()
	rest := out.String()
	for _, s := range steps {
		printed, after, ended := strings.Cut(rest, fmt.Sprintf(endOfStep, s.line))
		if !ended {
			ts.Fatalf("%s:%d: %v\n%s", args[0], s.line, failure, printed)
		}
		rest = after
		ts.Logf("%s:%d:\n%s", args[0], s.line, printed)
		if s.compared && !s.pattern().MatchString(printed) {
			ts.Fatalf("%s:%d: it prints\n%sand not\n%s", args[0], s.line, printed, s.prints)
		}
	}
	ts.Check(failure)
}
