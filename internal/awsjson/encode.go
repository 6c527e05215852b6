package awsjson

import (
	"encoding/base64"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Append appends the body that says v, a structure or a pointer to one.
//
// Members that are zero are left out, unless they are marked "always" or
// "required"; a nil pointer always is. [kmsapi.Empty] and a nil pointer append
// nothing, which is the body of operations without an output. Secrets are
// written in clear: the wire is what they are kept for. What is not valid
// UTF-8 becomes U+FFFD.
//
// Append panics if the type of v cannot be compiled; see [Prepare].
func Append(dst []byte, v any) []byte {
	value := reflect.ValueOf(v)
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	if !value.IsValid() || value.Type() == emptyType {
		return dst
	}
	p, err := planOf(value.Type())
	if err != nil {
		panic(err)
	}
	return appendStruct(dst, p, value)
}

var emptyType = reflect.TypeFor[kmsapi.Empty]()

func appendStruct(dst []byte, p *plan, v reflect.Value) []byte {
	separator := byte('{')
	for i := range p.members {
		m := &p.members[i]
		field := v.Field(m.index)
		if m.omit(field) {
			continue
		}
		dst = append(dst, separator, '"')
		dst = append(dst, m.name...)
		dst = append(dst, '"', ':')
		dst = appendValue(dst, &m.shape, field)
		separator = ','
	}
	if separator == '{' {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}

// omit tells whether a response goes without the member.
func (m *member) omit(v reflect.Value) bool {
	switch {
	case m.pointer:
		return v.IsNil()
	case m.always || m.required:
		return false
	}
	switch m.kind {
	case kindBlob, kindList, kindMap, kindMapOfLists:
		return v.Len() == 0
	case kindSecretBlob:
		return secretBytes(v).Len() == 0
	default:
		return v.IsZero()
	}
}

func appendValue(dst []byte, s *shape, v reflect.Value) []byte {
	if s.pointer {
		v = v.Elem()
	}
	switch s.kind {
	case kindString:
		return appendString(dst, v.String())
	case kindSecretString:
		return appendString(dst, v.Interface().(secret.Text).Reveal())
	case kindBlob:
		return appendBlob(dst, v.Bytes())
	case kindSecretBlob:
		return appendBlob(dst, secretBytes(v).Reveal())
	case kindInteger:
		return strconv.AppendInt(dst, v.Int(), 10)
	case kindBool:
		return strconv.AppendBool(dst, v.Bool())
	case kindTime:
		return appendTime(dst, v.Interface().(kmsapi.Time))
	case kindMap:
		return appendMap(dst, v.Interface().(map[string]string), appendString)
	case kindMapOfLists:
		return appendMap(dst, v.Interface().(map[string][]string), appendStrings)
	case kindList:
		return appendList(dst, s.element, v)
	default:
		return appendStruct(dst, s.plan, v)
	}
}

// secretBytes avoids the allocation of an interface where it can.
func secretBytes(v reflect.Value) secret.Bytes {
	if v.CanAddr() {
		return *v.Addr().Interface().(*secret.Bytes)
	}
	return v.Interface().(secret.Bytes)
}

func appendList(dst []byte, element *shape, v reflect.Value) []byte {
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendValue(dst, element, v.Index(i))
	}
	return append(dst, ']')
}

// appendMap sorts, so that equal responses are equal bytes.
func appendMap[V any](dst []byte, pairs map[string]V, appendOne func([]byte, V) []byte) []byte {
	dst = append(dst, '{')
	for i, key := range slices.Sorted(maps.Keys(pairs)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, key)
		dst = append(dst, ':')
		dst = appendOne(dst, pairs[key])
	}
	return append(dst, '}')
}

func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}

func appendBlob(dst, data []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, '"')
}

// appendTime writes seconds with as many decimals as milliseconds need.
func appendTime(dst []byte, t kmsapi.Time) []byte {
	milliseconds := t.UnixMilli()
	if milliseconds < 0 {
		dst = append(dst, '-')
		milliseconds = -milliseconds
	}
	dst = strconv.AppendInt(dst, milliseconds/1000, 10)
	fraction := milliseconds % 1000
	if fraction == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+fraction/100), byte('0'+fraction/10%10), byte('0'+fraction%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[from:i]...)
				dst = append(dst, "\ufffd"...)
				from = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			dst = append(dst, s[from:i]...)
			if c < ' ' {
				dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			} else {
				dst = append(dst, '\\', c)
			}
			from = i + 1
		}
		i++
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}
