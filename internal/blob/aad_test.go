package blob_test

import (
	"bytes"
	"encoding/binary"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kastellan.dev/internal/blob"
)

func TestPairsThatLookAlikeAreToldApart(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	for i, c := range []map[string]string{
		nil,
		{"": ""},
		{"a": ""}, {"": "a"},
		{"a": "b"}, {"b": "a"}, {"ab": ""}, {"": "ab"},
		{"a": "b", "c": "d"}, {"a": "bcd"}, {"abc": "d"}, {"a": "d", "c": "b"}, {"a": "b", "cd": ""},
		{"a": "b\x00\x00\x00\x01c\x00\x00\x00\x01d"},
		{"A": "b"}, {"a": "B"}, {"a ": "b"}, {"a": "b "},
		{"é": ""}, {"e\u0301": ""},
	} {
		aad := string(blob.AppendAAD(nil, []byte("header"), c))
		if other, ok := seen[aad]; ok {
			t.Errorf("contexts %d and %d are authenticated alike", other, i)
		}
		seen[aad] = i
	}
	if a, b := blob.AppendAAD(nil, []byte("ab"), nil), blob.AppendAAD(nil, []byte("a"), map[string]string{}); bytes.Equal(a, b) {
		t.Error("two headers are authenticated alike")
	}
}

// parseAAD is the inverse that AppendAAD must have if no two inputs collide.
func parseAAD(t *rapid.T, aad []byte) (header []byte, encryptionContext map[string]string) {
	next := func() []byte {
		n := binary.BigEndian.Uint32(aad)
		part := aad[4 : 4+n]
		aad = aad[4+n:]
		return part
	}
	header, encryptionContext = next(), make(map[string]string)
	last, first := "", true
	for len(aad) > 0 {
		key := string(next())
		if !first && key <= last {
			t.Fatalf("%q comes after %q", key, last)
		}
		last, first = key, false
		encryptionContext[key] = string(next())
	}
	return header, encryptionContext
}

func TestTheAuthenticatedDataCanBeReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		header := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "header")
		context := rapid.MapOfN(rapid.String(), rapid.String(), 0, 20).Draw(t, "context")
		aad := blob.AppendAAD([]byte("dst"), header, context)
		rest, ok := bytes.CutPrefix(aad, []byte("dst"))
		if !ok {
			t.Fatal("what dst held is gone")
		}
		if len(rest) != 4+len(header)+blob.ContextSize(context) {
			t.Fatalf("%d bytes, ContextSize says %d", len(rest), blob.ContextSize(context))
		}
		gotHeader, gotContext := parseAAD(t, rest)
		if !bytes.Equal(gotHeader, header) || !maps.Equal(gotContext, context) {
			t.Fatalf("read back: %x %q", gotHeader, gotContext)
		}
	})
}

func TestTheLargestContextMakesNoMoreThanExternalKeyManagersTake(t *testing.T) {
	t.Parallel()
	header, err := blob.AppendHeader(nil, blob.Header{Kind: blob.Soft, KeyID: keyID, MaterialID: strings.Repeat("0a", 32)})
	if err != nil {
		t.Fatal(err)
	}
	if len(header) != blob.MaxHeaderSize {
		t.Errorf("the longest header has %d bytes, MaxHeaderSize says %d", len(header), blob.MaxHeaderSize)
	}
	largest := map[string]string{"key": ""}
	largest["key"] = strings.Repeat("v", blob.MaxContextSize-blob.ContextSize(largest))
	if n := blob.ContextSize(largest); n != blob.MaxContextSize {
		t.Fatalf("the context takes %d bytes", n)
	}
	if n := len(blob.AppendAAD(nil, header, largest)); n != blob.MaxAADSize {
		t.Errorf("the authenticated data has %d bytes, want %d", n, blob.MaxAADSize)
	}
}

func TestSmallContextsAreEncodedWithoutAllocating(t *testing.T) {
	header, dst := make([]byte, blob.MaxHeaderSize), make([]byte, 0, 512)
	context := map[string]string{"tenant": "a", "purpose": "b", "c": "d"}
	if n := testing.AllocsPerRun(100, func() { blob.AppendAAD(dst, header, context) }); n != 0 {
		t.Errorf("AppendAAD into a buffer with room allocates %v times", n)
	}
}
