package pkcs11_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/pkcs11"
)

func TestURIs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		uri       pkcs11.URI
		canonical string // the same as text, if empty
	}{
		"pkcs11:": {},
		"pkcs11:token=hsm-a?module-path=/usr/lib/m.so": {uri: pkcs11.URI{Token: "hsm-a", ModulePath: "/usr/lib/m.so"}},
		"PKCS11:serial=1;token=a%20b%3B": {
			uri: pkcs11.URI{Token: "a b;", Serial: "1"}, canonical: "pkcs11:serial=1;token=a%20b%3B"},
		"pkcs11:token=a;serial=1": {uri: pkcs11.URI{Token: "a", Serial: "1"}, canonical: "pkcs11:serial=1;token=a"},
		"pkcs11:slot-id=0":        {uri: pkcs11.URI{HasSlotID: true}},
		"pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project": {
			uri:       pkcs11.URI{Model: "SoftHSM v2", Manufacturer: "SoftHSM project"},
			canonical: "pkcs11:manufacturer=SoftHSM%20project;model=SoftHSM%20v2"},
		"pkcs11:type=secret-key;object=k;id=%00%FF": {uri: pkcs11.URI{Type: "secret-key", Object: "k", ID: "\x00\xff"}},
	} {
		have, err := pkcs11.ParseURI(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want.uri, have); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
		canonical := want.canonical
		if canonical == "" {
			canonical = text
		}
		if have.String() != canonical {
			t.Errorf("%s becomes %s", text, have)
		}
	}
}

func TestURIsThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                       "does not begin with pkcs11:",
		"https://example.com":                    "does not begin with pkcs11:",
		"pkcs11:token":                           "without name or value",
		"pkcs11:=a":                              "without name or value",
		"pkcs11:token=a;":                        "without name or value",
		"pkcs11:token=a;token=b":                 "twice",
		"pkcs11:token=%zz":                       "wrong percent-encoding",
		"pkcs11:token=%00":                       "is not text",
		"pkcs11:token=%FF":                       "is not text",
		"pkcs11:slot-id=-1":                      "is not a number",
		"pkcs11:type=password":                   "not a kind of object",
		"pkcs11:colour=red":                      "unknown attribute",
		"pkcs11:?module-path=m.so":               "not an absolute path",
		"pkcs11:?module-name=m":                  "module-name",
		"pkcs11:?pin-value=1234":                 "a PIN does not belong",
		"pkcs11:?pin-source=/etc/pin":            "a PIN does not belong",
		"pkcs11:?colour=red":                     "unknown query attribute",
		"pkcs11:" + strings.Repeat("x", 4096):    "longer than 4096 bytes",
		"pkcs11:id=" + strings.Repeat("[", 1500): "canonical form",
	} {
		_, err := pkcs11.ParseURI(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "1234") {
			t.Errorf("the error tells the PIN: %v", err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:token=hsm-a;serial=12?module-path=/usr/lib/softhsm/libsofthsm2.so")
	f.Add("pkcs11:id=%00%01;type=private;slot-id=7")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := pkcs11.ParseURI(text)
		if err != nil {
			return
		}
		again, err := pkcs11.ParseURI(u.String())
		if err != nil || again != u {
			t.Errorf("%q becomes %q, which is %+v, %v", text, u, again, err)
		}
	})
}
