package nitrotest

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// answer is a well-formed answer of AWS's shape, whose random parts are zeros.
func answer(t testing.TB, content string) []byte {
	t.Helper()
	zeros := func(n int) string { return strings.Repeat("00", n) }
	out, err := hex.DecodeString("3080" + envelopedData + "a0803080" + versionTwo +
		"3182016b30820167" + versionTwo + "8020" + zeros(32) + oaepSHA256 + "04820100" + zeros(256) +
		"3080" + data + "301d" + aes256CBC + "0410" + zeros(16) + content + zeros(8))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var block = "0410" + strings.Repeat("00", 16)

func TestParseEnvelopeTakesBothFormsOfContent(t *testing.T) {
	t.Parallel()
	for content, chunks := range map[string]int{
		"a080" + block + "0000":                1,
		"a080" + block + block + "0000":        2,
		"80" + strings.TrimPrefix(block, "04"): 1,
	} {
		envelope, err := ParseEnvelope(answer(t, content))
		if err != nil {
			t.Errorf("%s: %v", content, err)
			continue
		}
		if len(envelope.KeyID) != 32 || len(envelope.EncryptedKey) != 256 || len(envelope.IV) != 16 || len(envelope.Chunks) != chunks {
			t.Errorf("%s: got %+v", content, envelope)
		}
	}
}

func TestParseEnvelopeRefuses(t *testing.T) {
	t.Parallel()
	good := hex.EncodeToString(answer(t, "a080"+block+"0000"))
	swap := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s is not in the answer", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, text := range map[string]string{
		"nothing":                    "",
		"one octet":                  "30",
		"not ended":                  good[:len(good)-4],
		"ended half":                 good[:len(good)-2],
		"trailing octet":             good + "00",
		"ended once more":            good + "0000",
		"another content type":       swap(envelopedData, data),
		"version 0":                  swap("3080"+versionTwo, "3080020100"),
		"recipient version 0":        swap("30820167"+versionTwo, "30820167020100"),
		"recipient by [1]":           swap("8020", "8120"),
		"SHA-1 for SHA-256":          swap(sha256DER, "300d06096086480165030402040500"),
		"AES-256-GCM":                swap(aes256CBC, "060960864801650304012e"),
		"primitive but indefinite":   swap("0410"+strings.Repeat("00", 16), "0480"+strings.Repeat("00", 16)),
		"length with a zero in it":   swap("04820100", "0483000100"),
		"length of too many octets":  swap("04820100", "048400000100"),
		"long form of a short one":   swap("8020", "808120"),
		"high tag number":            swap("8020", "9f20"),
		"content of a set":           hex.EncodeToString(answer(t, "3180"+block+"0000")),
		"content of definite length": hex.EncodeToString(answer(t, "a012"+block)),
		"content of integers":        hex.EncodeToString(answer(t, "a080"+"020100"+"0000")),
		"nested too deeply":          strings.Repeat("3080", 40) + strings.Repeat("0000", 40),
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if envelope, err := ParseEnvelope(b); err == nil {
			t.Errorf("%s: got %+v", name, envelope)
		}
	}
}

// FuzzBER: whatever is read as BER has one encoding only, and an envelope has
// the sizes it must have.
func FuzzBER(f *testing.F) {
	f.Add(answer(f, "a080"+block+"0000"))
	f.Add(answer(f, "8010"+strings.Repeat("00", 16)))
	f.Add([]byte{0x30, 0x80, 0x30, 0x00, 0x04, 0x01, 0x00, 0x00, 0x00})
	f.Add([]byte{0x04, 0x81, 0x80})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseBER(b)
		if err != nil {
			return
		}
		if again := e.encode(); !bytes.Equal(again, b) {
			t.Errorf("%x was read and written as %x", b, again)
		}
		envelope, err := ParseEnvelope(b)
		if err == nil && (len(envelope.KeyID) != 32 || len(envelope.IV) != 16) {
			t.Errorf("accepted %+v", envelope)
		}
	})
}
