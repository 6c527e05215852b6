package check_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy/check"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

// foreign is a proxy that keeps to the specification and does everything that is left open in
// another way than ours: no ciphertext metadata, IVs of 16 bytes, additional data
// authenticated in another layout (in which absent and empty differ), no messages, indented
// answers, a window of 20 minutes, one credential, metadata not looked into beyond what
// the log needs, health checks without requestMetadata, a small limit of the body, plain 500
// under load, and rules that allow one principal only.
type foreign struct {
	gcm     cipher.AEAD
	secrets map[string]string // by access key id
	slots   chan struct{}
}

const foreignPrincipal = "arn:aws:iam::999999999999:role/only-me"

func newForeign(t *testing.T) *foreign {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, 16)
	if err != nil {
		t.Fatal(err)
	}
	return &foreign{gcm: gcm, secrets: map[string]string{xksproxytest.AccessKeyID: xksproxytest.SecretKey}, slots: make(chan struct{}, 4)}
}

type foreignRequest struct {
	RequestMetadata *struct {
		Principal string `json:"awsPrincipalArn"`
		ID        string `json:"kmsRequestId"`
	} `json:"requestMetadata"`
	Plaintext  *[]byte `json:"plaintext"`
	Ciphertext *[]byte `json:"ciphertext"`
	Algorithm  string  `json:"encryptionAlgorithm"`
	AAD        *[]byte `json:"additionalAuthenticatedData"`
	Metadata   []byte  `json:"ciphertextMetadata"`
	IV         []byte  `json:"initializationVector"`
	Tag        []byte  `json:"authenticationTag"`
	Integrity  string  `json:"ciphertextDataIntegrityValueAlgorithm"`
}

func (f *foreign) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, answer := f.answer(r)
	if name, ok := answer.(xksapi.ErrorName); ok {
		status, _ = name.Status()
		answer = map[string]any{"errorName": name, "vendorDetail": map[string]int{"code": 17}}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	out, _ := json.MarshalIndent(answer, "", "  ")
	_, _ = w.Write(out)
}

func (f *foreign) answer(r *http.Request) (int, any) {
	rest, ok := strings.CutPrefix(r.URL.Path, xksproxytest.Prefix+xksapi.BasePath)
	parts := strings.Split(rest, "/")
	isHealth := ok && rest == "/health"
	isKey := ok && len(parts) == 4 && parts[1] == "keys" && slices.Contains([]string{"metadata", "encrypt", "decrypt"}, parts[3])
	body, _ := io.ReadAll(r.Body)
	switch {
	case !isHealth && !isKey:
		return 0, xksapi.InvalidURIPathException
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, nil
	case !f.signed(r, body):
		return 0, xksapi.AuthenticationFailedException
	case len(body) > 30000:
		return 0, xksapi.UnsupportedOperationException
	case isHealth:
		return 200, map[string]any{
			"xksProxyFleetSize": 3, "xksProxyVendor": "V", "xksProxyModel": "M", "ekmVendor": "V", "uptime": 1.5,
			"ekmFleetDetails": []any{map[string]any{"id": "1", "model": "M", "healthStatus": "ACTIVE", "rack": 7}},
		}
	}
	in := new(foreignRequest)
	if json.NewDecoder(strings.NewReader(string(body))).Decode(in) != nil || in.RequestMetadata == nil || in.RequestMetadata.ID == "" && in.RequestMetadata.Principal == "" {
		return 0, xksapi.ValidationException
	}
	return f.key(parts[2], parts[3], in)
}

