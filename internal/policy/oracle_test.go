package policy_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/policy"
)

var writeCases = flag.String("write-cases", "", "write requests for another evaluator to this file")

func TestWriteCases(t *testing.T) {
	if *writeCases == "" {
		t.Skip("-write-cases names no file")
	}
	f, err := os.Create(*writeCases)
	if err != nil {
		t.Fatal(err)
	}
	encoder := json.NewEncoder(f)
	encoder.SetEscapeHTML(false)
	for _, c := range oracleCases(20000) {
		if err := encoder.Encode(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// corpus reads the requests that another evaluator has decided.
func corpus(t *testing.T) []oracleCase {
	t.Helper()
	f, err := os.Open("testdata/decisions.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []oracleCase
	decoder := json.NewDecoder(bufio.NewReader(z))
	for decoder.More() {
		var c oracleCase
		if err := decoder.Decode(&c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestDecisionsAreThoseOfAnotherEvaluator(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for _, c := range corpus(t) {
		seen[c.Want]++
		if got := c.decide(t); got.String() != c.Want {
			t.Errorf("got %v of\n%s", got, &c)
		}
	}
	for _, d := range []policy.Decision{policy.Allow, policy.ImplicitDeny, policy.ExplicitDeny} {
		if seen[d.String()] < 500 {
			t.Errorf("the corpus has %d × %v only", seen[d.String()], d)
		}
	}
}

func TestTheCorpusIsWhatTheGeneratorDraws(t *testing.T) {
	t.Parallel()
	all := corpus(t)
	drawn := oracleCases(len(all))
	for i := range all {
		all[i].Want = ""
		if got, want := all[i].String(), drawn[i].String(); got != want {
			t.Fatalf("request %d: %s", i, cmp.Diff(want, got))
		}
	}
}

func TestDifferencesFromAnotherEvaluator(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/differences.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		oracleCase
		About, Reason, Here string
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		t.Run(c.About, func(t *testing.T) {
			t.Parallel()
			if got := c.decide(t); got.String() != c.Here {
				t.Errorf("got %v, want %s", got, c.Here)
			}
			if c.Here == c.Want || c.Reason == "" {
				t.Error("there is no difference, or no reason for it")
			}
		})
	}
}

// decide decides a case here.
func (c *oracleCase) decide(t *testing.T) policy.Decision {
	t.Helper()
	parse := func(parse parser, doc json.RawMessage) *policy.Document {
		if doc == nil {
			return nil
		}
		d, err := parse(doc)
		if err != nil {
			t.Fatalf("%v\n%s", err, c)
		}
		return d
	}
	kind := policy.ParseKeyPolicy
	if strings.HasPrefix(c.Action, "sts:") {
		kind = policy.ParseTrust
	}
	in := &policy.Inputs{Owner: c.Owner, Resource: parse(kind, c.Policy), Boundary: parse(policy.ParseIdentity, c.Boundary)}
	for _, doc := range c.Identity {
		in.Identity = append(in.Identity, parse(policy.ParseIdentity, doc))
	}
	if c.Session != nil {
		in.Session = []*policy.Document{parse(policy.ParseSession, c.Session)}
	}
	v := values{}
	for name, found := range c.Context {
		v[strings.ToLower(name)] = found
	}
	return policy.Decide(in, &policy.Request{
		Subject: &policy.Subject{
			Account: strings.Split(c.Principal, ":")[4], ARN: c.Principal,
			Role: oracleRole(c.Principal), Root: strings.HasSuffix(c.Principal, ":root"),
		},
		Action:   c.Action,
		Resource: c.Resource,
		Values:   v,
	}).Decision
}
