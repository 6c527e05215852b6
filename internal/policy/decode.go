package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// reader walks over JSON that is already known to be well formed. Unlike
// json.Unmarshal it sees members that are given twice, of which two readers
// of one policy might believe different ones.
type reader struct{ *json.Decoder }

func decode(doc []byte) (*Document, error) {
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

func (r reader) document() (*Document, error) {
	d := &Document{Version: Version2008}
	err := r.object("the document", func(name string) (err error) {
		switch name {
		case "Version":
			d.Version, err = r.text(name)
			if err == nil && d.Version != Version2012 && d.Version != Version2008 {
				err = fmt.Errorf("Version %q is neither %q nor %q", d.Version, Version2012, Version2008)
			}
		case "Id":
			d.ID, err = r.text(name)
		case "Statement":
			d.Statements, err = r.statements()
		default:
			err = fmt.Errorf("the document has an unknown member %q", name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(d.Statements) == 0 {
		return nil, errors.New("the document has no Statement")
	}
	return d, nil
}

// statements reads one statement or a list of them.
func (r reader) statements() ([]Statement, error) {
	var all []Statement
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

func (r reader) statement(first json.Token) (s Statement, err error) {
	var actionElement, resourceElement string
	err = r.members(first, "it", func(name string) (err error) {
		switch name {
		case "Sid":
			s.Sid, err = r.text(name)
		case "Effect":
			var effect string
			effect, err = r.text(name)
			s.Effect = Effect(effect)
			if err == nil && s.Effect != EffectAllow && s.Effect != EffectDeny {
				err = fmt.Errorf("Effect %q is neither Allow nor Deny", effect)
			}
		case "Principal":
			s.Principal, err = r.principals(name)
		case "NotPrincipal":
			s.NotPrincipal, err = r.principals(name)
		case "Action", "NotAction":
			s.action, err = r.selector(name, &actionElement, foldASCII)
		case "Resource", "NotResource":
			s.resource, err = r.selector(name, &resourceElement, nil)
		case "Condition":
			s.Condition, err = r.conditions()
		default:
			err = fmt.Errorf("it has an unknown member %q", name)
		}
		return err
	})
	switch {
	case err != nil:
		return s, err
	case s.Effect == "":
		return s, errors.New("Effect is missing")
	case s.Principal != nil && s.NotPrincipal != nil:
		return s, errors.New("it has both Principal and NotPrincipal")
	}
	return s, nil
}

// selector reads an element such as Action or NotAction. seen is the element
// that was read before it, since a statement has only one of the two.
func (r reader) selector(name string, seen *string, fold func(string) string) (selector, error) {
	if *seen != "" {
		return selector{}, fmt.Errorf("it has both %s and %s", *seen, name)
	}
	*seen = name
	patterns, err := r.texts(name)
	if err != nil {
		return selector{}, err
	}
	return newSelector(patterns, name[:3] == "Not", fold), nil
}

func (r reader) principals(name string) (map[string][]string, error) {
	first, err := r.Token()
	if err != nil {
		return nil, err
	}
	if first == "*" {
		return map[string][]string{"AWS": {"*"}}, nil
	}
	all := map[string][]string{}
	err = r.members(first, name, func(kind string) (err error) {
		switch kind {
		case "AWS", "Service", "Federated", "CanonicalUser":
			all[kind], err = r.texts(name + " " + kind)
			return err
		default:
			return fmt.Errorf("%s has an unknown type %q", name, kind)
		}
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s is empty", name)
	}
	return all, err
}

func (r reader) conditions() (map[string]map[string][]string, error) {
	all := map[string]map[string][]string{}
	err := r.object("Condition", func(operator string) error {
		keys := map[string][]string{}
		all[operator] = keys
		return r.object("Condition "+operator, func(key string) error {
			values := []string{}
			err := r.oneOrMore(func(t json.Token) error {
				value, ok := scalar(t)
				if !ok {
					return fmt.Errorf("Condition %s %s must be a value or a list of values", operator, key)
				}
				values = append(values, value)
				return nil
			})
			keys[key] = values
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
