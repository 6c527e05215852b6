// Package apitest holds, in tests, the wire types of an API against those of the
// official SDK: the operations, members, kinds, enumerations and what is required.
// Lengths and patterns are not in the SDK, hence not compared.
package apitest

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Operation has the input and output of an operation; what the SDK makes of
// them is found by the name.
type Operation struct{ In, Out any }

// TypesAreThoseOf compares members, their kinds and the values of enumerations. The
// wire name of a member is the name of the SDK's field. Each operation is a test.
func TypesAreThoseOf(t *testing.T, operations map[string]Operation, client any) {
	sdk := reflect.TypeOf(client)
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method, ok := sdk.MethodByName(name)
			if !ok {
				t.Fatal("the SDK has no such operation")
			}
			// func(*Client, context.Context, *Input, ...func(*Options)) (*Output, error)
			compareStructs(t, "input", reflect.TypeOf(op.In), method.Type.In(2).Elem())
			compareStructs(t, "output", reflect.TypeOf(op.Out), method.Type.Out(0).Elem())
		})
	}
}

// NoneIsMissing tells which operations the SDK has beyond these.
func NoneIsMissing(t *testing.T, operations map[string]Operation, client any) {
	sdk := reflect.TypeOf(client)
	for i := range sdk.NumMethod() {
		name := sdk.Method(i).Name
		if _, ok := operations[name]; !ok && name != "Options" {
			t.Errorf("%s is missing", name)
		}
	}
}

// RequiredAreThoseOf compares which members are required: the SDK refuses an empty
// input before it sends anything, and names what it lacks. The client needs the
// HTTP client NoNetwork, and to try once. Each operation is a test.
func RequiredAreThoseOf(t *testing.T, operations map[string]Operation, client any) {
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method := reflect.ValueOf(client).MethodByName(name)
			empty := reflect.New(method.Type().In(1).Elem())
			answers := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), empty})
			var missing smithy.InvalidParamsError
			var want []string
			if errors.As(answers[1].Interface().(error), &missing) {
				for _, e := range missing.Errs() {
					_, field, _ := strings.Cut(e.(smithy.InvalidParamError).Field(), ".")
					want = append(want, field)
				}
			}
			slices.Sort(want)
			if got := requiredOf(reflect.TypeOf(op.In)); !slices.Equal(got, want) {
				t.Errorf("required are %v, the SDK's %v", got, want)
			}
		})
	}
}

// NoNetwork is an HTTP client that reaches nobody.
type NoNetwork struct{}

// Do fails.
func (NoNetwork) Do(*http.Request) (*http.Response, error) { return nil, errors.New("no network") }

func requiredOf(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("aws"), ",")
		if slices.Contains(strings.Split(options, ","), "required") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func compareStructs(t *testing.T, path string, ours, theirs reflect.Type) {
	members := map[string]reflect.Type{}
	for i := range ours.NumField() {
		name, _, _ := strings.Cut(ours.Field(i).Tag.Get("aws"), ",")
		members[name] = ours.Field(i).Type
	}
	for i := range theirs.NumField() {
		field := theirs.Field(i)
		if !field.IsExported() || field.Type == reflect.TypeFor[middleware.Metadata]() {
			continue
		}
		member, ok := members[field.Name]
		if !ok {
			t.Errorf("%s.%s is missing", path, field.Name)
			continue
		}
		delete(members, field.Name)
		compareTypes(t, path+"."+field.Name, member, field.Type)
	}
	for name := range members {
		t.Errorf("%s.%s is not in the SDK", path, name)
	}
}

func compareTypes(t *testing.T, path string, ours, theirs reflect.Type) {
	kind := kindOf(ours)
	if want := kindOf(theirs); kind != want {
		t.Errorf("%s is a %s, the SDK's a %s", path, kind, want)
		return
	}
	switch kind {
	case "enum":
		if got, want := valuesOf(ours), valuesOf(theirs); !slices.Equal(got, want) {
			t.Errorf("%s has the values\n     %v, the SDK's\n     %v", path, got, want)
		}
	case "list":
		compareTypes(t, path+"[]", ours.Elem(), theirs.Elem())
	case "structure":
		compareStructs(t, path, pointee(ours), pointee(theirs))
	}
}

func kindOf(t reflect.Type) string {
	t = pointee(t)
	switch t {
	case reflect.TypeFor[kmsapi.Time](), reflect.TypeFor[time.Time]():
		return "timestamp"
	case reflect.TypeFor[[]byte](), reflect.TypeFor[secret.Bytes]():
		return "blob"
	case reflect.TypeFor[secret.Text]():
		return "string"
	case reflect.TypeFor[map[string]string]():
		return "map of strings"
	case reflect.TypeFor[map[string][]string]():
		return "map of lists of strings"
	}
	switch t.Kind() {
	case reflect.String:
		if _, ok := t.MethodByName("Values"); ok {
			return "enum"
		}
		return "string"
	case reflect.Slice:
		return "list"
	case reflect.Struct:
		return "structure"
	default:
		return t.Kind().String()
	}
}

func pointee(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// valuesOf calls the Values method that the enumerations of both sides have.
func valuesOf(t reflect.Type) (values []string) {
	list := reflect.Zero(t).MethodByName("Values").Call(nil)[0]
	for i := range list.Len() {
		values = append(values, list.Index(i).String())
	}
	slices.Sort(values)
	return values
}
