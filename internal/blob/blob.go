// Package blob is the envelope of a symmetric ciphertext: what Encrypt gives
// to a caller, and what Decrypt gets back.
//
//	byte  0       'K', which no ciphertext of AWS begins with
//	      1       version: 1
//	      2       kind of key store: 1 soft, 2 HSM, 3 XKS
//	      3       form: bit 0 set for a multi-Region key ("mrk-…"), bit 1 set
//	              when a material id follows; the other bits are zero
//	      4..19   key id: the 16 bytes behind its hexadecimal digits
//	     20..51   material id, 32 bytes; only where the form says so
//	     rest     body: what the key store made of the plaintext
//
// The bytes in front of the body are the header. A blob has one encoding only:
// whatever Parse accepts, AppendHeader makes again from what Parse found.
//
// Header and encryption context are authenticated together, as additional
// authenticated data (see [AppendAAD]). The package has no keys and encrypts
// nothing; it tells what a ciphertext claims to be, and whether that is true
// is for the key store to find out.
package blob

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// MaxSize is the longest ciphertext blob that the KMS API carries, in bytes.
const MaxSize = 6144

// MaxHeaderSize is the size of the longest header, in bytes.
const MaxHeaderSize = prefixSize + keyIDSize + materialIDSize

const (
	magic   = 'K'
	version = 1

	formMultiRegion = 1 << 0
	formMaterial    = 1 << 1

	prefixSize     = 4
	keyIDSize      = 16
	materialIDSize = 32
)

// ErrMalformed says that something is not a ciphertext blob.
var ErrMalformed = errors.New("blob: malformed ciphertext")

// Kind tells which kind of key store made the body.
type Kind uint8

// The kinds of key stores.
const (
	Soft Kind = 1
	HSM  Kind = 2
	XKS  Kind = 3
)

// Header is what the envelope says in clear.
type Header struct {
	Kind       Kind
	KeyID      string // bare key id in lower case: a UUID, or "mrk-" and 32 hexadecimal digits
	MaterialID string // 64 lower-case hexadecimal digits, or empty
}

// AppendHeader appends the start of a ciphertext blob to dst. It refuses a
// header whose kind or ids are not as [Header] says.
func AppendHeader(dst []byte, h Header) ([]byte, error) {
	if h.Kind < Soft || h.Kind > XKS {
		return nil, fmt.Errorf("blob: kind %d does not exist", h.Kind)
	}
	id, form, err := decodeKeyID(h.KeyID)
	if err != nil {
		return nil, err
	}
	var material [materialIDSize]byte
	if h.MaterialID != "" {
		form |= formMaterial
		if !decodeHex(material[:], h.MaterialID) {
			return nil, fmt.Errorf("blob: material id %q is not 64 lower-case hexadecimal digits", h.MaterialID)
		}
	}
	dst = append(dst, magic, version, byte(h.Kind), form)
	dst = append(dst, id[:]...)
	if form&formMaterial != 0 {
		dst = append(dst, material[:]...)
	}
	return dst, nil
}

// Parse splits a ciphertext blob. header holds the raw bytes in front of the
// body; header and body are parts of ciphertext, not copies. Whatever is not
// a blob with a body, at most [MaxSize] bytes long, is [ErrMalformed].
func Parse(ciphertext []byte) (h Header, header, body []byte, err error) {
	if len(ciphertext) > MaxSize || len(ciphertext) < prefixSize {
		return Header{}, nil, nil, ErrMalformed
	}
	kind, form := Kind(ciphertext[2]), ciphertext[3]
	if ciphertext[0] != magic || ciphertext[1] != version || kind < Soft || kind > XKS || form&^(formMultiRegion|formMaterial) != 0 {
		return Header{}, nil, nil, ErrMalformed
	}
	size := prefixSize + keyIDSize
	if form&formMaterial != 0 {
		size += materialIDSize
	}
	if len(ciphertext) <= size {
		return Header{}, nil, nil, ErrMalformed
	}
	h = Header{Kind: kind, KeyID: encodeKeyID(ciphertext[prefixSize:prefixSize+keyIDSize], form)}
	if form&formMaterial != 0 {
		h.MaterialID = hex.EncodeToString(ciphertext[prefixSize+keyIDSize : size])
	}
	return h, ciphertext[:size:size], ciphertext[size:], nil
}

const multiRegionPrefix = "mrk-"

func decodeKeyID(s string) (id [keyIDSize]byte, form byte, err error) {
	digits, multiRegion := strings.CutPrefix(s, multiRegionPrefix)
	switch {
	case multiRegion:
		form = formMultiRegion
	case len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-':
		digits = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	default:
		digits = ""
	}
	if !decodeHex(id[:], digits) {
		return id, 0, fmt.Errorf("blob: %q is not a key id", s)
	}
	return id, form, nil
}

func encodeKeyID(id []byte, form byte) string {
	if form&formMultiRegion != 0 {
		return multiRegionPrefix + hex.EncodeToString(id)
	}
	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// decodeHex fills dst from exactly as many lower-case hexadecimal digits.
func decodeHex(dst []byte, s string) bool {
	if len(s) != 2*len(dst) || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}
