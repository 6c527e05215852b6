package blob_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/blob"
)

const keyID = "1234abcd-12ab-34cd-56ef-1234567890ab"

// golden is a frozen blob. The files were not made by this package, and later
// versions must still read them.
type golden struct {
	Name              string            `json:"name"`
	Kind              blob.Kind         `json:"kind"`
	KeyID             string            `json:"keyId"`
	MaterialID        string            `json:"materialId"`
	Body              string            `json:"body"`
	EncryptionContext map[string]string `json:"encryptionContext"`
	Ciphertext        string            `json:"ciphertext"`
	AAD               string            `json:"aad"`
}

func goldens(t testing.TB) []golden {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there are no golden blobs")
	}
	return all
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			want := blob.Header{Kind: g.Kind, KeyID: g.KeyID, MaterialID: g.MaterialID}
			ciphertext := unhex(t, g.Ciphertext)
			got, header, body, err := blob.Parse(ciphertext)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("header:\n%s", diff)
			}
			if hex.EncodeToString(body) != g.Body {
				t.Errorf("body %x, want %s", body, g.Body)
			}
			if aad := blob.AppendAAD(nil, header, g.EncryptionContext); hex.EncodeToString(aad) != g.AAD {
				t.Errorf("authenticated data\n%x, want\n%s", aad, g.AAD)
			}
			made, err := blob.AppendHeader([]byte("prefix"), want)
			if err != nil || !bytes.Equal(append(made, body...), append([]byte("prefix"), ciphertext...)) {
				t.Errorf("made anew it is %x, error %v", made, err)
			}
		})
	}
}

func TestAppendHeaderRefusesWhatItCouldNotReadBack(t *testing.T) {
	t.Parallel()
	material := strings.Repeat("0a", 32)
	for name, h := range map[string]blob.Header{
		"no kind":                             {KeyID: keyID},
		"an unknown kind":                     {Kind: 4, KeyID: keyID},
		"no key id":                           {Kind: blob.Soft},
		"a key id in upper case":              {Kind: blob.Soft, KeyID: strings.ToUpper(keyID)},
		"a key id without dashes":             {Kind: blob.Soft, KeyID: strings.ReplaceAll(keyID, "-", "")},
		"a key id with dashes elsewhere":      {Kind: blob.Soft, KeyID: "1234abcd1-2ab-34cd-56ef-1234567890ab"},
		"a key id with a letter beyond f":     {Kind: blob.Soft, KeyID: "g234abcd-12ab-34cd-56ef-1234567890ab"},
		"a key ARN":                           {Kind: blob.Soft, KeyID: "arn:aws:kms:eu-west-1:111122223333:key/" + keyID},
		"a short multi-Region key id":         {Kind: blob.Soft, KeyID: "mrk-1234abcd12ab34cd56ef1234567890a"},
		"a multi-Region key id with dashes":   {Kind: blob.Soft, KeyID: "mrk-" + keyID},
		"a multi-Region prefix in upper case": {Kind: blob.Soft, KeyID: "MRK-1234abcd12ab34cd56ef1234567890ab"},
		"a short material id":                 {Kind: blob.Soft, KeyID: keyID, MaterialID: material[2:]},
		"a material id in upper case":         {Kind: blob.Soft, KeyID: keyID, MaterialID: strings.ToUpper(material)},
		"a material id that is not hex":       {Kind: blob.Soft, KeyID: keyID, MaterialID: "x" + material[1:]},
	} {
		if got, err := blob.AppendHeader(nil, h); err == nil {
			t.Errorf("%s: AppendHeader gives %x", name, got)
		}
	}
}

func TestParseRefusesWhatIsNoBlob(t *testing.T) {
	t.Parallel()
	valid := unhex(t, goldens(t)[0].Ciphertext)
	with := func(at int, b byte) []byte {
		c := bytes.Clone(valid)
		c[at] = b
		return c
	}
	cases := map[string][]byte{
		"nothing":                      nil,
		"another first byte":           with(0, 'k'),
		"version 0":                    with(1, 0),
		"version 2":                    with(1, 2),
		"kind 0":                       with(2, 0),
		"kind 4":                       with(2, 4),
		"an unknown bit in the form":   with(3, 4|2),
		"the highest bit in the form":  with(3, 0x80|2),
		"more than the API carries":    append(bytes.Clone(valid), make([]byte, blob.MaxSize)...),
		"the start of a blob of AWS's": append([]byte{1, 2, 2, 0}, valid[4:]...),
		"base64 of a blob":             []byte("SwEBAhI0q80SqzTNVu8SNFZ4kKsAESIzRFVmd4iZqrvM3e7/"),
	}
	for _, g := range goldens(t) {
		c := unhex(t, g.Ciphertext)
		for n := range len(c) - len(g.Body)/2 + 1 {
			if _, _, _, err := blob.Parse(c[:n:n]); !errors.Is(err, blob.ErrMalformed) {
				t.Errorf("%s, cut to %d bytes: %v", g.Name, n, err)
			}
		}
	}
	for name, c := range cases {
		if h, header, body, err := blob.Parse(c); !errors.Is(err, blob.ErrMalformed) || header != nil || body != nil || h != (blob.Header{}) {
			t.Errorf("%s: Parse gives %v, %x, %x, %v", name, h, header, body, err)
		}
	}
	longest := append(bytes.Clone(valid), make([]byte, blob.MaxSize-len(valid))...)
	if _, _, _, err := blob.Parse(longest); err != nil {
		t.Errorf("a blob of the longest size: %v", err)
	}
}

func TestAppendingToTheHeaderLeavesTheBodyAlone(t *testing.T) {
	t.Parallel()
	_, header, body, err := blob.Parse(unhex(t, goldens(t)[0].Ciphertext))
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(body)
	_ = append(header, "overwritten"...)
	if !bytes.Equal(body, before) {
		t.Error("header and body share capacity")
	}
}

// FuzzParse looks for two encodings of one blob, and for a panic.
func FuzzParse(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(unhex(f, g.Ciphertext))
	}
	f.Add([]byte("K\x01\x01\x00"))
	f.Fuzz(func(t *testing.T, ciphertext []byte) {
		h, header, body, err := blob.Parse(ciphertext)
		if err != nil {
			if !errors.Is(err, blob.ErrMalformed) {
				t.Fatalf("Parse fails with %v", err)
			}
			return
		}
		again, err := blob.AppendHeader(nil, h)
		if err != nil {
			t.Fatalf("the header %+v is read and cannot be written: %v", h, err)
		}
		if !bytes.Equal(again, header) || !bytes.Equal(append(again, body...), ciphertext) {
			t.Fatalf("%x becomes %x", ciphertext, again)
		}
		if len(body) == 0 || len(header) > blob.MaxHeaderSize {
			t.Fatalf("header of %d, body of %d bytes", len(header), len(body))
		}
	})
}
