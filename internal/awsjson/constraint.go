package awsjson

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"kastellan.dev/internal/kmsapi"
)

const (
	// maxViolations is how many constraints an error tells of.
	maxViolations = 10
	// maxEcho is how many characters of a value an error shows.
	maxEcho = 1024
)

// violations are the constraints that a request breaks.
type violations struct{ found []violation }

// violation has its parts apart until the path of the structure that it stands
// in is known.
type violation struct {
	value      string // "'abc' ", "null ", or empty
	path       string
	constraint string
}

// err is nil if nothing was found.
func (b *violations) err() error {
	if len(b.found) == 0 {
		return nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d validation error", len(b.found))
	if len(b.found) > 1 {
		text.WriteByte('s')
	}
	text.WriteString(" detected: ")
	for i, v := range b.found {
		if i > 0 {
			text.WriteString("; ")
		}
		fmt.Fprintf(&text, "Value %sat '%s' failed to satisfy constraint: %s", v.value, v.path, v.constraint)
	}
	return kmsapi.Errorf(kmsapi.Validation, "%s", text.String())
}

func (b *violations) add(m *member, value, constraint string) {
	if len(b.found) < maxViolations {
		b.found = append(b.found, violation{value, m.path, constraint})
	}
}

// enter begins a structure within a structure.
func (b *violations) enter() (outer int) { return len(b.found) }

// leave ends what enter began: the paths of what was found in between begin
// with prefix.
func (b *violations) leave(outer int, prefix string) {
	for i := range b.found[outer:] {
		b.found[outer+i].path = prefix + b.found[outer+i].path
	}
}

func (b *violations) absent(m *member) {
	if m.required {
		b.add(m, "null ", "Member must not be null")
	}
}

func (b *violations) text(m *member, s string) {
	if m.empty && s == "" {
		return
	}
	if m.length != nil {
		if broken := m.length.broken("length", utf8.RuneCountInString(s)); broken != "" {
			b.add(m, m.echo(s), broken)
		}
	}
	if m.pattern != nil && !m.pattern.whole.MatchString(s) {
		b.add(m, m.echo(s), matching(m.pattern.text))
	}
	if m.enum != nil && !slices.Contains(m.enum, s) {
		b.add(m, m.echo(s), enumSet(m.enum))
	}
}

func (b *violations) integer(m *member, n int64) {
	if broken := m.value.broken("value", int(n)); broken != "" {
		b.add(m, m.echo(strconv.FormatInt(n, 10)), broken)
	}
}

// size checks the length of a blob or map. Those are not echoed: for a blob
// AWS shows the name of a Java object.
func (b *violations) size(m *member, n int) {
	if broken := m.length.broken("length", n); broken != "" {
		b.add(m, "", broken)
	}
}

// list checks a list's length, and its elements if they are strings:
// structures are checked when they are decoded.
func (b *violations) list(m *member, v reflect.Value) {
	if broken := m.length.broken("length", v.Len()); broken != "" {
		b.add(m, m.echoList(v), broken)
	}
	if m.each == nil && m.pattern == nil && m.element.enum == nil {
		return
	}
	for i := range v.Len() {
		if !m.fits(v.Index(i).String()) {
			b.add(m, m.echoList(v), "Member must satisfy constraint: ["+strings.Join(m.ofElements(), ", ")+"]")
			return
		}
	}
}

// fits tells whether a string may be in the list.
func (m *member) fits(s string) bool {
	return m.each.broken("length", utf8.RuneCountInString(s)) == "" &&
		(m.pattern == nil || m.pattern.whole.MatchString(s)) &&
		(m.element.enum == nil || slices.Contains(m.element.enum, s))
}

// ofElements are the constraints of a list's strings, all of them, in AWS's order.
func (m *member) ofElements() (all []string) {
	if m.each != nil && m.each.max != nil {
		all = append(all, atMost("length", *m.each.max))
	}
	if m.each != nil && m.each.min != nil {
		all = append(all, atLeast("length", *m.each.min))
	}
	if m.pattern != nil {
		all = append(all, matching(m.pattern.text))
	}
	if m.element.enum != nil {
		all = append(all, enumSet(m.element.enum))
	}
	return all
}

// broken gives the constraint that n breaks, "" if none.
func (l *limits) broken(what string, n int) string {
	switch {
	case l == nil:
		return ""
	case l.max != nil && n > *l.max:
		return atMost(what, *l.max)
	case l.min != nil && n < *l.min:
		return atLeast(what, *l.min)
	default:
		return ""
	}
}

func atMost(what string, n int) string {
	return "Member must have " + what + " less than or equal to " + strconv.Itoa(n)
}

func atLeast(what string, n int) string {
	return "Member must have " + what + " greater than or equal to " + strconv.Itoa(n)
}

func matching(pattern string) string {
	return "Member must satisfy regular expression pattern: " + pattern
}

func enumSet(values []string) string {
	return "Member must satisfy enum value set: [" + strings.Join(values, ", ") + "]"
}

// echo is how a text shows a value.
func (m *member) echo(s string) string {
	if m.sensitive || m.kind == kindSecretString {
		return ""
	}
	return "'" + cut(s) + "' "
}

// echoList shows strings as [a, b], and of structures nothing.
func (m *member) echoList(v reflect.Value) string {
	if m.element.kind != kindString {
		return ""
	}
	var text strings.Builder
	text.WriteByte('[')
	for i := 0; i < v.Len() && text.Len() < maxEcho*utf8.UTFMax; i++ {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(v.Index(i).String())
	}
	text.WriteByte(']')
	return "'" + cut(text.String()) + "' "
}

// cut leaves maxEcho characters of s.
func cut(s string) string {
	n := 0
	for i := range s {
		if n == maxEcho {
			return s[:i] + "…"
		}
		n++
	}
	return s
}
