package sigv4_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// The credentials and the date of the published vectors.
const (
	exampleKey    = "AKIDEXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var exampleTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

// TestPublishedVectors verifies, as they come over the wire, the requests of
// the published test suite, and signs them again. The suite's get-space and
// get-utf8 are left out: their paths are escaped once only.
func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	for name, raw := range vectors(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, body := readRequest(t, raw)
			token := r.Header.Get("X-Amz-Security-Token")
			v := exampleVerifier(token)
			if _, err := v.Verify(t.Context(), r, body); err != nil {
				t.Fatal(err)
			}

			want := r.Header.Get("Authorization")
			s := sigv4.Signer{
				Credentials: sigv4.Credentials{AccessKeyID: exampleKey, Secret: secret.NewText(exampleSecret), SessionToken: secret.NewText(token)},
				Service:     "service", Region: "us-east-1",
				SignedHeaders: strings.Split(between(want, "SignedHeaders=", ","), ";"),
			}
			s.Sign(r, body, exampleTime)
			if got := r.Header.Get("Authorization"); got != want {
				t.Errorf("signed\n%s\nwant\n%s", got, want)
			}

			if p := r.URL.Path; strings.Contains(p, "//") || strings.Contains(p, "/.") {
				return // the SDK leaves it to its caller to normalise a path
			}
			r.Header.Del("Authorization")
			r.Header.Del("Content-Length")
			r.ContentLength = 0
			signWithSDK(t, r, body, token, "service")
			if got := r.Header.Get("Authorization"); got != want {
				t.Errorf("the SDK signs\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// vectors are the requests of testdata/vectors, by name.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/vectors/*.req")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d vectors, error %v", len(files), err)
	}
	all := make(map[string][]byte)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".req")] = raw
	}
	return all
}

func between(s, begin, end string) string {
	_, s, _ = strings.Cut(s, begin)
	s, _, _ = strings.Cut(s, end)
	return s
}

func readRequest(t testing.TB, raw []byte) (*http.Request, []byte) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, body
}

// exampleVerifier knows the example credentials; with a token they are temporary.
func exampleVerifier(token string) *sigv4.Verifier {
	return &sigv4.Verifier{
		Service: "service",
		Now:     func() time.Time { return exampleTime },
		Lookup: func(_ context.Context, id, _ string) (sigv4.Secret, bool) {
			if id != exampleKey {
				return sigv4.Secret{}, false
			}
			return sigv4.Secret{Key: secret.NewText(exampleSecret), SessionToken: secret.NewText(token)}, true
		},
	}
}

func signWithSDK(t testing.TB, r *http.Request, body []byte, token, service string) {
	t.Helper()
	c := aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret, SessionToken: token}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(t.Context(), c, r, hex.EncodeToString(sum[:]), service, "us-east-1", exampleTime); err != nil {
		t.Fatal(err)
	}
}
