package policy_test

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kastellan.dev/internal/policy"
)

// naive decides a case slowly and plainly: it reads the JSON for each request,
// turns patterns into regular expressions and combines sentences of the IAM User Guide.
type naive struct{ c *oracleCase }

type naiveStatement struct {
	Effect                                                                       string
	Principal, NotPrincipal, Action, NotAction, Resource, NotResource, Condition any
	version                                                                      string
}

func (n naive) decide() policy.Decision {
	c := n.c
	account := strings.Split(c.Principal, ":")[4]
	home := account == c.Owner
	var onSubject []string // how the policy of the resource allows
	denies, within := false, map[string]bool{"identity": false, "boundary": c.Boundary == nil, "session": c.Session == nil}
	ask := func(kind string, doc json.RawMessage) {
		for _, s := range n.statements(doc) {
			how := n.principal(&s)
			if how == "" || !n.isAbout(&s) {
				continue
			}
			switch {
			case s.Effect == "Deny":
				denies = true
			case kind == "resource":
				onSubject = append(onSubject, how)
			default:
				within[kind] = true
			}
		}
	}
	ask("resource", c.Policy)
	for _, doc := range c.Identity {
		ask("identity", doc)
	}
	ask("boundary", c.Boundary)
	ask("session", c.Session)
	subject := within["identity"] && within["boundary"] && within["session"]
	if strings.HasSuffix(c.Principal, ":root") {
		subject = true
	}
	switch {
	case denies:
		return policy.ExplicitDeny
	case c.Policy == nil && home && subject,
		home && slices.Contains(onSubject, "itself"),
		home && slices.Contains(onSubject, "role") && within["boundary"] && within["session"],
		len(onSubject) > 0 && subject:
		return policy.Allow
	}
	return policy.ImplicitDeny
}

func (n naive) statements(doc json.RawMessage) []naiveStatement {
	var d struct {
		Version   string
		Statement []naiveStatement
	}
	if doc == nil {
		return nil
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		panic(err)
	}
	for i := range d.Statement {
		d.Statement[i].version = d.Version
	}
	return d.Statement
}

func list(v any) []string {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	var all []string
	for _, s := range v.([]any) {
		all = append(all, s.(string))
	}
	return all
}

// principal tells how the statement is about the subject; empty if it is not.
func (n naive) principal(s *naiveStatement) string {
	name := n.c.Principal
	account, role := strings.Split(name, ":")[4], oracleRole(name)
	root := "arn:aws:iam::" + account + ":root"
	names := func(principal any) []string {
		if principal == "*" {
			return []string{"*"}
		}
		if all, ok := principal.(map[string]any)["AWS"]; ok {
			return list(all)
		}
		return nil
	}
	switch {
	case s.NotPrincipal != nil:
		all := names(s.NotPrincipal)
		has := func(names ...string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(all, n) })
		}
		spared := has("*") || has(account, root) && has(name) && (role == "" || has(role)) || name == root && has(account, root)
		if spared && n.c.Boundary == nil {
			return ""
		}
		return "itself"
	case s.Principal == nil:
		return "itself"
	}
	all := names(s.Principal)
	switch {
	case slices.Contains(all, "*"), slices.Contains(all, name) && name != root:
		return "itself"
	case slices.Contains(all, role):
		return "role"
	case slices.Contains(all, account), slices.Contains(all, root):
		return "account"
	}
	return ""
}

func (n naive) isAbout(s *naiveStatement) bool {
	anyOf := func(patterns any, text string) bool {
		return slices.ContainsFunc(list(patterns), func(p string) bool {
			q, ok := n.expand(s, p, true)
			return ok && q.MatchString(text)
		})
	}
	switch {
	case s.Action != nil && !anyAction(list(s.Action), n.c.Action),
		s.NotAction != nil && anyAction(list(s.NotAction), n.c.Action),
		s.Resource != nil && !anyOf(s.Resource, n.c.Resource),
		s.NotResource != nil && anyOf(s.NotResource, n.c.Resource),
		s.NotResource != nil && s.Effect == "Allow" && !n.allKnown(s, list(s.NotResource)):
		return false
	}
	if s.Condition == nil {
		return true
	}
	for operator, keys := range s.Condition.(map[string]any) {
		for key, values := range keys.(map[string]any) {
			if !n.holds(s, operator, key, list(values)) {
				return false
			}
		}
	}
	return true
}

func (n naive) allKnown(s *naiveStatement, patterns []string) bool {
	for _, p := range patterns {
		if _, ok := n.expand(s, p, true); !ok {
			return false
		}
	}
	return true
}

func anyAction(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		return regexp.MustCompile(`(?si)^` + strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(p)) + `$`).MatchString(action)
	})
}

func (n naive) value(key string) ([]string, bool) {
	for name, found := range n.c.Context {
		if strings.EqualFold(name, key) {
			return found, true
		}
	}
	return nil, false
}

