package awsjson

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Document is a body that is known to be a JSON object.
type Document struct {
	body []byte
	root int // where the object begins
}

// Parse checks the grammar of a body, which must not change while the Document
// is used. Nothing at all is the empty object. The error is a *kmsapi.Error
// with the code SerializationException.
func Parse(body []byte) (Document, error) {
	s := scanner{body, 0}
	s.space()
	root := s.i
	if root == len(body) {
		return Document{body: []byte("{}")}, nil
	}
	if body[root] != '{' {
		return Document{}, malformed("The request body must be a JSON object.")
	}
	if !s.value(maxDepth) {
		return Document{}, malformed("The request body is not valid JSON at byte %d.", s.i)
	}
	s.space()
	if s.i != len(body) {
		return Document{}, malformed("The request body has more than one JSON value.")
	}
	if !utf8.Valid(body) {
		return Document{}, malformed("The request body is not valid UTF-8.")
	}
	return Document{body, root}, nil
}

// Decode is Parse and [Document.Decode].
func Decode(body []byte, into any) error {
	d, err := Parse(body)
	if err != nil {
		return err
	}
	return d.Decode(into)
}

// Decode fills the structure that into points to, whose members should be
// zero, and checks the constraints of their tags. Nothing of the body is kept.
//
// A member of another JSON type than it should be is a SerializationException;
// constraints that do not hold are one ValidationException that tells up to
// ten of them. Both are *kmsapi.Error; any other error is the program's own.
func (d Document) Decode(into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("awsjson: cannot decode into %T", into)
	}
	p, err := planOf(v.Type().Elem())
	if err != nil {
		return err
	}
	r := reader{body: d.body}
	if err := r.structure(p, v.Elem(), d.root); err != nil {
		return err
	}
	return r.broken.err()
}

// reader decodes one Document.
type reader struct {
	body   []byte
	broken violations
}

