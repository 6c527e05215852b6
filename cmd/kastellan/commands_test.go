package main

import (
	"bytes"
	"net"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// awaitLimit is how long a script waits for something to happen.
const awaitLimit = 30 * time.Second

// await waits until a file holds a text: await FILE TEXT. Background programs write
// such files with "sh -c '… >FILE'".
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	path := ts.MkAbs(args[0])
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(awaitLimit)
	for {
		text, _ := os.ReadFile(path)
		if bytes.Contains(text, []byte(args[1])) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("%s does not hold %q but:\n%s", args[0], args[1], text)
		}
	}
}

// freePort puts a free address of the loopback interface into a variable: freeport NAME.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: freeport NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	ts.Check(l.Close())
}

// expand replaces $NAME and ${NAME} in files by the script's variables: expand FILE….
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: expand FILE…")
	}
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// paste does what the lines "export NAME=VALUE…" of a program's output say: paste FILE.
func paste(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: paste FILE")
	}
	pasted := false
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		variables, ok := strings.CutPrefix(strings.TrimSpace(line), "export ")
		if !ok {
			continue
		}
		for _, variable := range strings.Fields(variables) {
			name, value, _ := strings.Cut(variable, "=")
			ts.Setenv(name, value)
			pasted = true
		}
	}
	if !pasted {
		ts.Fatalf("%s exports nothing", args[0])
	}
}
