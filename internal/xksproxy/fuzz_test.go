package xksproxy_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
)

// wellFormed demands what every answer is, whatever was asked.
func wellFormed(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	body := w.Body.Bytes()
	if w.Code == http.StatusOK {
		if !json.Valid(body) {
			t.Fatalf("200 with %q", body)
		}
		return
	}
	var e xksapi.ErrorResponse
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatalf("%d with %q", w.Code, body)
	}
	status, ok := e.ErrorName.Status()
	if !ok || status != w.Code || len(e.ErrorMessage) > xksapi.MaxErrorMessage || w.Code >= 500 && w.Code != 501 {
		t.Fatalf("%d %s", w.Code, body)
	}
	if bytes.Count(body, []byte("\n")) != 1 {
		t.Fatalf("not one line: %q", body)
	}
	for _, c := range []byte(e.ErrorMessage) {
		if c < 0x20 || c > 0x7E {
			t.Fatalf("errorMessage %q", e.ErrorMessage)
		}
	}
}

func seeds(f *testing.F, full object) {
	whole, err := json.Marshal(full)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	for name := range full {
		without := object{}
		for n, v := range full {
			if n != name {
				without[n] = v
			}
		}
		b, _ := json.Marshal(without)
		f.Add(b)
	}
	for _, text := range []string{"", "null", "[]", "{}", `{"requestMetadata":null}`, `{"plaintext":[1,2]}`, `{"plaintext":"é"}`} {
		f.Add([]byte(text))
	}
}

// FuzzEncryptRequest: a body is answered or refused in form, and what was
// encrypted decrypts.
func FuzzEncryptRequest(f *testing.F) {
	p := fileProxy(f)
	full := encryptOf("hello", "aad")
	full["ciphertextDataIntegrityValueAlgorithm"] = "SHA_256"
	seeds(f, full)
	f.Fuzz(func(t *testing.T, body []byte) {
		w := send(p, signed(base+"/keys/key-1/encrypt", body))
		wellFormed(t, w)
		if w.Code != http.StatusOK {
			return
		}
		var in xksapi.EncryptRequest
		if err := json.Unmarshal(body, &in); err != nil {
			t.Fatal("what is no request was encrypted")
		}
		back := decryptOf(decode[xksapi.EncryptResponse](t, w), string(in.AdditionalAuthenticatedData))
		wantPlaintext(t, post(t, p, "/keys/key-1/decrypt", back), string(in.Plaintext))
	})
}

// FuzzDecryptRequest: nobody makes up a ciphertext.
func FuzzDecryptRequest(f *testing.F) {
	p := fileProxy(f)
	genuine := encrypt(f, fileProxy(f), "key-1", "hello", "aad") // under another key
	seeds(f, decryptOf(genuine, "aad"))
	f.Fuzz(func(t *testing.T, body []byte) {
		w := send(p, signed(base+"/keys/key-1/decrypt", body))
		wellFormed(t, w)
		if w.Code == http.StatusOK {
			t.Fatalf("a forgery was decrypted: %q", body)
		}
	})
}

// FuzzPath: a path that is understood has one spelling.
func FuzzPath(f *testing.F) {
	for _, path := range []string{
		base + "/health", base + "/keys/key-1/encrypt", xksapi.BasePath + "/keys/a/metadata", "/", "", "//", base + "/keys/../encrypt",
		base + "/keys/a%2Fb/encrypt", base + "/keys/a/decrypt/", "/kms/xks/v1/keys/kms/xks/v1/keys/a/decrypt",
	} {
		f.Add(path)
	}
	ends := map[string]string{"GetKeyMetadata": "metadata", "Encrypt": "encrypt", "Decrypt": "decrypt"}
	f.Fuzz(func(t *testing.T, path string) {
		prefix, op, key, ok := xksproxy.ParsePath(path)
		if !ok {
			return
		}
		want := prefix + xksapi.BasePath + "/health"
		if op != "GetHealthStatus" {
			want = prefix + xksapi.BasePath + "/keys/" + key + "/" + ends[op]
		}
		if want != path {
			t.Errorf("%q was understood as %q", path, want)
		}
	})
}
