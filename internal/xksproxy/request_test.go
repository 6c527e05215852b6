package xksproxy_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

func with(o object, name string, value any) object {
	out := maps.Clone(o)
	out[name] = value
	if value == absent {
		delete(out, name)
	}
	return out
}

// absent is the value of a member that is left out.
const absent = "(absent)"

func TestEveryMemberOfARequestIsValidated(t *testing.T) {
	t.Parallel()
	p := fileProxy(t)
	bodies := map[string]object{
		"encrypt":  with(encryptOf("hello", "aad"), "ciphertextDataIntegrityValueAlgorithm", "SHA_256"),
		"decrypt":  decryptOf(encrypt(t, p, "key-1", "hello", "aad"), "aad"),
		"metadata": {"requestMetadata": metadata("CreateKey")},
		"health":   {"requestMetadata": object{"kmsOperation": "KmsHealthCheck", "kmsRequestId": "r"}},
	}
	path := func(op string) string {
		if op == "health" {
			return "/health"
		}
		return "/keys/key-1/" + op
	}
	notBlobs := []any{17, true, object{}, []int{1, 2}, "not*base64", "aGk", "-_-_", "aG\nk=", "aGl=", "aGk=\r\n", " aGk="}
	const invalid, forged = xksapi.ValidationException, xksapi.InvalidCiphertextException
	for _, c := range []struct {
		op, member string
		values     []any
		want       xksapi.ErrorName
	}{
		{"encrypt", "requestMetadata", []any{absent, nil, 1, "x", []int{}, object{}}, invalid},
		{"encrypt", "plaintext", append(notBlobs, absent, nil), invalid},
		{"encrypt", "encryptionAlgorithm", []any{absent, nil, "", 1, "AES_CBC", "aes_gcm"}, invalid},
		{"encrypt", "additionalAuthenticatedData", notBlobs, invalid},
		{"encrypt", "ciphertextDataIntegrityValueAlgorithm", []any{"", 1, "MD5", "SHA-256", "sha_256"}, invalid},
		{"decrypt", "requestMetadata", []any{absent, nil, object{}}, invalid},
		{"decrypt", "ciphertext", append(notBlobs, absent, nil), invalid},
		{"decrypt", "encryptionAlgorithm", []any{absent, nil, "", "AES_CBC"}, invalid},
		{"decrypt", "initializationVector", append(notBlobs, absent, nil), invalid},
		{"decrypt", "initializationVector", []any{"", make([]byte, 11), make([]byte, 13), make([]byte, 15), make([]byte, 17)}, forged},
		{"decrypt", "authenticationTag", append(notBlobs, absent, nil), invalid},
		{"decrypt", "authenticationTag", []any{"", make([]byte, 12), make([]byte, 15), make([]byte, 17)}, forged},
		{"decrypt", "ciphertextMetadata", notBlobs, invalid},
		{"decrypt", "ciphertextMetadata", []any{absent, nil, "", make([]byte, 20), make([]byte, 21)}, forged},
		{"decrypt", "ciphertext", []any{"", make([]byte, 5), make([]byte, 4300)}, forged},
		{"decrypt", "additionalAuthenticatedData", notBlobs, invalid},
		{"decrypt", "additionalAuthenticatedData", []any{absent, nil, "", "aGk="}, forged},
		{"decrypt", "ciphertext", []any{make([]byte, 4301)}, xksapi.UnsupportedOperationException},
		{"decrypt", "additionalAuthenticatedData", []any{make([]byte, 8193)}, xksapi.UnsupportedOperationException},
		{"metadata", "requestMetadata", []any{absent, nil, 1, object{}}, invalid},
		{"health", "requestMetadata", []any{absent, nil, 1, object{}}, invalid},
	} {
		for _, value := range c.values {
			t.Run(fmt.Sprintf("%s %s %.40v", c.op, c.member, value), func(t *testing.T) {
				wantError(t, post(t, p, path(c.op), with(bodies[c.op], c.member, value)), c.want)
			})
		}
	}
	for op, body := range bodies {
		if w := post(t, p, path(op), body); w.Code != http.StatusOK {
			t.Errorf("%s as it should be: %d %s", op, w.Code, w.Body)
		}
		for _, member := range []string{"kmsRequestId", "kmsOperation", "awsPrincipalArn", "kmsKeyArn", "kmsViaService", "awsSourceVpc", "awsSourceVpce"} {
			for _, value := range []any{absent, "", nil, 17} {
				w := post(t, p, path(op), with(body, "requestMetadata", with(body["requestMetadata"].(object), member, value)))
				if required(op, member) || value == 17 {
					wantError(t, w, invalid)
				} else if w.Code != http.StatusOK {
					t.Errorf("%s without the optional %s: %d %s", op, member, w.Code, w.Body)
				}
			}
		}
	}
}

func required(op, member string) bool {
	switch member {
	case "kmsRequestId", "kmsOperation":
		return true
	case "awsPrincipalArn":
		return op != "health"
	case "kmsKeyArn":
		return op == "encrypt" || op == "decrypt"
	}
	return false
}