// structure decodes in the order of the type, not of the body: so the last of
// duplicates is the only one that is looked at, and clauses of errors come in
// a fixed order.
func (r *reader) structure(p *plan, v reflect.Value, i int) error {
	var begins [maxMembers]int // of each member's value; zero is absent
	for name, begin := range members(r.body, i) {
		if m, known := p.byName[string(name)]; known {
			begins[m] = begin
		}
	}
	for i := range p.members {
		m, begin := &p.members[i], begins[i]
		if begin == 0 || r.body[begin] == 'n' { // null
			r.broken.absent(m)
			continue
		}
		if err := r.member(m, v.Field(m.index), begin); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) member(m *member, v reflect.Value, i int) error {
	if m.pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch m.kind {
	case kindString, kindSecretString:
		return r.text(m, v, i)
	case kindBlob, kindSecretBlob:
		return r.blob(m, v, i)
	case kindInteger:
		return r.integer(m, v, i)
	case kindBool:
		return r.boolean(m, v, i)
	case kindTime:
		return r.time(m, v, i)
	case kindMap:
		return r.stringMap(m, v, i)
	case kindMapOfLists:
		return r.mapOfLists(m, v, i)
	case kindList:
		return r.list(m, v, i)
	default:
		return r.nested(m, v, i)
	}
}

// inside gives the content of the string at i; false if it is none.
func (r *reader) inside(i int) ([]byte, bool) {
	if r.body[i] != '"' {
		return nil, false
	}
	return unquote(r.body[i+1 : afterText(r.body, i)-1]), true
}

func (r *reader) text(m *member, v reflect.Value, i int) error {
	inside, ok := r.inside(i)
	if !ok {
		return malformed("The member %s must be a string.", m.name)
	}
	s := string(inside)
	r.broken.text(m, s)
	if m.kind == kindSecretString {
		*v.Addr().Interface().(*secret.Text) = secret.NewText(s)
		return nil
	}
	v.SetString(s)
	return nil
}

func (r *reader) blob(m *member, v reflect.Value, i int) error {
	inside, ok := r.inside(i)
	if !ok || bytes.ContainsAny(inside, "\r\n") { // which package base64 skips
		return malformed("The member %s must be a string in base64.", m.name)
	}
	encoding := base64.StdEncoding.Strict()
	data := make([]byte, encoding.DecodedLen(len(inside)))
	n, err := encoding.Decode(data, inside)
	if err != nil {
		return malformed("The member %s must be a string in base64.", m.name)
	}
	r.broken.size(m, n)
	if m.kind == kindSecretBlob {
		*v.Addr().Interface().(*secret.Bytes) = secret.New(data[:n])
		return nil
	}
	v.SetBytes(data[:n])
	return nil
}

func (r *reader) integer(m *member, v reflect.Value, i int) error {
	n, err := strconv.ParseInt(string(r.body[i:after(r.body, i)]), 10, 32)
	if err != nil {
		return malformed("The member %s must be an integer of 32 bits.", m.name)
	}
	r.broken.integer(m, n)
	v.SetInt(n)
	return nil
}

func (r *reader) boolean(m *member, v reflect.Value, i int) error {
	switch r.body[i] {
	case 't':
		v.SetBool(true)
	case 'f':
		v.SetBool(false)
	default:
		return malformed("The member %s must be true or false.", m.name)
	}
	return nil
}

// lastSecond is the end of the year 9999, beyond which no timestamp has a text.
const lastSecond = 253402300799

func (r *reader) time(m *member, v reflect.Value, i int) error {
	seconds, err := strconv.ParseFloat(string(r.body[i:after(r.body, i)]), 64)
	if err != nil || seconds < 0 || seconds > lastSecond {
		return malformed("The member %s must be a timestamp: seconds since 1970.", m.name)
	}
	at := time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
	*v.Addr().Interface().(*kmsapi.Time) = kmsapi.Time{Time: at}
	return nil
}

func (r *reader) stringMap(m *member, v reflect.Value, i int) error {
	if r.body[i] != '{' {
		return malformed("The member %s must be an object.", m.name)
	}
	pairs := make(map[string]string)
	for key, begin := range members(r.body, i) {
		value, ok := r.asText(begin)
		if !ok {
			return malformed("The member %s must have strings as values.", m.name)
		}
		pairs[string(key)] = string(value)
	}
	r.broken.size(m, len(pairs))
	*v.Addr().Interface().(*map[string]string) = pairs
	return nil
}

func (r *reader) mapOfLists(m *member, v reflect.Value, i int) error {
	if r.body[i] != '{' {
		return malformed("The member %s must be an object.", m.name)
	}
	lists := make(map[string][]string)
	for key, begin := range members(r.body, i) {
		list, ok := r.texts(begin)
		if !ok {
			return malformed("The member %s must have lists of strings as values.", m.name)
		}
		lists[string(key)] = list
	}
	r.broken.size(m, len(lists))
	*v.Addr().Interface().(*map[string][]string) = lists
	return nil
}

// texts gives the strings of the list at i; false if it is none, or one of anything else.
func (r *reader) texts(i int) (list []string, ok bool) {
	if r.body[i] != '[' {
		return nil, false
	}
	list = []string{}
	for begin := range elements(r.body, i) {
		inside, ok := r.inside(begin)
		if !ok {
			return nil, false
		}
		list = append(list, string(inside))
	}
	return list, true
}

// asText gives the text of a value in a map. KMS takes a number and a boolean in an
// encryption context for strings; they are as they were written.
func (r *reader) asText(i int) ([]byte, bool) {
	switch c := r.body[i]; {
	case c == '-', '0' <= c && c <= '9', c == 't', c == 'f':
		return r.body[i:after(r.body, i)], true
	default:
		return r.inside(i)
	}
}

func (r *reader) list(m *member, v reflect.Value, i int) error {
	if r.body[i] != '[' {
		return malformed("The member %s must be a list.", m.name)
	}
	count := 0
	for range elements(r.body, i) {
		count++
	}
	v.Set(reflect.MakeSlice(v.Type(), count, count))
	n := 0
	for begin := range elements(r.body, i) {
		if err := r.element(m, v.Index(n), n, begin); err != nil {
			return err
		}
		n++
	}
	r.broken.list(m, v)
	return nil
}

func (r *reader) element(m *member, v reflect.Value, n, i int) error {
	if m.element.kind == kindString {
		inside, ok := r.inside(i)
		if !ok {
			return malformed("The member %s must be a list of strings.", m.name)
		}
		v.SetString(string(inside))
		return nil
	}
	if r.body[i] != '{' {
		return malformed("The member %s must be a list of objects.", m.name)
	}
	outer := r.broken.enter()
	err := r.structure(m.element.plan, v, i)
	r.broken.leave(outer, m.path+"."+strconv.Itoa(n+1)+".member.")
	return err
}

func (r *reader) nested(m *member, v reflect.Value, i int) error {
	if r.body[i] != '{' {
		return malformed("The member %s must be an object.", m.name)
	}
	outer := r.broken.enter()
	err := r.structure(m.plan, v, i)
	r.broken.leave(outer, m.path+".")
	return err
}
