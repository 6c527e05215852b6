package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A compiled pattern holds its wildcards as two bytes that UTF-8 never has, so
// that stars and question marks that a variable brings along stand for themselves.
const (
	anyText = 0xFF // "*"
	anyRune = 0xFE // "?"
)

// pattern is a compiled text: of a Resource, or of a condition's value.
type pattern struct {
	text  string // with its wildcards compiled; the whole if there are no variables
	parts []part // what to put together for each request; nil if there are no variables
}

// part is a piece of a pattern: text, with wildcards compiled, or a variable.
type part struct {
	text       string // of a variable: its default
	key        string // of a variable: its condition key in lower case; else empty
	hasDefault bool
}

// dialect is how the texts of a document are to be read.
type dialect struct {
	wildcards bool // "*" and "?" are more than themselves
	variables bool // "${…}" is: since version 2012-10-17
}

// compile reads a pattern in its dialect.
func (d dialect) compile(text string) (pattern, error) {
	if !d.variables || !strings.Contains(text, "${") {
		return pattern{text: d.literal(text)}, nil
	}
	var p pattern
	rest := text
	for {
		before, after, found := strings.Cut(rest, "${")
		p.addText(d.literal(before))
		if !found {
			break
		}
		inside, behind, closed := cutVariable(after)
		if !closed {
			return pattern{}, fmt.Errorf("%q has a policy variable without an end", text)
		}
		if err := p.addVariable(inside); err != nil {
			return pattern{}, fmt.Errorf("%q: %w", text, err)
		}
		rest = behind
	}
	if len(p.parts) == 1 && p.parts[0].key == "" {
		return pattern{text: p.parts[0].text}, nil
	}
	if len(p.parts) == 0 {
		return pattern{}, nil
	}
	return p, nil
}

var wildcards = strings.NewReplacer("*", "\xFF", "?", "\xFE") // anyText and anyRune

// literal is text that has no variables.
func (d dialect) literal(text string) string {
	if !d.wildcards {
		return text
	}
	return wildcards.Replace(text)
}

// cutVariable cuts at the brace that ends a variable; those in a default do not.
func cutVariable(s string) (inside, behind string, ok bool) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case s[i] == '}' && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}

// addText joins text to that which came before it.
func (p *pattern) addText(text string) {
	if text == "" {
		return
	}
	if last := len(p.parts) - 1; last >= 0 && p.parts[last].key == "" {
		p.parts[last].text += text
		return
	}
	p.parts = append(p.parts, part{text: text})
}

// addVariable adds what stands between the braces: one of the characters that
// would mean something else without them, or a condition key and perhaps a default.
func (p *pattern) addVariable(inside string) error {
	switch inside {
	case "*", "?", "$":
		p.addText(inside)
		return nil
	}
	key, rest, hasDefault := strings.Cut(inside, ",")
	v := part{key: strings.ToLower(strings.TrimSpace(key)), hasDefault: hasDefault}
	if v.key == "" || strings.ContainsAny(v.key, "'{$") {
		return errors.New("the name of a policy variable is malformed")
	}
	if hasDefault {
		rest = strings.TrimSpace(rest)
		if len(rest) < 2 || rest[0] != '\'' || rest[len(rest)-1] != '\'' || strings.Count(rest, "'") != 2 {
			return errors.New("the default of a policy variable is not in single quotes")
		}
		v.text = rest[1 : len(rest)-1]
	}
	p.parts = append(p.parts, v)
	return nil
}

// expand appends the pattern as it is for a request. It is not ok when a
// variable has no value, or more than one.
func (p *pattern) expand(buf []byte, values Values) (_ []byte, ok bool) {
	for i := range p.parts {
		v := &p.parts[i]
		text := v.text
		if v.key != "" {
			found, exists := lookup(values, v.key)
			switch {
			case exists && len(found) == 1:
				text = found[0]
			case exists || !v.hasDefault:
				return nil, false
			}
			if strings.IndexByte(text, anyText) >= 0 || strings.IndexByte(text, anyRune) >= 0 {
				return nil, false // not a text at all
			}
		}
		buf = append(buf, text...)
	}
	return buf, true
}

// variableLength is how long an expanded pattern may be before it needs the heap.
const variableLength = 256

// matches tells whether the pattern covers the whole text, and whether all its
// variables are known: else it covers nothing.
func (p *pattern) matches(text string, values Values) (matches, known bool) {
	if p.parts == nil {
		return wildcardMatch(p.text, text), true
	}
	var array [variableLength]byte
	expanded, ok := p.expand(array[:0], values)
	return ok && wildcardMatch(expanded, text), ok
}

// wildcardMatch tells whether a compiled pattern covers the whole text. When
// something does not fit it goes back to the last star only, since giving an
// earlier one more could not help. So it takes at most len(pattern) × len(text)
// steps, and one pass where each part between stars fits at its first place.
func wildcardMatch[P, T string | []byte](pattern P, text T) bool {
	p, t := 0, 0
	star, resume := -1, 0 // behind the last star, and where the text goes on after what it took
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == anyText:
			p++
			if p == len(pattern) {
				return true
			}
			star, resume = p, t
		case p < len(pattern) && pattern[p] == anyRune:
			p++
			t += runeLength(text, t)
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0:
			resume += runeLength(text, resume)
			p, t = star, resume
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == anyText {
		p++
	}
	return p == len(pattern)
}

// runeLength is how many bytes the character at text[i] has.
func runeLength[T string | []byte](text T, i int) int {
	if text[i] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(string(text[i:min(i+utf8.UTFMax, len(text))]))
	return n
}

// appendLower appends text in lower case, for ASCII alone: Unicode has
// letters, such as the Kelvin sign, that would become an ASCII one.
func appendLower(buf []byte, text string) []byte {
	for i := range len(text) {
		c := text[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf = append(buf, c)
	}
	return buf
}

func lower(text string) string { return string(appendLower(nil, text)) }