func TestWhatKMSMaySendIsAccepted(t *testing.T) {
	t.Parallel()
	p := fileProxy(t)
	m := metadata("SomethingNew")
	m["kmsKeyArn"], m["awsPrincipalArn"], m["kmsRequestId"] = "arn:aws:kms:x:1:/key/"+strings.Repeat("k", 2030), "AWS Internal", "{\"\u2028}"
	m["awsSourceIdentity"] = object{"tags": []string{"a"}}
	body := with(encryptOf("", ""), "requestMetadata", m)
	body["additionalAuthenticatedData"], body["ciphertextDataIntegrityValueAlgorithm"], body["new"] = nil, nil, []any{1}
	w := post(t, p, "/keys/key-1/encrypt", body)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(w.Body.String(), `"ciphertext":""`) {
		t.Errorf("an empty plaintext gave %s", w.Body)
	}
	wantPlaintext(t, post(t, p, "/keys/key-1/decrypt", decryptOf(decode[xksapi.EncryptResponse](t, w), "")), "")

	text, _ := json.Marshal(encryptOf("\xff\xff\xff", "")) // "////"
	escaped := strings.ReplaceAll(string(text), "/", `\/`)
	if w := send(p, signed(base+"/keys/key-1/encrypt", []byte(escaped))); w.Code != http.StatusOK {
		t.Errorf("escaped slashes: %d %s", w.Code, w.Body)
	}
}

func TestKeyIDsThatClientsTakeForFoldersAreNoPaths(t *testing.T) {
	t.Parallel()
	p := fileProxy(t)
	for _, id := range []string{".", "..", "%2E", "a%2Fb", "a b", strings.Repeat("k", 129), ""} {
		wantError(t, post(t, p, "/keys/"+strings.ReplaceAll(id, " ", "%20")+"/encrypt", encryptOf("x", "")), xksapi.InvalidURIPathException)
	}
	wantError(t, post(t, p, "/keys/"+strings.Repeat("k", 128)+"/encrypt", encryptOf("x", "")), xksapi.KeyNotFoundException)
}

func TestHeadersThatOthersAddDoNotMatter(t *testing.T) {
	t.Parallel()
	p := fileProxy(t)
	body, _ := json.Marshal(encryptOf("x", ""))
	request := func(headers []string, before, after func(http.Header)) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "https://"+xksproxytest.Host+base+"/keys/key-1/encrypt", strings.NewReader(string(body)))
		before(r.Header)
		s := sigv4.Signer{Credentials: testSigner.Credentials, Service: xksapi.Service, Region: xksproxytest.Region, SignedHeaders: headers}
		s.Sign(r, body, time.Now())
		after(r.Header)
		return send(p, r)
	}
	nothing := func(http.Header) {}
	kms := []string{"host", "x-amz-date"}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"a delivery network's": request(kms, nothing, func(h http.Header) { h.Set("X-Amz-Cf-Id", "abc") }),
		"a trace":              request(kms, nothing, func(h http.Header) { h.Set("X-Amzn-Trace-Id", "abc") }),
		"a hash, unsigned":     request(kms, func(h http.Header) { h.Set("X-Amz-Content-Sha256", "x") }, nothing),
		"signed all":           request([]string{"content-type", "host", "x-amz-date", "x-amz-other"}, func(h http.Header) { h.Set("Content-Type", "application/json"); h.Set("X-Amz-Other", "y") }, nothing),
	} {
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"an unsigned date":        request([]string{"host"}, nothing, nothing),
		"an unsigned host":        request([]string{"x-amz-date"}, nothing, nothing),
		"a signed hash, wrong":    request([]string{"host", "x-amz-content-sha256", "x-amz-date"}, func(h http.Header) { h.Set("X-Amz-Content-Sha256", "x") }, nothing),
		"a signed header changed": request([]string{"host", "x-amz-date", "x-amz-other"}, func(h http.Header) { h.Set("X-Amz-Other", "y") }, func(h http.Header) { h.Set("X-Amz-Other", "z") }),
	} {
		t.Run(name, func(t *testing.T) { wantError(t, w, xksapi.AuthenticationFailedException) })
	}
}

func TestAnAccessKeyOfAnotherStoreIsUnknown(t *testing.T) {
	t.Parallel()
	p := fileProxy(t, func(c *xksproxy.Config) {
		other := c.Stores[0]
		other.Prefix = "/other"
		other.Credentials = []xksproxy.Credential{{AccessKeyID: "KASTELLANOTHERAAAAAAA", Secret: secret.NewText(xksproxytest.SecretKey)}}
		c.Stores = append(c.Stores, other)
	})
	body, _ := json.Marshal(encryptOf("x", ""))
	r := signed("/other"+xksapi.BasePath+"/keys/key-1/encrypt", body)
	w := send(p, r)
	wantError(t, w, xksapi.AuthenticationFailedException)
	if !strings.Contains(w.Body.String(), "access key id") {
		t.Errorf("the answer does not say what is wrong: %s", w.Body)
	}
}

