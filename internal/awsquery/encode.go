package awsquery

import (
	"bytes"
	"encoding/xml"
	"reflect"
	"strconv"
	"strings"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Append appends the answer of an operation. out is a pointer to a structure of
// which members that are zero are left out. Secrets are written in clear: the wire
// is what they are kept for.
func Append(dst []byte, namespace, operation, requestID string, out any) []byte {
	b := bytes.NewBuffer(dst)
	b.WriteString("<" + operation + `Response xmlns="` + namespace + `">`)
	within(b, operation+"Result", func() { structure(b, reflect.ValueOf(out).Elem()) })
	within(b, "ResponseMetadata", func() { text(b, "RequestId", requestID) })
	b.WriteString("</" + operation + "Response>")
	return b.Bytes()
}

// AppendError appends an error. faults of the server are those with a status of 500 and above.
func AppendError(dst []byte, namespace, requestID, code, message string, status int) []byte {
	kind := "Sender"
	if status >= 500 {
		kind = "Receiver"
	}
	b := bytes.NewBuffer(dst)
	b.WriteString(`<ErrorResponse xmlns="` + namespace + `">`)
	within(b, "Error", func() {
		text(b, "Type", kind)
		text(b, "Code", code)
		text(b, "Message", message)
	})
	text(b, "RequestId", requestID)
	b.WriteString("</ErrorResponse>")
	return b.Bytes()
}

func within(b *bytes.Buffer, name string, content func()) {
	b.WriteString("<" + name + ">")
	content()
	b.WriteString("</" + name + ">")
}

func text(b *bytes.Buffer, name, value string) {
	within(b, name, func() { _ = xml.EscapeText(b, []byte(value)) }) // a buffer cannot fail
}

func structure(b *bytes.Buffer, v reflect.Value) {
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("aws"), ",")
		if field := v.Field(i); !field.IsZero() {
			value(b, name, field)
		}
	}
}

func value(b *bytes.Buffer, name string, v reflect.Value) {
	switch held := v.Interface().(type) {
	case secret.Text:
		text(b, name, held.Reveal())
		return
	case kmsapi.Time:
		text(b, name, held.UTC().Format(time.RFC3339))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		value(b, name, v.Elem())
	case reflect.Int32:
		text(b, name, strconv.FormatInt(v.Int(), 10))
	case reflect.Struct:
		within(b, name, func() { structure(b, v) })
	default:
		text(b, name, v.String())
	}
}
