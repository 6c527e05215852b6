package sigv4_test

import (
	"context"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

func FuzzVerify(f *testing.F) {
	seed := func(r *http.Request) {
		f.Add(r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), r.URL.EscapedPath(), r.URL.RawQuery, "X-Amz-Target", "TrentService.Encrypt")
	}
	seed(signed(longTerm()))
	seed(signed(temporary(token)))
	seed(presigned(func(url.Values) {}))
	seed(presigned(func(q url.Values) { q.Set("X-Amz-Expires", "60") }))
	for _, vector := range vectors(f) {
		r, _ := readRequest(f, vector)
		f.Add(r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), r.URL.EscapedPath(), r.URL.RawQuery, "My-Header1", r.Header.Get("My-Header1"))
	}
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=;;host,Signature=", "20240820T230143Z", "/../a//.", "a=%", "Date", "x")
	f.Add("AWS4-HMAC-SHA256 =,,=", "", "/%", "&&=&;", "", "")
	f.Fuzz(func(t *testing.T, authorization, date, path, query, name, value string) {
		r := &http.Request{Method: "POST", Host: "kms.example.test", URL: &url.URL{Path: path, RawPath: path, RawQuery: query}, Header: http.Header{}}
		r.Header.Set(name, value)
		r.Header["X-Amz-Date"] = []string{date}
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		// Nobody can know the secret of this verifier's only key.
		unknown := secret.NewText(hex.EncodeToString(hmacSHA256([]byte(t.Name()), authorization+query)))
		v := sigv4.Verifier{Service: "kms", Now: func() time.Time { return signedAt },
			Lookup: func(context.Context, string, string) (sigv4.Secret, bool) { return sigv4.Secret{Key: unknown}, true }}
		got, err := v.Verify(t.Context(), r, nil)
		if err == nil {
			t.Fatalf("accepted: %+v", got)
		}
		if strings.Contains(err.Error(), unknown.Reveal()) {
			t.Fatal("the error shows the secret")
		}

		// The canonical form of whatever can be decoded is the same on both sides.
		r.Header.Del("Authorization")
		sigv4.Sign(r, nil, sigv4.Credentials{AccessKeyID: "AKIA", Secret: unknown}, "kms", region, signedAt)
		if _, err := v.Verify(t.Context(), r, nil); err != nil && strings.Contains(err.Error(), "does not match the signature") {
			t.Fatalf("our own signature is refused: %v", err)
		}
	})
}
