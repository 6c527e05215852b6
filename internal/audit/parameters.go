package audit

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"kastellan.dev/internal/kmsapi"
)

// renamed holds the members that CloudTrail calls otherwise than by their
// lower-camel name, and those it leaves out ("").
var renamed = map[string]string{
	"CloudHsmClusterId": "clusterId",
	"GrantToken":        "",
	"GrantTokens":       "",
	// Certificates, as long as all the rest; and what attests a recipient, which
	// stands in the additional data.
	"TrustAnchorCertificate": "",
	"TrustAnchor":            "",
	"SignedCert":             "",
	"Certificates":           "",
	"Recipient":              "",
}

// metadata has members of its own names.
var metadata = reflect.TypeFor[kmsapi.KeyMetadata]()

// Parameters turns a request or response structure of kmsapi into the object
// that stands in a record: names in lower camel case; sensitive members,
// blobs and zero values left out, but for those that an answer always has. It
// is nil when nothing is left.
func Parameters(in any) json.RawMessage {
	v := reflect.ValueOf(in)
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	if out := appendStruct(nil, v); len(out) > len("{}") {
		return out
	}
	return nil
}

// shown is a member that may stand in a record.
type shown struct {
	index  int
	name   string
	always bool // also when it is zero
}

// plans holds the members to show by type, worked out once.
var plans sync.Map // reflect.Type → []shown

func plan(t reflect.Type) []shown {
	if p, ok := plans.Load(t); ok {
		return p.([]shown)
	}
	var p []shown
	for i := range t.NumField() {
		name, flags := member(t, t.Field(i))
		if name != "" && !strings.Contains(flags, "sensitive") && !isBlob(t.Field(i).Type) {
			p = append(p, shown{index: i, name: name, always: strings.Contains(flags, "always")})
		}
	}
	plans.Store(t, p)
	return p
}

// member gives the name of a field in a record, "" for one that is left out, and its flags.
func member(t reflect.Type, f reflect.StructField) (name, flags string) {
	name, flags, _ = strings.Cut(f.Tag.Get("aws"), ",")
	if other, ok := renamed[name]; ok && t != metadata {
		return other, flags
	}
	r, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToLower(r)) + name[size:], flags
}

func isBlob(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

func appendStruct(dst []byte, v reflect.Value) []byte {
	dst = append(dst, '{')
	first := true
	for _, m := range plan(v.Type()) {
		f := v.Field(m.index)
		if f.IsZero() && !m.always {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendString(dst, m.name), ':')
		dst = appendValue(dst, f)
	}
	return append(dst, '}')
}

var timeType = reflect.TypeFor[kmsapi.Time]()

func appendValue(dst []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Pointer:
		return appendValue(dst, v.Elem())
	case reflect.String:
		return appendString(dst, v.String())
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool())
	case reflect.Int32, reflect.Int64, reflect.Int:
		return strconv.AppendInt(dst, v.Int(), 10)
	case reflect.Slice:
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, v.Index(i))
		}
		return append(dst, ']')
	case reflect.Map:
		return appendMap(dst, v)
	case reflect.Struct:
		if v.Type() == timeType {
			return appendString(dst, v.Interface().(kmsapi.Time).UTC().Format("Jan 2, 2006, 3:04:05 PM"))
		}
		return appendStruct(dst, v)
	default:
		return append(dst, "null"...) // a kind that kmsapi does not have
	}
}

// appendMap takes maps of strings, and maps of lists of strings. The first ones are in every other record.
func appendMap(dst []byte, v reflect.Value) []byte {
	if m, ok := v.Interface().(map[string]string); ok {
		return appendSorted(dst, m, appendString)
	}
	lists, _ := v.Interface().(map[string][]string)
	return appendSorted(dst, lists, func(dst []byte, list []string) []byte { return appendValue(dst, reflect.ValueOf(list)) })
}

func appendSorted[V any](dst []byte, m map[string]V, value func(dst []byte, v V) []byte) []byte {
	keys := make([]string, 0, 8)
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	dst = append(dst, '{')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, k), ':')
		dst = value(dst, m[k])
	}
	return append(dst, '}')
}
