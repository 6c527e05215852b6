package server_test

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/server"
)

var uuidV4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// checkHeaders holds what every answer has.
func checkHeaders(t *testing.T, r reply) {
	t.Helper()
	if id := r.Header.Get("x-amzn-RequestId"); !uuidV4.MatchString(id) {
		t.Errorf("request id %q", id)
	}
	if got := r.Header.Get("Content-Type"); got != "application/x-amz-json-1.1" {
		t.Errorf("Content-Type %q", got)
	}
	if _, err := http.ParseTime(r.Header.Get("Date")); err != nil {
		t.Errorf("Date: %v", err)
	}
	if int(r.ContentLength) != len(r.text) {
		t.Errorf("Content-Length %d of %d bytes", r.ContentLength, len(r.text))
	}
	if got := r.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
}

func TestAnOperationIsCalled(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	r := f.call("TrentService.Encrypt", encryptBody)
	if want := `{"CiphertextBlob":"WVJBTkFD","KeyId":"alias/a","EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`; r.StatusCode != 200 || r.text != want {
		t.Errorf("%s %s", r.Status, r.text)
	}
	checkHeaders(t, r)
	c := <-f.callers
	want := identity.Caller{Region: region, RequestID: r.Header.Get("x-amzn-RequestId"), SourceIP: "127.0.0.1",
		UserAgent: "Go-http-client/1.1", Host: strings.TrimPrefix(f.url, "http://")}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreFields(identity.Caller{}, "Principal")); diff != "" {
		t.Error(diff)
	}
	if c.ARN != aliceARN {
		t.Errorf("the caller is %s", c.ARN)
	}
}

func TestAnOperationWithoutOutputAnswersWithAnEmptyBody(t *testing.T) {
	t.Parallel()
	r := start(t, nil).call("TrentService.EnableKey", encryptBody)
	if r.StatusCode != 200 || r.text != "" {
		t.Errorf("%s %q", r.Status, r.text)
	}
	checkHeaders(t, r)
}

func TestTablesAreToldApartByTheirTargets(t *testing.T) {
	t.Parallel()
	if r := start(t, nil).call("Kastellan.Encrypt", encryptBody); r.text != `{"KeyId":"the other table"}` {
		t.Errorf("%s %s", r.Status, r.text)
	}
}

