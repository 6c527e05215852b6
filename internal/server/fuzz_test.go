package server_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"kastellan.dev/internal/server"
)

// FuzzServeHTTP holds that nobody gets anything without a signature, that what a
// caller who has one sends is never the server's fault, and that every answer has the
// form of an answer.
func FuzzServeHTTP(f *testing.F) {
	rec := newRecord()
	s, err := server.New(server.Config{APIs: rec.apis(), Identities: identities(f), Logger: slog.New(slog.DiscardHandler), MaxBody: 4096})
	if err != nil {
		f.Fatal(err)
	}
	const authorization = "AWS4-HMAC-SHA256 Credential=" + accessKey + "/20240820/eu-central-1/kms/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=00"
	f.Add("POST", "/", "", "TrentService.Encrypt", "application/x-amz-json-1.1", authorization, []byte(encryptBody), true)
	f.Add("POST", "/", "X-Amz-Target=TrentService.EnableKey&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/b/c/d/e", "", "application/json", "", []byte(`{"KeyId":"a"}`), false)
	f.Add("POST", "/", "X-Amz-Target=%zz&X-Amz-Target", "TrentService.EnableKey", "", "", []byte(`{"Plaintext":{}}`), true)
	f.Add("POST", "//", "", "BaldrApiService.DescribeClusters", "text/plain", "Bearer x", []byte(`[`), false)
	f.Add("GET", "/healthz", "", "", "", "", []byte(nil), false)
	f.Add("HEAD", "/metrics", "a=b", "", "", "", []byte(nil), false)
	f.Add("POST", "/", "", "TrentService.Encrypt", "application/x-amz-json-1.1", "", []byte(strings.Repeat(" ", 5000)), true)
	f.Add("POST", "/", "", "TrentService.Encrypt", "application/x-amz-json-1.1", "", []byte(`{"KeyId":"k","Plaintext":"AA==","EncryptionContext":{"a":"b","a":"c"},"GrantTokens":[""],"DryRun":1}`), true)
	f.Fuzz(func(t *testing.T, method, path, query, target, contentType, authorization string, body []byte, signed bool) {
		switch target { // these wait, or fail on purpose
		case "TrentService.Wait", "TrentService.AwaitDeadline", "TrentService.Fail", "TrentService.Panic", "TrentService.AnswerNonsense", "TrentService.Unavailable":
			return
		}
		if strings.Contains(query, "TrentService") && !strings.Contains(query, "TrentService.EnableKey") {
			return
		}
		r := &http.Request{Method: method, Host: "kms.example.test", URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}, RemoteAddr: "192.0.2.1:1",
			Body: readCloser{strings.NewReader(string(body))}, ContentLength: int64(len(body))}
		r.Header["X-Amz-Target"], r.Header["Content-Type"] = []string{target}, []string{contentType}
		if signed {
			sign(r, string(body), "kms")
		} else if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		select {
		case <-rec.callers: // Encrypt ran
		default:
		}
		answer := reply{w.Result(), w.Body.String()}
		switch {
		case w.Code == http.StatusOK && (signed || path == "/healthz"):
		case w.Code == http.StatusBadRequest, w.Code == http.StatusNotFound, w.Code == http.StatusMethodNotAllowed, w.Code == http.StatusRequestEntityTooLarge:
			if code, _ := answer.code(t); code == "" || !uuidV4.MatchString(w.Header().Get("x-amzn-RequestId")) {
				t.Fatalf("%d %v %s", w.Code, w.Header(), answer.text)
			}
		default:
			t.Fatalf("%d %s", w.Code, answer.text)
		}
	})
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }
