package kmsclient_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

const theSecret = "a-secret-that-is-long-enough-for-a-key!!"

// serve makes a client of a server that answers as answer does.
func serve(t *testing.T, answer http.HandlerFunc) *kmsclient.Client {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return client(server.URL + "/")
}

func client(url string) *kmsclient.Client {
	return kmsclient.New(url, "eu-central-1", sigv4.Credentials{
		AccessKeyID: "AKIAALICEEXAMPLE0001", Secret: secret.NewText(theSecret), SessionToken: secret.NewText("a token"),
	})
}

func TestARequestIsSignedAWSJSON(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for name, want := range map[string]string{
			"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.ListKeys", "X-Amz-Security-Token": "a token",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if got := r.Header.Get("Authorization"); !strings.Contains(got, "AKIAALICEEXAMPLE0001/") || !strings.Contains(got, "/eu-central-1/kms/aws4_request") {
			t.Errorf("Authorization is %q", got)
		}
		if r.Method != http.MethodPost || r.URL.Path != "/" || string(body) != `{"Limit":1}` {
			t.Errorf("the request is %s %s %s", r.Method, r.URL.Path, body)
		}
		_, _ = io.WriteString(w, `{"Truncated":true}`)
	})
	var out struct{ Truncated bool }
	if err := c.Call(t.Context(), kmsclient.KMS+"ListKeys", map[string]int{"Limit": 1}, &out); err != nil {
		t.Fatal(err)
	}
	if !out.Truncated {
		t.Error("the answer is not decoded")
	}
}

func TestAnotherServiceIsSignedFor(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		service := r.Header.Get("X-Amz-Target")
		if got := r.Header.Get("Authorization"); !strings.Contains(got, "AKIAALICEEXAMPLE0001/") || !strings.Contains(got, "/eu-central-1/"+service+"/aws4_request") {
			t.Errorf("Authorization is %q", got)
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"CloudHsmServiceException","Message":"not now"}`)
	})
	for service, c := range map[string]*kmsclient.Client{"kms": c, "cloudhsm": c.For("cloudhsm")} {
		if err := c.Call(t.Context(), service, nil, nil); err == nil || err.Error() != "CloudHsmServiceException: not now" {
			t.Errorf("%s: %v", service, err)
		}
	}
}

func TestWhatTheServerRefusesIsAKMSError(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"__type":"NotFoundException","message":"no such key"}`,
		`{"__type":"com.amazonaws.kms#NotFoundException","message":"no such key"}`,
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, body)
		})
		err := c.Call(t.Context(), kmsclient.KMS+"DescribeKey", nil, nil)
		if kmsapi.CodeOf(err) != kmsapi.NotFound || !strings.Contains(err.Error(), "no such key") {
			t.Errorf("%s gives %v", body, err)
		}
	}
}

func TestAnAnswerThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"a page of something else", http.StatusBadGateway, "<html>", "HTTP status 502"},
		{"a JSON error of something else", http.StatusForbidden, `{"error":"no"}`, "HTTP status 403"},
		{"a body that is cut", http.StatusOK, `{"Trunc`, "decoding the answer"},
		{"a body without end", http.StatusOK, strings.Repeat(" ", 8<<20) + `{}`, "decoding the answer"},
		{"another place", http.StatusTemporaryRedirect, "", "HTTP status 307"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				t.Error("a signed request follows a redirect")
			}))
			defer elsewhere.Close()
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", elsewhere.URL)
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			var out struct{ Truncated bool }
			err := c.Call(t.Context(), kmsclient.KMS+"ListKeys", nil, &out)
			if err == nil || !strings.Contains(err.Error(), test.want) || kmsapi.CodeOf(err) == kmsapi.NotFound {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
		})
	}
}

func TestOnlyTrustedCAsAreBelieved(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	trusting, trustless := client(server.URL), client(server.URL)
	cas := x509.NewCertPool()
	cas.AddCert(server.Certificate())
	trusting.Trust(cas)
	if err := trusting.Call(t.Context(), kmsclient.KMS+"ListKeys", nil, nil); err != nil {
		t.Error(err)
	}
	var unknown x509.UnknownAuthorityError
	if err := trustless.Call(t.Context(), kmsclient.KMS+"ListKeys", nil, nil); !errors.As(err, &unknown) {
		t.Errorf("a server of an unknown CA: %v", err)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client has gone
		cancel()
		<-r.Context().Done()
	})
	if err := c.Call(ctx, kmsclient.KMS+"ListKeys", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"http://127.0.0.1:1", "127.0.0.1:4599", "http://[", "ftp://127.0.0.1"} {
		err := client(url).Call(t.Context(), kmsclient.KMS+"ListKeys", nil, nil)
		if err == nil || strings.Contains(err.Error(), theSecret) {
			t.Errorf("%s gives %v", url, err)
		}
	}
}
