package server_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/server"
)

// raw sends bytes as they are and gives all that comes back until the server
// closes, or until it has answered and waits.
func (s *serving) raw(t *testing.T, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, net.ErrClosed) && len(answer) == 0 {
		t.Fatal(err)
	}
	return string(answer)
}

// signedText is a signed request as it goes over the wire.
func (s *serving) signedText(t *testing.T, change func(*http.Request)) string {
	t.Helper()
	r := s.request("TrentService.Encrypt", encryptBody)
	change(r)
	sign(r, encryptBody, "kms")
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	return wire.String()
}

func TestPlainConnectionsSpeakHTTP1Only(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, nil)
	plain := s.signedText(t, func(*http.Request) {})
	if got := s.raw(t, plain); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Fatalf("a request as it should be is answered %q", got)
	}
	upgrade := s.signedText(t, func(r *http.Request) {
		r.Header.Set("Connection", "Upgrade, HTTP2-Settings")
		r.Header.Set("Upgrade", "h2c")
		r.Header.Set("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA")
	})
	if got := s.raw(t, upgrade); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("a request that asks for h2c is answered %q", got)
	}
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	if got := s.raw(t, preface); !strings.HasPrefix(got, "HTTP/1.1 ") || strings.HasPrefix(got, "HTTP/1.1 2") {
		t.Errorf("the preface of HTTP/2 is answered %q", got)
	}
}

// What one parser takes for the end of a request another must not take for its middle.
func TestRequestsWithTwoReadingsAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, nil)
	const begin = "POST / HTTP/1.1\r\nHost: kms\r\n"
	for name, text := range map[string]string{
		"two lengths":                  begin + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
		"a length with a sign":         begin + "Content-Length: +2\r\n\r\n{}",
		"a negative length":            begin + "Content-Length: -1\r\n\r\n{}",
		"a length beyond all bounds":   begin + "Content-Length: 99999999999999999999\r\n\r\n{}",
		"an unknown transfer encoding": begin + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"two transfer encodings":       begin + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"no Host":                      "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
		"two Hosts":                    begin + "Host: other\r\nContent-Length: 2\r\n\r\n{}",
		"a folded header":              begin + "X-Amz-Target: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
		"a blank before the colon":     begin + "Content-Length : 2\r\n\r\n{}",
		"a NUL in a header":            begin + "X-Amz-Target: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
		"no version":                   "POST /\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.raw(t, text)
			status, rest, _ := strings.Cut(strings.TrimPrefix(got, "HTTP/1.1 "), " ")
			if len(status) != 3 || status[0] != '4' && status != "501" || strings.Contains(rest, "HTTP/1.1") || strings.Contains(rest, "MissingAuthentication") {
				t.Errorf("answered %q", got)
			}
		})
	}
}

func TestTheHeaderHasALimit(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, nil)
	long := s.signedText(t, func(r *http.Request) { r.Header.Set("X-Long", strings.Repeat("x", 80<<10)) })
	if got := s.raw(t, long); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("answered %.100q", got)
	}
}

func TestBodiesInOtherFormsAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	const target = "TrentService.Encrypt"
	chunk := fmt.Sprintf("%x;chunk-signature=%s\r\n%s\r\n0;chunk-signature=%s\r\n\r\n", len(encryptBody), strings.Repeat("0", 64), encryptBody, strings.Repeat("0", 64))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, encryptBody)
	_ = z.Close()
	with := func(body string, headers ...string) *http.Request {
		r := f.request(target, body)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return sign(r, body, "kms")
	}
	tests := map[string]struct {
		request *http.Request
		status  int
		code    string
	}{
		"chunks of AWS's own":               {with(chunk, "Content-Encoding", "aws-chunked", "X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), 400, "SerializationException"},
		"a payload that is not signed":      {with(encryptBody, "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), 400, "InvalidSignatureException"},
		"a streaming payload":               {with(encryptBody, "X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"), 400, "InvalidSignatureException"},
		"the hash of nothing":               {with(encryptBody, "X-Amz-Content-Sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), 400, "InvalidSignatureException"},
		"a compressed body":                 {with(packed.String(), "Content-Encoding", "gzip"), 400, "SerializationException"},
		"CBOR":                              {with("\xa0", "Content-Type", "application/x-amz-cbor-1.1"), 404, "UnknownOperationException"},
		"a form":                            {with(encryptBody, "Content-Type", "application/x-www-form-urlencoded"), 404, "UnknownOperationException"},
		"a form of parts":                   {with(encryptBody, "Content-Type", "multipart/form-data; boundary=x"), 404, "UnknownOperationException"},
		"no type that is one":               {with(encryptBody, "Content-Type", ""), 404, "UnknownOperationException"},
		"two types in one":                  {with(encryptBody, "Content-Type", "application/x-amz-json-1.1, text/plain"), 404, "UnknownOperationException"},
		"AWS JSON of the version before":    {with(encryptBody, "Content-Type", "application/x-amz-json-1.0"), 200, ""},
		"JSON":                              {with(encryptBody, "Content-Type", "application/json"), 200, ""},
		"a type with a charset":             {with(encryptBody, "Content-Type", "Application/X-AMZ-JSON-1.1 ; charset=utf-8"), 200, ""},
		"no type":                           {without(f.request(target, encryptBody), "Content-Type"), 200, ""},
		"a form, which nobody has signed":   {inHeader(f.request("TrentService.Nothing", "{"), "Content-Type", "text/plain"), 404, "UnknownOperationException"},
		"HTTP's own chunks":                 {unsized(with(encryptBody)), 200, ""},
		"a type given twice":                {twice(f.request(target, encryptBody), "Content-Type"), 404, "UnknownOperationException"},
		"the same, where one is none of it": {added(f.request(target, encryptBody), "Content-Type", "text/plain"), 404, "UnknownOperationException"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := *f
			f.t = t
			r := f.do(test.request.WithContext(t.Context()))
			if test.code == "" {
				if r.StatusCode != 200 || !strings.Contains(r.text, "WVJBTkFD") {
					t.Errorf("%s %s", r.Status, r.text)
				}
				return
			}
			if code, _ := r.code(t); r.StatusCode != test.status || code != test.code {
				t.Errorf("%s %s", r.Status, r.text)
			}
			checkHeaders(t, r)
		})
	}
}

func without(r *http.Request, header string) *http.Request {
	r.Header.Del(header)
	return sign(r, encryptBody, "kms")
}

func twice(r *http.Request, header string) *http.Request {
	return added(r, header, r.Header.Get(header))
}

func added(r *http.Request, header, value string) *http.Request {
	r.Header.Add(header, value)
	return sign(r, encryptBody, "kms")
}

func unsized(r *http.Request) *http.Request {
	r.ContentLength = -1
	return r
}

// The scope of the credential and the codes are what AWS's clients see first
// when they are set up wrongly.
func TestWrongScopesHaveTheCodesOfAWS(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *server.Config) { c.Regions = []string{region} })
	tests := map[string]struct{ old, new, code, message string }{
		"another Region":    {"/" + region + "/", "/us-east-1/", "InvalidSignatureException", "Credential should be scoped to a valid region, not 'us-east-1'. "},
		"no Region":         {"/" + region + "/", "//", "InvalidSignatureException", "Credential should be scoped to a valid region, not ''. "},
		"another service":   {"/kms/", "/s3/", "InvalidSignatureException", "Credential should be scoped to correct service: 'kms'. "},
		"another end":       {"/aws4_request", "/aws4", "InvalidSignatureException", "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws4'. "},
		"too few parts":     {"/kms/aws4_request", "/kms", "IncompleteSignatureException", "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '"},
		"too many parts":    {"/kms/", "/kms/x/", "IncompleteSignatureException", "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '"},
		"another date":      {"/20", "/19", "InvalidSignatureException", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '19"},
		"another algorithm": {"AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "IncompleteSignatureException", "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'."},
		"another key":       {accessKey, "AKIANOBODY0000000001", "UnrecognizedClientException", "The security token included in the request is invalid."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := *f
			f.t = t
			r := sign(f.request("TrentService.Encrypt", encryptBody), encryptBody, "kms")
			authorization := strings.Replace(r.Header.Get("Authorization"), test.old, test.new, 1)
			r.Header.Set("Authorization", authorization)
			answer := f.do(r)
			if code, message := answer.code(t); answer.StatusCode != 400 || code != test.code || !strings.HasPrefix(message, test.message) {
				t.Errorf("%s %s", answer.Status, answer.text)
			}
		})
	}
}

// heldBody is a body that has an end only when it is released. It tells when
// the server has read, and so counted, all before that; over a connection
// nobody could tell.
type heldBody struct {
	sent          *strings.Reader
	read, release chan struct{}
}

func (b *heldBody) Read(p []byte) (int, error) {
	if b.sent.Len() > 0 {
		return b.sent.Read(p)
	}
	close(b.read)
	<-b.release
	return 0, io.EOF
}

func TestBodiesShareMemoryThatHasALimit(t *testing.T) {
	t.Parallel()
	const budget = 100 << 10
	f := start(t, func(c *server.Config) { c.MaxBuffered = budget })
	large := `{"KeyId":"alias/a","Plaintext":"Q0FOQVJZ"` + strings.Repeat(" ", 16<<10+budget/2+1) + "}"
	held := &heldBody{sent: strings.NewReader(large), read: make(chan struct{}), release: make(chan struct{})}
	answered := make(chan int, 1)
	go func() { // holds half of the memory, and a byte
		r := sign(f.request("TrentService.EnableKey", ""), large, "kms")
		r.Body, r.ContentLength = io.NopCloser(held), -1
		w := statusWriter{header: http.Header{}}
		f.server.ServeHTTP(&w, r)
		answered <- w.status
	}()
	<-held.read
	// The other half is not enough for another one as large.
	if got := f.call("TrentService.EnableKey", large); got.StatusCode != 400 || !strings.Contains(got.text, "ThrottlingException") {
		t.Errorf("a large one beside it: %s %s", got.Status, got.text)
	}
	if got := f.call("TrentService.EnableKey", encryptBody); got.StatusCode != 200 {
		t.Errorf("a small one beside it: %s %s", got.Status, got.text)
	}
	close(held.release)
	if got := <-answered; got != 200 {
		t.Errorf("the first: %d", got)
	}
	for range 3 { // all is given back
		if got := f.call("TrentService.EnableKey", large); got.StatusCode != 200 {
			t.Errorf("afterwards: %s %s", got.Status, got.text)
		}
	}
}

func TestMetricsAreForThisMachineAndForWhomIsNamed(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *server.Config) {
		c.MetricsFrom = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/32")}
	})
	for from, want := range map[string]int{
		"127.0.0.1:1":          200,
		"127.1.2.3:1":          200,
		"[::1]:1":              200,
		"[::ffff:127.0.0.1]:1": 200,
		"10.1.2.3:1":           200,
		"[::ffff:10.1.2.3]:1":  200,
		"[2001:db8::1]:1":      200,
		"@":                    200,
		"10.2.0.1:1":           404,
		"192.0.2.1:1":          404,
		"[2001:db9::1]:1":      404,
		"[fe80::1%eth0]:1":     404,
		"pipe":                 404,
		"127.0.0.1.evil:1":     404,
	} {
		r, _ := http.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = from
		r.Header.Set("X-Forwarded-For", "127.0.0.1")
		w := statusWriter{header: http.Header{}, status: 200}
		if f.server.ServeHTTP(&w, r); w.status != want {
			t.Errorf("%s: %d, want %d", from, w.status, want)
		}
	}
}