func TestEachAPIHasItsOwnService(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	if r := f.do(sign(f.request("BaldrApiService.DescribeClusters", encryptBody), encryptBody, "cloudhsm")); r.StatusCode != 200 {
		t.Errorf("%s %s", r.Status, r.text)
	}
	r := f.call("BaldrApiService.DescribeClusters", encryptBody)
	if code, _ := r.code(t); code != "InvalidSignatureException" {
		t.Errorf("%s %s", r.Status, r.text)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *server.Config) { c.MaxBody = 1000 })
	const encrypt = "TrentService.Encrypt"
	signed := func(target, body string) *http.Request { return sign(f.request(target, body), body, "kms") }
	with := func(r *http.Request, change func(*http.Request)) *http.Request { change(r); return r }
	tests := map[string]struct {
		request *http.Request
		status  int
		code    string
		message string // a part
	}{
		"JSON that is none, before anything else":      {f.request("TrentService.Nothing", "{"), 400, "SerializationException", "not valid JSON"},
		"an unknown operation, before the signature":   {f.request("TrentService.Nothing", "{}"), 400, "UnknownOperationException", ""},
		"an operation of another service":              {f.request("DynamoDB_20120810.Encrypt", "{}"), 400, "UnknownOperationException", ""},
		"a target in small letters":                    {f.request("trentservice.encrypt", "{}"), 400, "UnknownOperationException", ""},
		"a target without a dot":                       {f.request("Encrypt", "{}"), 400, "UnknownOperationException", ""},
		"no target":                                    {with(f.request("", "{}"), func(r *http.Request) { r.Header.Del("X-Amz-Target") }), 400, "UnknownOperationException", ""},
		"two targets":                                  {with(f.request(encrypt, "{}"), func(r *http.Request) { r.Header.Add("X-Amz-Target", encrypt) }), 400, "UnknownOperationException", ""},
		"no signature, before constraints":             {f.request(encrypt, "{}"), 400, "MissingAuthenticationTokenException", "Authentication Token"},
		"an incomplete signature":                      {with(f.request(encrypt, "{}"), func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }), 400, "IncompleteSignatureException", "Credential"},
		"a signature of another body":                  {sign(f.request(encrypt, encryptBody), "{}", "kms"), 400, "InvalidSignatureException", "does not match"},
		"a signature for another service":              {sign(f.request(encrypt, encryptBody), encryptBody, "s3"), 400, "InvalidSignatureException", "'kms'"},
		"a target that is not the signed one":          {with(signed("TrentService.EnableKey", encryptBody), func(r *http.Request) { r.Header.Set("X-Amz-Target", encrypt) }), 400, "InvalidSignatureException", "does not match"},
		"a member of the wrong type":                   {signed(encrypt, `{"Plaintext":5}`), 400, "SerializationException", "Plaintext"},
		"constraints":                                  {signed(encrypt, `{"Plaintext":""}`), 400, "ValidationException", "2 validation errors detected: Value null at 'keyId'"},
		"a body that is too large":                     {signed(encrypt, strings.Repeat(" ", 1001)), 413, "RequestEntityTooLargeException", "1000"},
		"a body that is too large and does not say it": {with(signed(encrypt, strings.Repeat(" ", 1001)), func(r *http.Request) { r.ContentLength = -1 }), 413, "RequestEntityTooLargeException", "1000"},
		"an error of the operation":                    {signed("TrentService.Refuse", encryptBody), 400, "NotFoundException", "no such key"},
		"access denied":                                {signed("TrentService.Deny", encryptBody), 400, "AccessDeniedException", "not you"},
		"a fault that may pass":                        {signed("TrentService.Unavailable", encryptBody), 500, "KeyUnavailableException", "later"},
		"an error of no kind":                          {signed("TrentService.Fail", encryptBody), 500, "KMSInternalException", "the server's log"},
		"a panic":                                      {signed("TrentService.Panic", encryptBody), 500, "KMSInternalException", "the server's log"},
		"an answer that cannot be written":             {signed("TrentService.AnswerNonsense", encryptBody), 500, "KMSInternalException", "the server's log"},
		"GET":                                          {with(signed(encrypt, encryptBody), func(r *http.Request) { r.Method = "GET" }), 405, "UnknownOperationException", ""},
		"PUT":                                          {with(signed(encrypt, encryptBody), func(r *http.Request) { r.Method = "PUT" }), 405, "UnknownOperationException", ""},
		"POST to health":                               {with(f.request(encrypt, ""), func(r *http.Request) { r.URL.Path = "/healthz" }), 405, "UnknownOperationException", ""},
		"POST to metrics":                              {with(f.request(encrypt, ""), func(r *http.Request) { r.URL.Path = "/metrics" }), 405, "UnknownOperationException", ""},
		"another path":                                 {with(f.request(encrypt, ""), func(r *http.Request) { r.URL.Path = "/kms" }), 404, "UnknownOperationException", ""},
		"a console that is not there":                  {with(f.request(encrypt, ""), func(r *http.Request) { r.URL.Path = "/console" }), 404, "UnknownOperationException", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := *f
			f.t = t
			r := f.do(test.request.WithContext(t.Context()))
			code, message := r.code(t)
			if r.StatusCode != test.status || code != test.code || !strings.Contains(message, test.message) {
				t.Errorf("%s %s", r.Status, r.text)
			}
			if test.message == "" && message != "" {
				t.Errorf("message %q", message)
			}
			if strings.Contains(r.text, "hidden") || strings.Contains(r.text, canary) {
				t.Errorf("%s shows what it must not", r.text)
			}
			if test.status == 405 && r.Header.Get("Allow") == "" {
				t.Error("no Allow")
			}
			checkHeaders(t, r)
		})
	}
}

func TestRegionsThatAreNotServed(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *server.Config) { c.Regions = []string{"eu-west-1"} })
	if code, _ := f.call("TrentService.Encrypt", encryptBody).code(t); code != "InvalidSignatureException" {
		t.Error(code)
	}
	f = start(t, func(c *server.Config) { c.Regions = []string{"eu-west-1", region} })
	if r := f.call("TrentService.Encrypt", encryptBody); r.StatusCode != 200 {
		t.Error(r.text)
	}
}

func TestTheClockIsTheConfigured(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *server.Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } })
	if _, message := f.call("TrentService.Encrypt", encryptBody).code(t); !strings.Contains(message, "Signature expired") {
		t.Error(message)
	}
}

func TestTooManyRequestsAtOnceAreThrottled(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *server.Config) { c.MaxConcurrent = 1 })
	first := make(chan reply)
	go func() { first <- f.call("TrentService.Wait", encryptBody) }()
	<-f.started
	r := f.call("TrentService.Encrypt", encryptBody)
	if code, _ := r.code(t); code != "ThrottlingException" || r.StatusCode != 400 {
		t.Errorf("%s %s", r.Status, r.text)
	}
	if text := f.get("/metrics").text; !strings.Contains(text, "kastellan_requests_in_flight 1\n") ||
		!strings.Contains(text, `kastellan_overload_throttles_total{limit="concurrent-requests"} 1`) {
		t.Errorf("metrics\n%s", text)
	}
	close(f.release)
	if r := <-first; r.StatusCode != 200 {
		t.Errorf("%s %s", r.Status, r.text)
	}
	if r := f.call("TrentService.Encrypt", encryptBody); r.StatusCode != 200 {
		t.Errorf("the place is not free again: %s %s", r.Status, r.text)
	}
}

