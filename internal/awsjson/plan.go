package awsjson

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// kind is what a member is on the wire and in Go.
type kind int

const (
	kindString kind = iota
	kindBlob
	kindSecretBlob
	kindSecretString
	kindInteger
	kindBool
	kindTime
	kindMap
	kindMapOfLists
	kindList
	kindStruct
)

// shape is a kind with what it consists of.
type shape struct {
	kind    kind
	pointer bool     // the Go type is a pointer to the kind's type
	element *shape   // of a list
	plan    *plan    // of a structure
	enum    []string // of a string; nil if any will do
}

// member is one field of a structure.
type member struct {
	shape
	index     int
	name      string // on the wire
	path      string // in texts of errors: the name with a small first letter
	required  bool
	empty     bool
	always    bool
	sensitive bool
	length    *limits
	each      *limits
	value     *limits
	pattern   *pattern
}

// limits are the bounds of a length or a value; nil has none.
type limits struct{ min, max *int }

// pattern is a regular expression as AWS writes it, and the same for the whole of a string.
type pattern struct {
	text  string
	whole *regexp.Regexp
}

// unicodeEscapes are what Go's regular expressions write in another way.
var unicodeEscapes = regexp.MustCompile(`\\u([0-9A-F]{4})`)

// plan is a compiled structure type.
type plan struct {
	members []member
	byName  map[string]int
}

// maxMembers is how many members a structure may have.
const maxMembers = 64

var plans sync.Map // reflect.Type of a structure to *plan

// Prepare compiles the type of v, a structure or a pointer to one. It tells
// what is wrong with the type's tags; programs call it when they start.
func Prepare(v any) error {
	t := reflect.TypeOf(v)
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	_, err := planOf(t)
	return err
}

func planOf(t reflect.Type) (*plan, error) {
	if t == nil || t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("awsjson: %v is not a structure", t)
	}
	if p, ok := plans.Load(t); ok {
		return p.(*plan), nil
	}
	p, err := compile(t)
	if err != nil {
		return nil, err
	}
	actual, _ := plans.LoadOrStore(t, p)
	return actual.(*plan), nil
}

func compile(t reflect.Type) (*plan, error) {
	if t.NumField() > maxMembers {
		return nil, fmt.Errorf("awsjson: %v has more than %d fields", t, maxMembers)
	}
	p := &plan{byName: make(map[string]int, t.NumField())}
	for i := range t.NumField() {
		m, err := compileMember(t.Field(i))
		if err != nil {
			return nil, fmt.Errorf("awsjson: %v.%s: %w", t, t.Field(i).Name, err)
		}
		if _, twice := p.byName[m.name]; twice {
			return nil, fmt.Errorf("awsjson: %v has two members %s", t, m.name)
		}
		m.index = i
		p.byName[m.name] = i
		p.members = append(p.members, m)
	}
	return p, nil
}

func compileMember(f reflect.StructField) (m member, err error) {
	if err := m.parseName(f.Tag.Get("aws")); err != nil {
		return m, err
	}
	if m.shape, err = shapeOf(f.Type); err != nil {
		return m, err
	}
	if m.length, err = parseLimits(f.Tag.Get("len")); err != nil {
		return m, err
	}
	if m.each, err = parseLimits(f.Tag.Get("each")); err != nil {
		return m, err
	}
	if m.value, err = parseLimits(f.Tag.Get("range")); err != nil {
		return m, err
	}
	if text := f.Tag.Get("pattern"); text != "" {
		whole, err := regexp.Compile(`\A(?:` + unicodeEscapes.ReplaceAllString(text, `\x{$1}`) + `)\z`)
		if err != nil {
			return m, err
		}
		m.pattern = &pattern{text, whole}
	}
	return m, m.misfit()
}

func (m *member) parseName(tag string) error {
	name, options, _ := strings.Cut(tag, ",")
	if name == "" {
		return fmt.Errorf("no name in the tag aws:%q", tag)
	}
	m.name = name
	m.path = strings.ToLower(name[:1]) + name[1:]
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "":
		case "required":
			m.required = true
		case "sensitive":
			m.sensitive = true
		case "empty":
			m.empty = true
		case "always":
			m.always = true
		default:
			return fmt.Errorf("unknown option %q", option)
		}
	}
	return nil
}

