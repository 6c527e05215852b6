package audit

import (
	"encoding/json"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"kastellan.dev/internal/kmsapi"
)

// renamed holds the members that CloudTrail calls otherwise than by their
// lower-camel name, and those it leaves out ("").
var renamed = map[string]string{
	"CloudHsmClusterId": "clusterId",
	"GrantTokens":       "",
}

// Parameters turns a request or response structure of kmsapi into the object
// that stands in a record: names in lower camel case; sensitive members,
// blobs and zero values left out. It is nil when nothing is left.
func Parameters(in any) json.RawMessage {
	fields := object(reflect.ValueOf(in))
	if len(fields) == 0 {
		return nil
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return nil
	}
	return out
}

func object(v reflect.Value) map[string]any {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	fields := make(map[string]any)
	for i := range v.NumField() {
		name, sensitive := member(v.Type().Field(i))
		f := v.Field(i)
		if name == "" || sensitive || f.IsZero() || isBlob(f.Type()) {
			continue
		}
		fields[name] = value(f)
	}
	return fields
}

// member gives the name of a field in a record, "" for one that is left out.
func member(f reflect.StructField) (name string, sensitive bool) {
	name, flags, _ := strings.Cut(f.Tag.Get("aws"), ",")
	if other, ok := renamed[name]; ok {
		return other, false
	}
	r, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToLower(r)) + name[size:], strings.Contains(flags, "sensitive")
}

func isBlob(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

func value(v reflect.Value) any {
	if t, ok := v.Interface().(*kmsapi.Time); ok {
		return t.UTC().Format("Jan 2, 2006, 3:04:05 PM")
	}
	switch v.Kind() {
	case reflect.Pointer:
		return value(v.Elem())
	case reflect.Struct:
		return object(v)
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = value(v.Index(i))
		}
		return list
	default:
		return v.Interface()
	}
}