var naiveVariable = regexp.MustCompile(`\$\{([^},]+)(?:, *'([^']*)')?\}`)

// expand makes a regular expression of a pattern, unless a variable has no value.
func (n naive) expand(s *naiveStatement, pattern string, wildcards bool) (*regexp.Regexp, bool) {
	quote := func(text string) string {
		text = regexp.QuoteMeta(text)
		if wildcards {
			text = strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(text)
		}
		return text
	}
	var out strings.Builder
	rest := pattern
	for s.version == policy.Version2012 {
		at := naiveVariable.FindStringSubmatchIndex(rest)
		if at == nil {
			break
		}
		out.WriteString(quote(rest[:at[0]]))
		key := rest[at[2]:at[3]]
		switch found, ok := n.value(key); {
		case key == "*" || key == "?" || key == "$":
			out.WriteString(regexp.QuoteMeta(key))
		case ok && len(found) == 1:
			out.WriteString(regexp.QuoteMeta(found[0]))
		case ok || at[4] < 0:
			return nil, false
		default:
			out.WriteString(regexp.QuoteMeta(rest[at[4]:at[5]]))
		}
		rest = rest[at[1]:]
	}
	return regexp.MustCompile(`(?s)^` + out.String() + quote(rest) + `$`), true
}

func (n naive) holds(s *naiveStatement, operator, key string, operands []string) bool {
	found, ok := n.value(key)
	missing := !ok || len(found) == 0
	if operator == "Null" {
		return slices.Contains(operands, strconv.FormatBool(missing))
	}
	operator, ifExists := strings.CutSuffix(operator, "IfExists")
	set, operator := "", operator
	if before, after, ok := strings.Cut(operator, ":"); ok {
		set, operator = before, after
	}
	negated := strings.Contains(operator, "Not")
	operator = strings.Replace(operator, "Not", "", 1)
	like := func(text string) bool {
		return slices.ContainsFunc(operands, func(o string) bool { return n.compare(s, operator, text, o) })
	}
	switch {
	case missing && (ifExists || set == "ForAllValues"):
		return true
	case missing && set == "ForAnyValue":
		return false
	case missing:
		return negated
	case set == "ForAnyValue":
		return slices.ContainsFunc(found, func(text string) bool { return like(text) != negated })
	case set == "ForAllValues":
		return !slices.ContainsFunc(found, func(text string) bool { return like(text) == negated })
	}
	return slices.ContainsFunc(found, like) != negated
}

// compare compares one value with one operand by an operator that is not negated.
func (n naive) compare(s *naiveStatement, operator, text, operand string) bool {
	switch {
	case operator == "Bool":
		return text == operand
	case operator == "IpAddress":
		if !strings.Contains(operand, "/") {
			return netip.MustParseAddr(text) == netip.MustParseAddr(operand)
		}
		return netip.MustParsePrefix(operand).Contains(netip.MustParseAddr(text))
	case strings.HasPrefix(operator, "Numeric"):
		x, _ := strconv.ParseFloat(text, 64)
		y, _ := strconv.ParseFloat(operand, 64)
		return naiveOrder(operator, x < y, x == y)
	case strings.HasPrefix(operator, "Date"):
		x, y := naiveTime(text), naiveTime(operand)
		return naiveOrder(operator, x.Before(y), x.Equal(y))
	case strings.HasPrefix(operator, "Arn"):
		return n.compareARN(s, text, operand)
	}
	p, ok := n.expand(s, operand, operator == "StringLike")
	if ok && operator == "StringEqualsIgnoreCase" {
		p = regexp.MustCompile("(?i)" + p.String())
	}
	return ok && p.MatchString(text)
}

func (n naive) compareARN(s *naiveStatement, text, operand string) bool {
	if operand == "*" {
		return true
	}
	texts, operands := strings.SplitN(text, ":", 6), strings.SplitN(operand, ":", 6)
	for i, o := range operands {
		if p, ok := n.expand(s, o, true); !ok || !p.MatchString(texts[i]) {
			return false
		}
	}
	return len(operands) == len(texts)
}

func naiveTime(text string) time.Time {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0)
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	panic(text)
}

func naiveOrder(operator string, less, equal bool) bool {
	switch {
	case strings.HasSuffix(operator, "LessThan"):
		return less
	case strings.HasSuffix(operator, "LessThanEquals"):
		return less || equal
	case strings.HasSuffix(operator, "GreaterThan"):
		return !less && !equal
	case strings.HasSuffix(operator, "GreaterThanEquals"):
		return !less
	}
	return equal
}

func TestDecisionsAreThoseOfANaiveEvaluator(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := newOracleCase(&draws{state: rapid.Uint64().Draw(rt, "seed"), wide: true})
		if got, want := c.decide(t), (naive{&c}).decide(); got != want {
			rt.Fatalf("got %v, want %v of\n%s", got, want, &c)
		}
	})
}