// misfit finds tags that say nothing about a member of this kind: they would
// look like a check and be none.
func (m *member) misfit() error {
	text := m.kind == kindString || m.kind == kindSecretString
	blob := m.kind == kindBlob || m.kind == kindSecretBlob
	switch {
	case m.length != nil && !text && !blob && m.kind != kindList && m.kind != kindMap && m.kind != kindMapOfLists:
		return fmt.Errorf("len on something without a length")
	case m.each != nil && (m.kind != kindList || m.element.kind != kindString):
		return fmt.Errorf("each on something that is not a list of strings")
	case m.value != nil && m.kind != kindInteger:
		return fmt.Errorf("range on something that is not an integer")
	case m.pattern != nil && !text && (m.kind != kindList || m.element.kind != kindString):
		return fmt.Errorf("pattern on something that is not a string or a list of strings")
	case m.empty && (m.kind != kindString || m.required):
		return fmt.Errorf("empty on something that is not an optional string")
	case m.sensitive && (m.kind == kindStruct || m.kind == kindList):
		return fmt.Errorf("sensitive on a structure or list; its members can be")
	default:
		return nil
	}
}

var (
	timeType        = reflect.TypeFor[kmsapi.Time]()
	secretBytesType = reflect.TypeFor[secret.Bytes]()
	secretTextType  = reflect.TypeFor[secret.Text]()
	bytesType       = reflect.TypeFor[[]byte]()
	mapType         = reflect.TypeFor[map[string]string]()
	mapOfListsType  = reflect.TypeFor[map[string][]string]()
	valuerType      = reflect.TypeFor[interface{ Values() []string }]()
)

func shapeOf(t reflect.Type) (shape, error) {
	if t.Kind() == reflect.Pointer {
		s, err := shapeOf(t.Elem())
		s.pointer = true
		if err == nil && (t.Elem().Kind() == reflect.Pointer || s.kind != kindStruct && s.kind != kindInteger && s.kind != kindBool && s.kind != kindTime && s.kind != kindString) {
			err = fmt.Errorf("no member can be of type %v", t)
		}
		return s, err
	}
	switch {
	case t == timeType:
		return shape{kind: kindTime}, nil
	case t == secretBytesType:
		return shape{kind: kindSecretBlob}, nil
	case t == secretTextType:
		return shape{kind: kindSecretString}, nil
	case t == bytesType:
		return shape{kind: kindBlob}, nil
	case t == mapType:
		return shape{kind: kindMap}, nil
	case t == mapOfListsType:
		return shape{kind: kindMapOfLists}, nil
	case t.Kind() == reflect.String:
		return shape{kind: kindString, enum: enumOf(t)}, nil
	case t.Kind() == reflect.Int32:
		return shape{kind: kindInteger}, nil
	case t.Kind() == reflect.Bool:
		return shape{kind: kindBool}, nil
	case t.Kind() == reflect.Slice:
		return listOf(t.Elem())
	case t.Kind() == reflect.Struct:
		p, err := planOf(t)
		return shape{kind: kindStruct, plan: p}, err
	default:
		return shape{}, fmt.Errorf("no member can be of type %v", t)
	}
}

func listOf(element reflect.Type) (shape, error) {
	s, err := shapeOf(element)
	if err == nil && (s.pointer || s.kind != kindString && s.kind != kindStruct) {
		err = fmt.Errorf("no list can be of %v", element)
	}
	return shape{kind: kindList, element: &s}, err
}

func enumOf(t reflect.Type) []string {
	if !t.Implements(valuerType) {
		return nil
	}
	return slices.Clone(reflect.Zero(t).Interface().(interface{ Values() []string }).Values())
}

// parseLimits reads "min,max"; either side may be empty.
func parseLimits(tag string) (*limits, error) {
	if tag == "" {
		return nil, nil
	}
	low, high, ok := strings.Cut(tag, ",")
	if !ok {
		return nil, fmt.Errorf("%q is not of the form min,max", tag)
	}
	var l limits
	for _, side := range []struct {
		text string
		into **int
	}{{low, &l.min}, {high, &l.max}} {
		if side.text == "" {
			continue
		}
		n, err := strconv.Atoi(side.text)
		if err != nil {
			return nil, err
		}
		*side.into = &n
	}
	return &l, nil
}
