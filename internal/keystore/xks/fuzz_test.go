package xks_test

import (
	"bytes"
	"strings"
	"testing"

	"kastellan.dev/internal/keystore/xks"
)

func FuzzParseBody(f *testing.F) {
	for _, seed := range []xks.Parts{
		{IV: make([]byte, 12), Tag: make([]byte, 16), Ciphertext: make([]byte, 40)},
		{IV: make([]byte, 16), Metadata: make([]byte, 20), Tag: make([]byte, 16), Ciphertext: make([]byte, 4300)},
	} {
		f.Add(seed.Body())
		f.Add(seed.Body()[:30])
	}
	f.Add([]byte{1, 255, 255})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		p, err := xks.ParseBody(sealed)
		if err == nil && !bytes.Equal(p.Body(), sealed) {
			t.Errorf("%x becomes %x", sealed, p.Body())
		}
	})
}

// Whatever a proxy answers is refused in words, without quoting it at length
// nor with what a terminal would obey.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		health("1", "v", healthyEKM), `{"keySpec":"AES_256","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"ENABLED"}`,
		`{"ciphertext":"AAAA","initializationVector":"AAAA","authenticationTag":"","ciphertextDataIntegrityValue":"AA=="}`,
		`{"errorName":"KeyNotFoundException","errorMessage":"` + strings.Repeat("\\u001b", 600) + `"}`, `{"plaintext":"`, "null", "[]", "", "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, err := range xks.CheckAnswers(body) {
			if err == nil {
				continue
			}
			text := err.Error()
			if len(text) > 1500 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("the error is %q", text)
			}
		}
	})
}
