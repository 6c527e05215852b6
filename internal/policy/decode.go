package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// source is a document as it is written, in its order, before its parts are
// understood: what they mean depends on the version, which may come last.
type source struct {
	version, id string
	statements  []sourceStatement
}

type sourceStatement struct {
	sid              string
	effect           Effect
	principal        *sourcePrincipal
	action, resource *sourceList
	conditions       []sourceCondition
}

// sourceList is the patterns of an Action, or of a NotAction, and so on.
type sourceList struct {
	not      bool
	patterns []string
}

type sourcePrincipal struct {
	not   bool
	names []principalName
}

// principalName is one name of a type, such as "AWS".
type principalName struct{ kind, name string }

type sourceCondition struct {
	operator, key string
	values        []string
}

// reader walks over JSON that is already known to be well formed. Unlike
// json.Unmarshal it sees members that are given twice, of which two readers
// of one policy might believe different ones.
type reader struct{ *json.Decoder }

func decode(doc []byte) (*source, error) {
	if !utf8.Valid(doc) {
		return nil, errors.New("the document is not valid UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(doc, &whole); err != nil {
		return nil, fmt.Errorf("the document is not valid JSON: %w", err)
	}
	r := reader{json.NewDecoder(bytes.NewReader(whole))}
	r.UseNumber()
	return r.document()
}

func (r reader) document() (*source, error) {
	d := &source{version: Version2008}
	err := r.object("the document", func(name string) (err error) {
		switch name {
		case "Version":
			d.version, err = r.text(name)
			if err == nil && d.version != Version2012 && d.version != Version2008 {
				err = fmt.Errorf("Version %q is neither %q nor %q", d.version, Version2012, Version2008)
			}
		case "Id":
			d.id, err = r.text(name)
		case "Statement":
			d.statements, err = r.statements()
		default:
			err = fmt.Errorf("the document has an unknown member %q", name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(d.statements) == 0 {
		return nil, errors.New("the document has no Statement")
	}
	return d, nil
}

// statements reads one statement or a list of them.
func (r reader) statements() ([]sourceStatement, error) {
	var all []sourceStatement
	one := func(first json.Token) error {
		s, err := r.statement(first)
		if err != nil {
			return fmt.Errorf("statement %d: %w", len(all)+1, err)
		}
		all = append(all, s)
		return nil
	}
	return all, r.oneOrMore(one)
}

func (r reader) statement(first json.Token) (s sourceStatement, err error) {
	err = r.members(first, "it", func(name string) (err error) {
		switch name {
		case "Sid":
			s.sid, err = r.text(name)
		case "Effect":
			var effect string
			effect, err = r.text(name)
			s.effect = Effect(effect)
			if err == nil && s.effect != EffectAllow && s.effect != EffectDeny {
				err = fmt.Errorf("Effect %q is neither Allow nor Deny", effect)
			}
		case "Principal", "NotPrincipal":
			err = r.principals(name, &s.principal)
		case "Action", "NotAction":
			err = r.list(name, &s.action)
		case "Resource", "NotResource":
			err = r.list(name, &s.resource)
		case "Condition":
			s.conditions, err = r.conditions()
		default:
			err = fmt.Errorf("it has an unknown member %q", name)
		}
		return err
	})
	if err == nil && s.effect == "" {
		err = errors.New("Effect is missing")
	}
	return s, err
}

// list reads an element such as Action or NotAction into out, of which a
// statement has only one.
func (r reader) list(name string, out **sourceList) error {
	if *out != nil {
		return bothOf(name)
	}
	patterns, err := r.texts(name)
	*out = &sourceList{not: isNegated(name), patterns: patterns}
	return err
}

func isNegated(element string) bool { return element[:3] == "Not" }

func bothOf(name string) error {
	if isNegated(name) {
		name = name[3:]
	}
	return fmt.Errorf("it has both %s and Not%s", name, name)
}

func (r reader) principals(name string, out **sourcePrincipal) error {
	if *out != nil {
		return bothOf(name)
	}
	p := &sourcePrincipal{not: isNegated(name)}
	*out = p
	first, err := r.Token()
	if err != nil {
		return err
	}
	if first == "*" {
		p.names = []principalName{{"AWS", "*"}}
		return nil
	}
	err = r.members(first, name, func(kind string) error {
		switch kind {
		case "AWS", "Service", "Federated", "CanonicalUser":
			names, err := r.texts(name + " " + kind)
			for _, n := range names {
				p.names = append(p.names, principalName{kind, n})
			}
			return err
		default:
			return fmt.Errorf("%s has an unknown type %q", name, kind)
		}
	})
	if err == nil && len(p.names) == 0 {
		err = fmt.Errorf("%s is empty", name)
	}
	return err
}

func (r reader) conditions() ([]sourceCondition, error) {
	var all []sourceCondition
	err := r.object("Condition", func(operator string) error {
		return r.object("Condition "+operator, func(key string) error {
			c := sourceCondition{operator: operator, key: key}
			err := r.oneOrMore(func(t json.Token) error {
				value, ok := scalar(t)
				if !ok {
					return fmt.Errorf("Condition %s %s must be a value or a list of values", operator, key)
				}
				c.values = append(c.values, value)
				return nil
			})
			all = append(all, c)
			return err
		})
	})
	return all, err
}

// scalar gives the text of a condition's value: numbers and Booleans stand
// for their texts.
func scalar(t json.Token) (string, bool) {
	switch v := t.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	default:
		return "", false
	}
}

// texts reads a string or a list of strings. None may be empty, nor the list:
// an empty NotAction would match everything.
func (r reader) texts(what string) ([]string, error) {
	var all []string
	err := r.oneOrMore(func(t json.Token) error {
		s, ok := t.(string)
		if !ok {
			return fmt.Errorf("%s must be a string or a list of strings", what)
		}
		if s == "" {
			return fmt.Errorf("%s has an empty string", what)
		}
		all = append(all, s)
		return nil
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s is an empty list", what)
	}
	return all, err
}

func (r reader) text(what string) (string, error) {
	t, err := r.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("%s must be a string", what)
	}
	return s, nil
}

// oneOrMore calls one with the first token of a value, or of each value of a list.
func (r reader) oneOrMore(one func(first json.Token) error) error {
	t, err := r.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('[') {
		return one(t)
	}
	for r.More() {
		t, err := r.Token()
		if err != nil {
			return err
		}
		if err := one(t); err != nil {
			return err
		}
	}
	_, err = r.Token() // the closing bracket
	return err
}

// object reads an object and calls member, which must read the value, for
// each of its members.
func (r reader) object(what string, member func(name string) error) error {
	t, err := r.Token()
	if err != nil {
		return err
	}
	return r.members(t, what, member)
}

// members is object for when the value's first token is already read.
func (r reader) members(first json.Token, what string, member func(name string) error) error {
	if first != json.Delim('{') {
		return fmt.Errorf("%s must be an object", what)
	}
	seen := map[string]bool{}
	for r.More() {
		t, err := r.Token()
		if err != nil {
			return err
		}
		name := t.(string) // names are strings in well-formed JSON
		if seen[name] {
			return fmt.Errorf("%s has the member %q twice", what, name)
		}
		seen[name] = true
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := r.Token() // the closing brace
	return err
}