func TestOperationsHaveADeadline(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *server.Config) { c.Timeout = time.Nanosecond })
	r := f.call("TrentService.AwaitDeadline", encryptBody)
	if code, _ := r.code(t); code != "KMSInternalException" {
		t.Error(r.text)
	}
	if text := f.logs.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "deadline exceeded") {
		t.Error(text)
	}
}

func TestAClientThatGoesAwayEndsTheOperation(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	r := sign(f.request("TrentService.Wait", encryptBody), encryptBody, "kms").WithContext(ctx)
	go func() {
		resp, err := f.client.Do(r)
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	<-f.started
	cancel()
	if err := <-failed; err == nil {
		t.Error("there is an answer")
	}
	const count = `kastellan_requests_total{api="TrentService",code="Canceled",operation="Wait"} 1`
	polltest.Until(t, "the count of the request", func() bool { return strings.Contains(f.get("/metrics").text, count) })
	if strings.Contains(f.logs.String(), "level=ERROR") {
		t.Errorf("an error is logged:\n%s", f.logs)
	}
}

func TestInternalErrorsAreLoggedWithTheRequestID(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"TrentService.Fail":           "the hidden cause",
		"TrentService.Refuse":         "the hidden cause",
		"TrentService.Panic":          "panicked with a string",
		"TrentService.AnswerNonsense": "panicked with a *fmt.wrapError",
	} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			f := start(t, nil)
			id := f.call(target, encryptBody).Header.Get("x-amzn-RequestId")
			found := false
			for line := range strings.Lines(f.logs.String()) {
				if strings.Contains(line, want) {
					found = true
					if !strings.Contains(line, "requestId="+id) || !strings.Contains(line, "operation="+target) || !strings.Contains(line, "principal="+aliceARN) {
						t.Error(line)
					}
				}
			}
			if !found {
				t.Errorf("not in the log:\n%s", f.logs)
			}
			if strings.Contains(f.logs.String(), canary) || strings.Contains(f.logs.String(), "Q0FOQVJZ") {
				t.Errorf("the log shows the plaintext:\n%s", f.logs)
			}
		})
	}
}

// The arguments that a stack trace shows may be parts of a key.
func TestAPanicIsLoggedWithItsPlaceAndNothingElse(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.call("TrentService.Panic", encryptBody)
	text := f.logs.String()
	if !strings.Contains(text, "server_test.(*record).apis.func") || !strings.Contains(text, "server.(*exchange).work:") {
		t.Errorf("the log does not say where:\n%s", text)
	}
	if strings.Contains(text, "0x") || strings.Contains(text, "goroutine") {
		t.Errorf("the log shows arguments:\n%s", text)
	}
	if r := f.call("TrentService.EnableKey", encryptBody); r.StatusCode != 200 {
		t.Errorf("afterwards: %s", r.Status)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	call := func(context.Context, identity.Caller, any) (any, error) { return nil, nil }
	request := func() any { return new(kmsapi.EncryptRequest) }
	api := func(ops ...server.Operation) []server.API {
		return []server.API{{Target: "T", Service: "kms", Operations: ops}}
	}
	tests := map[string]struct {
		cfg  server.Config
		want string
	}{
		"no identities":                {server.Config{}, "no source of identities"},
		"an operation without New":     {server.Config{Identities: identities(t), APIs: api(server.Operation{Name: "A", Call: call})}, "T.A has no New or no Call"},
		"an operation without Call":    {server.Config{Identities: identities(t), APIs: api(server.Operation{Name: "A", New: request})}, "T.A has no New or no Call"},
		"an operation twice":           {server.Config{Identities: identities(t), APIs: api(server.Operation{Name: "A", New: request, Call: call}, server.Operation{Name: "A", New: request, Call: call})}, "T.A exists twice"},
		"a request that is no request": {server.Config{Identities: identities(t), APIs: api(server.Operation{Name: "A", New: func() any { return new(struct{ X float64 }) }, Call: call})}, "T.A: awsjson:"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := server.New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not say %q", err, test.want)
			}
		})
	}
}

func TestTwoServersCannotShareARegistry(t *testing.T) {
	t.Parallel()
	var cfg server.Config
	start(t, func(c *server.Config) { c.Metrics = newRegistry(); cfg = *c })
	if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), "registering metrics") {
		t.Errorf("error %v", err)
	}
}

// What a client says of itself goes into the record, and is compared with patterns in policies.
func TestOnlySoMuchIsKeptOfWhatAClientSaysOfItself(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	long := strings.Repeat("ü", 10_000)
	request := sign(f.request("TrentService.Encrypt", encryptBody), encryptBody, "kms")
	request.Header.Set("User-Agent", "x"+long)
	request.Header.Set("Referer", long)
	r := f.do(request)
	if r.StatusCode != 200 {
		t.Fatalf("%s %s", r.Status, r.text)
	}
	c := <-f.callers
	if c.UserAgent != "x"+long[:1022] || c.Referer != long[:1024] {
		t.Errorf("%d bytes of User-Agent, %d of Referer", len(c.UserAgent), len(c.Referer))
	}
}