func (f *foreign) key(id, operation string, in *foreignRequest) (int, any) {
	if id != xksproxytest.Key {
		return 0, xksapi.KeyNotFoundException
	}
	if p := in.RequestMetadata.Principal; p != "" && p != foreignPrincipal {
		return 0, xksapi.AccessDeniedException
	}
	if operation == "metadata" {
		return 200, map[string]any{"keySpec": "AES_256", "keyStatus": "ENABLED", "keyUsage": []string{"ENCRYPT", "DECRYPT", "WRAP", "UNWRAP"}}
	}
	if in.Algorithm != "AES_GCM" || in.Integrity != "" && in.Integrity != "SHA_256" {
		return 0, xksapi.UnsupportedOperationException
	}
	var layout []byte
	var aad []byte
	if in.AAD != nil {
		aad = *in.AAD
		digest := sha256.Sum256(aad)
		layout = digest[:]
	}
	if operation == "decrypt" {
		return f.decrypt(in, layout)
	}
	if in.Plaintext == nil {
		return 0, xksapi.ValidationException
	}
	iv := make([]byte, 16)
	rand.Read(iv)
	out := f.gcm.Seal(nil, iv, *in.Plaintext, layout)
	ciphertext, tag := out[:len(out)-16], out[len(out)-16:]
	answer := map[string]any{"ciphertext": ciphertext, "initializationVector": iv, "authenticationTag": tag, "ciphertextMetadata": nil}
	if in.Integrity != "" {
		answer["ciphertextDataIntegrityValue"] = xksapi.IntegrityValue(aad, nil, iv, ciphertext, tag)
	}
	return 200, answer
}

func (f *foreign) decrypt(in *foreignRequest, layout []byte) (int, any) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return 0, xksapi.InternalException
	}
	if in.Ciphertext == nil || len(in.IV) != 16 || len(in.Tag) != 16 {
		return 0, xksapi.InvalidCiphertextException
	}
	plaintext, err := f.gcm.Open([]byte{}, in.IV, append(slices.Clone(*in.Ciphertext), in.Tag...), layout)
	if err != nil {
		return 0, xksapi.InvalidCiphertextException
	}
	return 200, map[string]any{"plaintext": plaintext}
}

// signed takes what was signed up to 20 minutes ago or ahead, for any service and
// Region, whatever headers and query strings were added.
func (f *foreign) signed(r *http.Request, body []byte) bool {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 20*time.Minute {
		return false
	}
	service := xksapi.Service
	if strings.Contains(r.Header.Get("Authorization"), "/kms/aws4_request") {
		service = "kms"
	}
	v := sigv4.Verifier{Service: service, Now: func() time.Time { return at }, Lookup: func(_ context.Context, id, _ string) (sigv4.Secret, bool) {
		text, ok := f.secrets[id]
		return sigv4.Secret{Key: secret.NewText(text)}, ok
	}}
	r.URL.RawQuery = ""
	_, err = v.Verify(r.Context(), r, body)
	return err == nil
}

func TestAConformingProxyOfOtherWaysDoesNotFail(t *testing.T) {
	t.Parallel()
	pki := xksproxytest.NewPKI(t)
	srv := httptest.NewUnstartedServer(newForeign(t))
	cert := pki.Server(t, xksproxytest.Host)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.StartTLS() // HTTP/1.1 only
	defer srv.Close()
	o := xksproxytest.Options(srv.Listener.Addr().String(), pki)
	o.DisabledKeyID, o.EncryptOnlyKeyID, o.DecryptOnlyKeyID, o.ImpotentKeyID, o.DeniedKeyID = "", "", "", "", ""
	o.Principal, o.KMSKeyARN = foreignPrincipal, "arn:aws:kms:eu-west-1:999999999999:key/x"
	r := run(t, o)
	if r.Failed > 0 || r.Passed < 80 || r.ExitStatus() != 0 {
		t.Errorf("a conforming proxy fails:\n%s", text(t, r))
	}
	for _, want := range []string{"auth.6-minutes-ago", "encrypt.aad-absent", "form.one-line", "http.query", "auth.second-credential", "health.no-metadata"} {
		if !slices.Contains(notPassed(r), want) {
			t.Errorf("%s does not warn", want)
		}
	}
	o.Principal = ""
	if r := run(t, o); r.OK() || !strings.Contains(text(t, r), "403 AccessDeniedException") {
		t.Error("a principal that the proxy denies is not told")
	}
}

// Everything that the options can leave out is skipped, and nothing fails for its lack.
func TestAProxyOfOneKeyAndOneCredentialPasses(t *testing.T) {
	t.Parallel()
	p := xksproxytest.Start(t, xksproxytest.Config(xksproxytest.FileRing(t)))
	o := p.Options()
	o = check.Options{URL: o.URL, Address: o.Address, CA: o.CA, AccessKeyID: o.AccessKeyID, Secret: o.Secret, KeyID: o.KeyID, Calls: 2}
	r := run(t, o)
	if got := notPassed(r); len(got) > 0 {
		t.Errorf("not passed: %v\n%s", got, text(t, r))
	}
}
