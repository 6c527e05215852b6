package xks

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/xksapi"
)

// maxAnswer is the longest answer that is read, in bytes. The longest that
// the specification needs is a tenth of it.
const maxAnswer = 64 << 10

// readAll reads an answer to its end.
func readAll(resp *http.Response) ([]byte, error) {
	if resp.ContentLength > maxAnswer {
		return nil, failed(malformed, "the answer has %d bytes, more than %d", resp.ContentLength, maxAnswer)
	}
	var buf bytes.Buffer
	if resp.ContentLength > 0 {
		buf.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, maxAnswer+1)); err != nil {
		return nil, err
	}
	if buf.Len() > maxAnswer {
		return nil, failed(malformed, "the answer has more than %d bytes", maxAnswer)
	}
	return buf.Bytes(), nil
}

// decode reads the JSON of an answer. Members that are not known are
// accepted: the specification grows.
func decode(body []byte, out any) error {
	if err := json.Unmarshal(body, out); err != nil {
		// What the decoder says may quote the answer, which may hold a decrypted
		// inner ciphertext. It says where it stopped instead.
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax):
			return failed(malformed, "the answer is no JSON: it breaks off at byte %d of %d", syntax.Offset, len(body))
		case errors.As(err, &kind):
			return failed(malformed, "the member %s of the answer has the wrong type", printable(kind.Field))
		default:
			return failed(malformed, "the answer of %d bytes cannot be decoded", len(body))
		}
	}
	return nil
}

// refusal is the error that an answer other than 200 stands for.
func refusal(status int, body []byte) *proxyError {
	var answer xksapi.ErrorResponse
	if json.Unmarshal(body, &answer) != nil || answer.ErrorName == "" {
		return failed(malformed, "HTTP status %d without an error name", status)
	}
	name, message := printable(string(answer.ErrorName)), printable(answer.ErrorMessage)
	want, known := answer.ErrorName.Status()
	switch {
	case !known:
		return failed(malformed, "HTTP status %d with the unknown error %s: %s", status, name, message)
	case want != status:
		return failed(outcome(answer.ErrorName), "HTTP status %d, which is not that of %s: %s", status, name, message)
	default:
		return failed(outcome(answer.ErrorName), "HTTP status %d, %s: %s", status, name, message)
	}
}

// printable makes what a proxy says fit for a log or an error text.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), xksapi.MaxErrorMessage)]
}

// checkHealth holds GetHealthStatus against the specification, and tells
// whether at least one key manager can serve.
func checkHealth(h *xksapi.HealthResponse) error {
	if h.XksProxyFleetSize <= 0 {
		return failed(malformed, "xksProxyFleetSize is %d", h.XksProxyFleetSize)
	}
	if h.XksProxyVendor == "" || h.XksProxyModel == "" || h.EkmVendor == "" {
		return failed(malformed, "vendor or model is missing")
	}
	if n := len(h.EkmFleetDetails); n < 1 || n > xksapi.MaxFleet {
		return failed(malformed, "ekmFleetDetails has %d entries", n)
	}
	serving := false
	for _, ekm := range h.EkmFleetDetails {
		if ekm.ID == "" || ekm.Model == "" {
			return failed(malformed, "a key manager has no id or no model")
		}
		switch ekm.HealthStatus {
		case xksapi.Active, xksapi.Degraded:
			serving = true
		case xksapi.Unavailable:
		default:
			return failed(malformed, "the healthStatus of a key manager is %q", printable(ekm.HealthStatus))
		}
	}
	if !serving {
		return failed(allUnavailable, "%s", fleet(h))
	}
	return nil
}

// fleet counts key managers by state.
func fleet(h *xksapi.HealthResponse) string {
	counts := fleetCounts(h)
	return fmt.Sprintf("%d key managers: %d active, %d degraded, %d unavailable", len(h.EkmFleetDetails),
		counts[xksapi.Active], counts[xksapi.Degraded], counts[xksapi.Unavailable])
}

func fleetCounts(h *xksapi.HealthResponse) map[string]int {
	counts := make(map[string]int)
	for _, ekm := range h.EkmFleetDetails {
		counts[ekm.HealthStatus]++
	}
	return counts
}

// checkMetadata tells whether an external key can back a KMS key.
func checkMetadata(m *xksapi.MetadataResponse) error {
	if m.KeySpec == "" || m.KeyStatus == "" || m.KeyUsage == nil || len(m.KeyUsage) > xksapi.MaxKeyUsages {
		return failed(malformed, "keySpec %q, keyStatus %q, %d key usages", printable(m.KeySpec), printable(m.KeyStatus), len(m.KeyUsage))
	}
	switch {
	case m.KeySpec != xksapi.KeySpecAES256:
		return unsuitable("keySpec", m.KeySpec, xksapi.KeySpecAES256)
	case !slices.Contains(m.KeyUsage, xksapi.UsageEncrypt) || !slices.Contains(m.KeyUsage, xksapi.UsageDecrypt):
		return unsuitable("keyUsage", strings.Join(m.KeyUsage, ","), xksapi.UsageEncrypt+" and "+xksapi.UsageDecrypt)
	case m.KeyStatus != xksapi.KeyEnabled:
		return unsuitable("keyStatus", m.KeyStatus, xksapi.KeyEnabled)
	}
	return nil
}

func unsuitable(property, found, want string) error {
	found = printable(found)
	return kmsapi.Errorf(kmsapi.XksKeyInvalidConfiguration,
		"The external key cannot be used: the proxy reports the %s %q, but it must be %s.", property, found[:min(len(found), 128)], want)
}

// checkEncrypted holds what the proxy encrypted against the specification.
func checkEncrypted(out *xksapi.EncryptResponse, inner, aad []byte) (parts, error) {
	p := parts{iv: out.InitializationVector, metadata: out.CiphertextMetadata, tag: out.AuthenticationTag, ciphertext: out.Ciphertext}
	if !p.valid() || len(p.ciphertext) != len(inner) {
		return parts{}, failed(malformed, "IV of %d bytes, metadata of %d, tag of %d, ciphertext of %d for %d",
			len(p.iv), len(p.metadata), len(p.tag), len(p.ciphertext), len(inner))
	}
	want := xksapi.IntegrityValue(aad, p.metadata, p.iv, p.ciphertext, p.tag)
	if subtle.ConstantTimeCompare(want, out.CiphertextDataIntegrityValue) != 1 {
		return parts{}, failed(malformed, "the ciphertextDataIntegrityValue of %d bytes does not fit the ciphertext", len(out.CiphertextDataIntegrityValue))
	}
	return p, nil
}

// checkDecrypted holds what the proxy decrypted against what it was given.
func checkDecrypted(out *xksapi.DecryptResponse, p parts) error {
	if len(out.Plaintext) != len(p.ciphertext) {
		return failed(malformed, "%d bytes of ciphertext became %d", len(p.ciphertext), len(out.Plaintext))
	}
	return nil
}
