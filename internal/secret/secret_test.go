package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"kastellan.dev/internal/secret"
)

type holder struct {
	B secret.Bytes
	T secret.Text
	P *secret.Text
	hidden
}

// hidden has secrets where fmt does not call their methods.
type hidden struct {
	b secret.Bytes
	t secret.Text
	p *secret.Text
	s []secret.Text
	m map[string]secret.Bytes
	a any
}

func TestSecretsAreNeverShown(t *testing.T) {
	text := secret.NewText("hunter2-marker")
	data := secret.New([]byte("bytes-marker"))
	h := holder{B: data, T: text, P: &text, hidden: hidden{
		b: data, t: text, p: &text, s: []secret.Text{text}, m: map[string]secret.Bytes{"k": data}, a: data,
	}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		fmt.Fprintf(&out, verb, h)
		fmt.Fprintf(&out, verb, h.B)
		fmt.Fprintf(&out, verb, h.T)
		fmt.Fprintf(&out, verb, &h)
	}
	for _, l := range []*slog.Logger{
		slog.New(slog.NewTextHandler(&out, nil)),
		slog.New(slog.NewJSONHandler(&out, nil)),
	} {
		l.Info("m", "holder", h, "bytes", h.B, "text", h.T, "pointer", h.P)
	}
	j, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	for _, marker := range []string{"marker", "hunter2", fmt.Sprintf("%x", "marker"), fmt.Sprintf("%X", "marker"), "109 97 114 107"} {
		if strings.Contains(out.String(), marker) {
			t.Errorf("output shows %q:\n%s", marker, out.String())
		}
	}
	if !strings.Contains(out.String(), secret.Redacted) {
		t.Error("nothing was printed at all")
	}
}

func TestEqual(t *testing.T) {
	a, b, c := secret.NewText("a"), secret.NewText("a"), secret.NewText("c")
	if !a.Equal(b) || a.Equal(c) {
		t.Error("Text.Equal is wrong")
	}
	x, y := secret.New([]byte{1}), secret.New([]byte{2})
	if !x.Equal(x) || x.Equal(y) {
		t.Error("Bytes.Equal is wrong")
	}
}

func TestDestroyClears(t *testing.T) {
	b := []byte("material")
	secret.New(b).Destroy()
	if !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("bytes survive Destroy")
	}
}
