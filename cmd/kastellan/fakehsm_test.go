package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

const (
	fakeAccessKey = "AKIAALICEEXAMPLE0001"
	fakeSecretKey = "alice-secret-that-is-long-enough-for-a-key!"
)

// TestHSMCommands runs the commands of clusters against a server that checks what it is asked,
// signatures included, and answers as the script says.
func TestHSMCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/hsm",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			fake := newFakeHSM(env.Defer)
			env.Values[fakeKey{}] = fake
			env.Setenv("AWS_ENDPOINT_URL", fake.server.URL)
			env.Setenv("AWS_REGION", "eu-central-1")
			env.Setenv("AWS_ACCESS_KEY_ID", fakeAccessKey)
			env.Setenv("AWS_SECRET_ACCESS_KEY", fakeSecretKey)
			env.Setenv("SESSION", strings.Repeat("s", 43))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await": await, "expect": expect, "met": met,
		},
	})
}

// fakeHSM expects requests in an order.
type fakeHSM struct {
	server   *httptest.Server
	verifier *sigv4.Verifier

	mu       sync.Mutex
	expected []exchange
	wrong    []string // what was asked otherwise
}

type fakeKey struct{}

// exchange is a request, and the answer to it.
type exchange struct {
	operation, request string
	status             int
	answer             string
}

func newFakeHSM(atEnd func(func())) *fakeHSM {
	f := &fakeHSM{verifier: &sigv4.Verifier{
		Service: "cloudhsm",
		Region:  func(name string) bool { return name == "eu-central-1" },
		Lookup: func(_ context.Context, id, _ string) (sigv4.Secret, bool) {
			return sigv4.Secret{Key: secret.NewText(fakeSecretKey)}, id == fakeAccessKey
		},
	}}
	f.server = httptest.NewServer(f)
	atEnd(f.server.Close)
	return f
}

// ServeHTTP answers what is expected. Anything else is noted, and refused.
func (f *fakeHSM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		_, err = f.verifier.Verify(r.Context(), r, body)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next := exchange{status: http.StatusTeapot, answer: "{}"}
	if len(f.expected) > 0 {
		next, f.expected = f.expected[0], f.expected[1:]
	}
	target := r.Header.Get("X-Amz-Target")
	switch {
	case err != nil:
		f.wrong = append(f.wrong, err.Error())
	case target != cloudhsmapi.Extensions+"."+next.operation, !sameJSON(string(body), next.request):
		f.wrong = append(f.wrong, fmt.Sprintf("%s %s instead of %s %s", target, body, next.operation, next.request))
	default:
		w.WriteHeader(next.status)
		_, _ = io.WriteString(w, next.answer)
		return
	}
	w.WriteHeader(http.StatusTeapot)
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// expect adds requests that the server is to be asked: expect FILE. Each is two lines, the operation with
// its input and the status with the answer. Variables in them are replaced, and comments left out.
func expect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expect FILE")
	}
	var lines []string
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, strings.ReplaceAll(line, "$SESSION", ts.Getenv("SESSION")))
		}
	}
	if len(lines)%2 != 0 {
		ts.Fatalf("a request has no answer")
	}
	f := ts.Value(fakeKey{}).(*fakeHSM)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 0; i < len(lines); i += 2 {
		var e exchange
		e.operation, e.request, _ = strings.Cut(lines[i], " ")
		if _, err := fmt.Sscan(lines[i+1], &e.status); err != nil {
			ts.Fatalf("%q: %v", lines[i+1], err)
		}
		_, e.answer, _ = strings.Cut(lines[i+1], " ")
		f.expected = append(f.expected, e)
	}
}

// met fails if something was not asked as expected.
func met(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: met")
	}
	f := ts.Value(fakeKey{}).(*fakeHSM)
	f.mu.Lock()
	defer f.mu.Unlock()
	var b bytes.Buffer
	for _, text := range f.wrong {
		fmt.Fprintln(&b, text)
	}
	for _, e := range f.expected {
		fmt.Fprintf(&b, "%s was not asked\n", e.operation)
	}
	if b.Len() > 0 {
		ts.Fatalf("%s", b.String())
	}
}
