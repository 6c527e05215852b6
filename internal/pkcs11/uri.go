package pkcs11

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// URI names a module, a token of it and perhaps an object, RFC 7512. It is
// comparable; the zero value names nothing. Attributes that are empty match
// everything.
type URI struct {
	Token        string // CK_TOKEN_INFO label
	Manufacturer string
	Serial       string
	Model        string
	SlotID       uint // counts only with HasSlotID
	HasSlotID    bool

	SlotDescription, SlotManufacturer                       string // CK_SLOT_INFO
	LibraryDescription, LibraryManufacturer, LibraryVersion string // CK_INFO; the version is "major.minor"

	Object string // CKA_LABEL
	ID     string // CKA_ID, raw bytes
	Type   string // "secret-key", "private", "public", "cert" or "data"

	ModulePath string // query attribute module-path
}

// MaxURILen is the longest text in bytes that ParseURI takes, and the longest
// that String gives of what it took.
const MaxURILen = 4096

// ParseURI parses an RFC 7512 URI: "pkcs11:token=hsm-a?module-path=/usr/lib/….so".
// It refuses what it does not know, attributes that occur twice,
// module-name (the path is needed) and pin-value and pin-source (PINs are
// configured elsewhere). An error never quotes the URI: it might hold a PIN.
func ParseURI(text string) (URI, error) {
	if len(text) > MaxURILen {
		return URI{}, fmt.Errorf("pkcs11 URI is longer than %d bytes", MaxURILen)
	}
	rest, ok := cutScheme(text)
	if !ok {
		return URI{}, errors.New("pkcs11 URI does not begin with pkcs11:")
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	var u URI
	seen := map[string]bool{}
	if path != "" {
		if err := parseAttributes(path, ";", seen, u.setPath); err != nil {
			return URI{}, err
		}
	}
	if hasQuery {
		if err := parseAttributes(query, "&", seen, u.setQuery); err != nil {
			return URI{}, err
		}
	}
	// What the text leaves in clear takes three times the room when it is encoded.
	if len(u.String()) > MaxURILen {
		return URI{}, fmt.Errorf("pkcs11 URI is longer than %d bytes in its canonical form", MaxURILen)
	}
	return u, nil
}

// cutScheme removes "pkcs11:", in any case of letters.
func cutScheme(text string) (rest string, ok bool) {
	const scheme = "pkcs11:"
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
		return "", false
	}
	return text[len(scheme):], true
}

// parseAttributes splits "name=value" pairs and gives each to set.
func parseAttributes(text, separator string, seen map[string]bool, set func(name, value string) error) error {
	for attribute := range strings.SplitSeq(text, separator) {
		name, escaped, ok := strings.Cut(attribute, "=")
		if !ok || name == "" {
			return errors.New("pkcs11 URI has an attribute without name or value")
		}
		if seen[name] {
			return fmt.Errorf("pkcs11 URI has %.40q twice", name)
		}
		seen[name] = true
		value, err := url.PathUnescape(escaped)
		if err != nil {
			return fmt.Errorf("pkcs11 URI attribute %.40q has a wrong percent-encoding", name)
		}
		if name != "id" && (!utf8.ValidString(value) || strings.ContainsRune(value, 0)) {
			return fmt.Errorf("pkcs11 URI attribute %.40q is not text", name)
		}
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (u *URI) setPath(name, value string) error {
	switch {
	case name == "slot-id":
		id, err := strconv.ParseUint(value, 10, strconv.IntSize)
		if err != nil {
			return errors.New("pkcs11 URI attribute \"slot-id\" is not a number")
		}
		u.SlotID, u.HasSlotID = uint(id), true
		return nil
	case name == "type" && !isObjectType(value):
		return errors.New("pkcs11 URI attribute \"type\" is not a kind of object")
	}
	for _, f := range u.pathFields() {
		if f.name == name {
			*f.value = value
			return nil
		}
	}
	return fmt.Errorf("pkcs11 URI has the unknown attribute %.40q", name)
}

func (u *URI) setQuery(name, value string) error {
	switch name {
	case "module-path":
		if !strings.HasPrefix(value, "/") {
			return errors.New("pkcs11 URI attribute \"module-path\" is not an absolute path")
		}
		u.ModulePath = value
		return nil
	case "module-name":
		return errors.New("pkcs11 URI has module-name: give module-path instead")
	case "pin-value", "pin-source":
		return fmt.Errorf("pkcs11 URI has %s: a PIN does not belong in a URI", name)
	}
	return fmt.Errorf("pkcs11 URI has the unknown query attribute %.40q", name)
}

func isObjectType(t string) bool {
	switch t {
	case "public", "private", "cert", "secret-key", "data":
		return true
	}
	return false
}

// uriField is a path attribute and where its value lives.
type uriField struct {
	name  string
	value *string
}

// pathFields lists the textual path attributes in canonical order.
func (u *URI) pathFields() []uriField {
	return []uriField{
		{"library-manufacturer", &u.LibraryManufacturer},
		{"library-description", &u.LibraryDescription},
		{"library-version", &u.LibraryVersion},
		{"slot-manufacturer", &u.SlotManufacturer},
		{"slot-description", &u.SlotDescription},
		{"manufacturer", &u.Manufacturer},
		{"model", &u.Model},
		{"serial", &u.Serial},
		{"token", &u.Token},
		{"type", &u.Type},
		{"object", &u.Object},
		{"id", &u.ID},
	}
}

// String is the canonical form: attributes in a fixed order, empty ones left
// out, everything percent-encoded that need not stand in clear.
func (u URI) String() string {
	var parts []string
	if u.HasSlotID {
		parts = append(parts, "slot-id="+strconv.FormatUint(uint64(u.SlotID), 10))
	}
	for _, f := range u.pathFields() {
		if *f.value != "" {
			parts = append(parts, f.name+"="+escape(*f.value, ""))
		}
	}
	s := "pkcs11:" + strings.Join(parts, ";")
	if u.ModulePath != "" {
		s += "?module-path=" + escape(u.ModulePath, "/")
	}
	return s
}

// escape percent-encodes all but unreserved characters and the extra ones.
func escape(s, extra string) string {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; strings.IndexByte(unreserved, c) >= 0 || strings.IndexByte(extra, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// MarshalText implements encoding.TextMarshaler with String.
func (u URI) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler with ParseURI.
func (u *URI) UnmarshalText(text []byte) error {
	parsed, err := ParseURI(string(text))
	if err == nil {
		*u = parsed
	}
	return err
}
