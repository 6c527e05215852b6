package awsquery

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Form is a request's parameters.
type Form struct{ values url.Values }

// Parse reads the parameters of a query string and of a body; either may be
// empty. The error is a *kmsapi.Error with the code SerializationException.
func Parse(query string, body []byte) (Form, error) {
	all := make(url.Values)
	for _, text := range []string{query, string(body)} {
		values, err := url.ParseQuery(text)
		if err != nil {
			return Form{}, malformed("The parameters cannot be decoded.")
		}
		for name, given := range values {
			all[name] = append(all[name], given...)
		}
	}
	for name, given := range all {
		if len(given) != 1 {
			return Form{}, malformed("A parameter is given more than once.")
		}
		if !utf8.ValidString(name) || !utf8.ValidString(given[0]) {
			return Form{}, malformed("The parameters are not valid UTF-8.")
		}
	}
	return Form{all}, nil
}

// Get gives a parameter, "" if it is not there.
func (f Form) Get(name string) string { return f.values.Get(name) }

// Decode fills the structure that into points to and checks the constraints of
// its tags; see [awsjson.Document.Decode]. Parameters that the structure does not
// have are ignored, unless they are in lists.
func (f Form) Decode(into any) error {
	w := writer{form: f.values, used: make(map[string]bool)}
	if err := w.structure(reflect.TypeOf(into).Elem(), ""); err != nil {
		return err
	}
	for name := range f.values {
		if strings.Contains(name, ".member.") && !w.used[name] {
			return malformed("A parameter of a list is not a member that the list has, counted from 1 on.")
		}
	}
	return awsjson.Decode(w.out, into)
}

// writer writes a form as the JSON object of a structure.
type writer struct {
	form url.Values
	used map[string]bool
	out  []byte
}

var textType = reflect.TypeFor[secret.Text]()

func (w *writer) structure(t reflect.Type, prefix string) error {
	separator := byte('{')
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("aws"), ",")
		member, path := t.Field(i).Type, prefix+name
		if member.Kind() == reflect.Pointer {
			member = member.Elem()
		}
		if !w.has(member, path) {
			continue
		}
		key, _ := json.Marshal(name)
		w.out = append(append(append(w.out, separator), key...), ':')
		separator = ','
		if err := w.value(member, path); err != nil {
			return err
		}
	}
	if separator == '{' {
		w.out = append(w.out, '{')
	}
	w.out = append(w.out, '}')
	return nil
}

// has tells whether the form has a member.
func (w *writer) has(t reflect.Type, path string) bool {
	switch {
	case t.Kind() == reflect.Slice:
		return w.has(t.Elem(), path+".member.1")
	case t.Kind() == reflect.Struct && t != textType:
		for name := range w.form {
			if strings.HasPrefix(name, path+".") {
				return true
			}
		}
		return false
	}
	return w.form.Has(path)
}

func (w *writer) value(t reflect.Type, path string) error {
	switch {
	case t.Kind() == reflect.Slice:
		return w.list(t.Elem(), path+".member.")
	case t.Kind() == reflect.Struct && t != textType:
		return w.structure(t, path+".")
	}
	w.used[path] = true
	text := w.form.Get(path)
	if t.Kind() != reflect.Int32 {
		quoted, _ := json.Marshal(text) // a string cannot fail
		w.out = append(w.out, quoted...)
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return malformed("The parameter %s must be an integer of 32 bits.", path)
	}
	w.out = strconv.AppendInt(w.out, n, 10)
	return nil
}

func (w *writer) list(element reflect.Type, prefix string) error {
	separator := byte('[')
	for n := 1; w.has(element, prefix+strconv.Itoa(n)); n++ {
		w.out = append(w.out, separator)
		separator = ','
		if err := w.value(element, prefix+strconv.Itoa(n)); err != nil {
			return err
		}
	}
	w.out = append(w.out, ']')
	return nil
}

func malformed(format string, args ...any) error {
	return kmsapi.Errorf(kmsapi.Serialization, format, args...)
}