func TestStrangersWhoSendSlowlyKeepNobodyOut(t *testing.T) {
	t.Parallel()
	cfg := xksproxytest.Config(xksproxytest.FileRing(t))
	cfg.MaxRequests = 1
	p := xksproxytest.StartServer(t, xksproxy.ServerConfig{Proxy: cfg, PlainHTTP: true}, nil)
	var slow []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s/health HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", base)
		slow = append(slow, conn)
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 5 {
		body, _ := json.Marshal(encryptOf("x", ""))
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.Addr().String()+base+"/keys/key-1/encrypt", strings.NewReader(string(body)))
		testSigner.Sign(r, body, time.Now())
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("beside slow strangers: %s", resp.Status)
		}
	}
	_ = slow[0].SetReadDeadline(time.Now().Add(8 * time.Second)) // the server's own time for headers and body is 10 s
	resp, err := http.ReadResponse(bufio.NewReader(slow[0]), nil)
	if err != nil {
		t.Fatalf("a slow stranger is waited for: %v", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || !resp.Close {
		t.Errorf("a slow stranger: %s, connection closed: %t", resp.Status, resp.Close)
	}
}

func TestALateCheckOfTheIntegrityValueIsATimeout(t *testing.T) {
	t.Parallel()
	ring := &aRing{
		encrypt: func(context.Context, []byte) (xksproxy.Sealed, error) {
			return xksproxy.Sealed{IV: make([]byte, 12), Ciphertext: make([]byte, 1), Tag: make([]byte, 16)}, nil
		},
		decrypt: func(ctx context.Context) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	p := newProxy(t, xksproxytest.Config(xksproxy.RingConfig{Name: "r", Ring: ring, Timeout: 10 * time.Millisecond}))
	body := with(encryptOf("x", ""), "ciphertextDataIntegrityValueAlgorithm", "SHA_256")
	wantError(t, post(t, p, "/keys/key-1/encrypt", body), xksapi.DependencyTimeoutException)
}

func TestACallerWhoLeavesIsNoDefectOfTheProxy(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	ring := &aRing{encrypt: func(ctx context.Context, _ []byte) (xksproxy.Sealed, error) {
		leave()
		<-ctx.Done()
		return xksproxy.Sealed{}, ctx.Err()
	}}
	p := newProxy(t, xksproxytest.Config(xksproxy.RingConfig{Name: "r", Ring: ring, Timeout: time.Minute}))
	body, _ := json.Marshal(encryptOf("x", ""))
	wantError(t, send(p, signed(base+"/keys/key-1/encrypt", body).WithContext(ctx)), xksapi.DependencyTimeoutException)
}

func TestRequestsAreGoodForFiveMinutesEitherWay(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	p := fileProxy(t, func(c *xksproxy.Config) { c.Now = func() time.Time { return now } })
	body, _ := json.Marshal(encryptOf("x", ""))
	for _, c := range []struct {
		offset time.Duration
		ok     bool
	}{{-5 * time.Minute, true}, {-5*time.Minute - time.Second, false}, {5 * time.Minute, true}, {5*time.Minute + time.Second, false}, {-24 * time.Hour, false}} {
		r := httptest.NewRequest(http.MethodPost, "https://"+xksproxytest.Host+base+"/keys/key-1/encrypt", strings.NewReader(string(body)))
		testSigner.Sign(r, body, now.Add(c.offset))
		if w := send(p, r); (w.Code == http.StatusOK) != c.ok {
			t.Errorf("signed %s from now: %d %s", c.offset, w.Code, w.Body)
		}
	}
}

func TestASecretOf64CharactersWorks(t *testing.T) {
	t.Parallel()
	long := secret.NewText(strings.Repeat("/+=a", 16))
	p := fileProxy(t, func(c *xksproxy.Config) { c.Stores[0].Credentials[0].Secret = long })
	body, _ := json.Marshal(encryptOf("x", ""))
	r := httptest.NewRequest(http.MethodPost, "https://"+xksproxytest.Host+base+"/keys/key-1/encrypt", strings.NewReader(string(body)))
	sigv4.Sign(r, body, sigv4.Credentials{AccessKeyID: xksproxytest.AccessKeyID, Secret: long}, xksapi.Service, xksproxytest.Region, time.Now())
	if w := send(p, r); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAnswersAreInStandardBase64AndComplete(t *testing.T) {
	t.Parallel()
	w := post(t, fileProxy(t), "/keys/key-1/encrypt", with(encryptOf("hello", "aad"), "ciphertextDataIntegrityValueAlgorithm", "SHA_256"))
	var out map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	parts := map[string][]byte{}
	for name, text := range out {
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		parts[name] = b
	}
	want := xksapi.IntegrityValue([]byte("aad"), parts["ciphertextMetadata"], parts["initializationVector"], parts["ciphertext"], parts["authenticationTag"])
	if got := parts["ciphertextDataIntegrityValue"]; string(got) != string(want) {
		t.Errorf("integrity value %x, want %x", got, want)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
}
