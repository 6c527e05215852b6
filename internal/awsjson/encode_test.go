package awsjson_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// answer has members that are always written.
type answer struct {
	Text   string            `aws:"Text,always"`
	Blob   []byte            `aws:"Blob,always"`
	Secret secret.Bytes      `aws:"Secret,always"`
	Flag   bool              `aws:"Flag,always"`
	Number *int32            `aws:"Number,always"`
	Inner  inner             `aws:"Inner,always"`
	Items  []inner           `aws:"Items,always"`
	Pairs  map[string]string `aws:"Pairs,always"`
	Given  string            `aws:"Given,required"`
}

func TestAppend(t *testing.T) {
	t.Parallel()
	at := func(ms int64) *kmsapi.Time { return &kmsapi.Time{Time: time.UnixMilli(ms)} }
	tests := map[string]struct {
		v    any
		want string
	}{
		"an empty body":               {kmsapi.Empty{}, ""},
		"an empty body by pointer":    {&kmsapi.Empty{}, ""},
		"nil":                         {nil, ""},
		"a nil pointer":               {(*everything)(nil), ""},
		"no members":                  {kmsapi.ConnectCustomKeyStoreResponse{}, "{}"},
		"zero members are left out":   {everything{Texts: []string{}, Pairs: map[string]string{}, Blob: []byte{}, Secret: secret.New([]byte{})}, "{}"},
		"zero members that are not":   {answer{}, `{"Text":"","Blob":"","Secret":"","Flag":false,"Inner":{},"Items":[],"Pairs":{},"Given":""}`},
		"pointers to zero":            {everything{Number: new(int32), Choice: new(bool), Inner: new(inner)}, `{"Number":0,"Choice":false,"Inner":{}}`},
		"a pointer to a structure":    {&everything{Text: "a", Flag: true}, `{"Text":"a","Flag":true}`},
		"blobs and secrets":           {everything{Blob: []byte{0, 1, 2, 255}, Secret: secret.New([]byte{0, 1, 2, 255}), Password: secret.NewText("hunter2")}, `{"Blob":"AAEC/w==","Secret":"AAEC/w==","Password":"hunter2"}`},
		"a negative integer":          {everything{Number: new(int32(-2147483648))}, `{"Number":-2147483648}`},
		"lists":                       {everything{Texts: []string{"a", ""}, Enums: []color{"RED"}, Tags: []kmsapi.Tag{{TagKey: "k"}, {TagKey: "l", TagValue: "v"}}}, `{"Texts":["a",""],"Enums":["RED"],"Tags":[{"TagKey":"k","TagValue":""},{"TagKey":"l","TagValue":"v"}]}`},
		"a map, sorted":               {everything{Pairs: map[string]string{"b": "1", "a": "2", "": "3"}}, `{"Pairs":{"":"3","a":"2","b":"1"}}`},
		"a map of lists, sorted":      {everything{Lists: map[string][]string{"b": {"1", "2"}, "a": nil}}, `{"Lists":{"a":[],"b":["1","2"]}}`},
		"structures":                  {everything{Inner: &inner{"a"}, Value: inner{"b"}}, `{"Inner":{"Text":"a"},"Value":{"Text":"b"}}`},
		"a time with milliseconds":    {everything{At: at(1537582718431)}, `{"At":1537582718.431}`},
		"a time with tenths":          {everything{At: at(1537582718400)}, `{"At":1537582718.4}`},
		"a time with thousandths":     {everything{At: at(1537582718001)}, `{"At":1537582718.001}`},
		"a time of whole seconds":     {everything{At: at(1537582718000)}, `{"At":1537582718}`},
		"a time of tens of seconds":   {everything{At: at(1537582710000)}, `{"At":1537582710}`},
		"a time before 1970":          {everything{At: at(-1500)}, `{"At":-1.5}`},
		"a time with nanoseconds":     {everything{At: &kmsapi.Time{Time: time.Unix(1, 999_999_999)}}, `{"At":1.999}`},
		"quotes, backslashes, breaks": {everything{Text: "\"\\\n\r\t\x00\x1f\x7f/"}, `{"Text":"\"\\\u000a\u000d\u0009\u0000\u001f` + "\x7f" + `/"}`},
		"HTML is left alone":          {everything{Text: "<a href='x'>&amp;</a>\u2028"}, `{"Text":"<a href='x'>&amp;</a>` + "\u2028" + `"}`},
		"other alphabets":             {everything{Text: "é€😀\ufffd"}, `{"Text":"é€😀` + "\ufffd" + `"}`},
		"what is not UTF-8":           {everything{Text: "a\xffb\xc3"}, `{"Text":"a` + "\ufffd" + `b` + "\ufffd" + `"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := awsjson.Append([]byte("> "), test.v)
			if string(got) != "> "+test.want {
				t.Errorf("\n got %s\nwant > %s", got, test.want)
			}
			if test.want != "" && !json.Valid(got[2:]) {
				t.Error("not JSON")
			}
		})
	}
}

func TestAppendPanicsWithATypeItCannotWrite(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	awsjson.Append(nil, struct{ X float64 }{})
}

func TestAppendError(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  *kmsapi.Error
		want string
	}{
		"with a text":    {kmsapi.Errorf(kmsapi.NotFound, "Key '%s' does not exist", `"x"`), `{"__type":"NotFoundException","message":"Key '\"x\"' does not exist"}`},
		"without a text": {kmsapi.Errorf(kmsapi.UnknownOperation, ""), `{"__type":"UnknownOperationException"}`},
		"access denied":  {kmsapi.Errorf(kmsapi.AccessDenied, "no"), `{"__type":"AccessDeniedException","Message":"no"}`},
		"with a cause":   {kmsapi.Errorf(kmsapi.KMSInternal, "no").Because(errors.New("disk")), `{"__type":"KMSInternalException","message":"no"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := string(awsjson.AppendError(nil, test.err)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestAppendErrorAs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"no": `{"__type":"CloudHsmServiceException","Message":"no"}`,
		"":   `{"__type":"CloudHsmServiceException"}`,
	} {
		if got := string(awsjson.AppendErrorAs(nil, "CloudHsmServiceException", "Message", text)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// drawEverything draws values that survive the wire: empty lists and maps do not.
func drawEverything(t *rapid.T) everything {
	text := rapid.String()
	blob := rapid.SliceOf(rapid.Byte())
	e := everything{
		Text:     text.Draw(t, "Text"),
		Enum:     rapid.SampledFrom([]color{"", "RED", "GREEN"}).Draw(t, "Enum"),
		Secret:   secret.New(blob.Draw(t, "Secret")),
		Password: secret.NewText(text.Draw(t, "Password")),
		Number:   rapid.Ptr(rapid.Int32(), true).Draw(t, "Number"),
		Flag:     rapid.Bool().Draw(t, "Flag"),
		Choice:   rapid.Ptr(rapid.Bool(), true).Draw(t, "Choice"),
		Value:    inner{text.Draw(t, "Value")},
		ABCName:  text.Draw(t, "ABCName"),
	}
	if b := blob.Draw(t, "Blob"); len(b) > 0 {
		e.Blob = b
	}
	if m := rapid.MapOf(text, text).Draw(t, "Pairs"); len(m) > 0 {
		e.Pairs = m
	}
	if m := rapid.MapOf(text, rapid.SliceOf(text)).Draw(t, "Lists"); len(m) > 0 {
		e.Lists = m
	}
	if l := rapid.SliceOf(text).Draw(t, "Texts"); len(l) > 0 {
		e.Texts = l
	}
	for range rapid.IntRange(0, 2).Draw(t, "Enums") {
		e.Enums = append(e.Enums, "RED")
	}
	for range rapid.IntRange(0, 3).Draw(t, "Tags") {
		e.Tags = append(e.Tags, kmsapi.Tag{TagKey: "k" + strings.Repeat("x", len(e.Tags)), TagValue: ""})
	}
	if rapid.Bool().Draw(t, "Inner") {
		e.Inner = &inner{text.Draw(t, "Inner.Text")}
	}
	if rapid.Bool().Draw(t, "At") {
		e.At = &kmsapi.Time{Time: time.UnixMilli(rapid.Int64Range(0, 253402300799000).Draw(t, "ms")).UTC()}
	}
	return e
}

func TestWhatIsEncodedDecodesToTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := drawEverything(t)
		body := awsjson.Append(nil, &want)
		var got everything
		if err := awsjson.Decode(body, &got); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if diff := cmp.Diff(want, got, secrets); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStringsAreReadAsEncodingJSONReadsThem(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "text")
		standard, err := json.Marshal(map[string]string{"Text": want})
		if err != nil {
			t.Fatal(err)
		}
		var got inner
		if err := awsjson.Decode(standard, &got); err != nil || got.Text != want {
			t.Errorf("%s: %q, %v", standard, got.Text, err)
		}
		var back map[string]string
		if err := json.Unmarshal(awsjson.Append(nil, &got), &back); err != nil || want != "" && back["Text"] != want {
			t.Errorf("%q: %q, %v", want, back["Text"], err)
		}
	})
}
