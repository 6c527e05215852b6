package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/server"
	"kastellan.dev/internal/sigv4"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	region    = "eu-central-1"
	accessKey = "AKIAALICE00000000001"
	aliceARN  = "arn:aws:iam::111122223333:user/alice"
)

var secretKey = secret.NewText("a secret of 16 or more letters")

// canary stands in values that nothing may show.
const canary = "CANARY"

func identities(t testing.TB) *identity.Source {
	t.Helper()
	d, err := identity.New([]identity.Account{{ID: "111122223333", Users: []identity.User{
		{Name: "alice", AccessKeys: []identity.AccessKey{{ID: accessKey, Secret: secretKey}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return identity.NewSource(d)
}

// record is a fake domain. Its fields are what its operations saw and do.
type record struct {
	callers chan identity.Caller // gets the callers of Encrypt
	started chan struct{}        // gets a value when Wait begins
	release chan struct{}        // ends Wait
}

func newRecord() *record {
	return &record{callers: make(chan identity.Caller, 16), started: make(chan struct{}, 16), release: make(chan struct{})}
}

func (rec *record) apis() []server.API {
	encryptRequest := func() any { return new(kmsapi.EncryptRequest) }
	op := func(name string, call func(context.Context, *kmsapi.EncryptRequest) (any, error)) server.Operation {
		return server.Operation{Name: name, New: encryptRequest, Call: func(ctx context.Context, _ identity.Caller, in any) (any, error) {
			return call(ctx, in.(*kmsapi.EncryptRequest))
		}}
	}
	return []server.API{{Target: "TrentService", Service: "kms", Operations: []server.Operation{
		{Name: "Encrypt", New: encryptRequest, Call: rec.encrypt},
		op("EnableKey", func(context.Context, *kmsapi.EncryptRequest) (any, error) { return &kmsapi.Empty{}, nil }),
		op("Refuse", func(context.Context, *kmsapi.EncryptRequest) (any, error) {
			return nil, kmsapi.Errorf(kmsapi.NotFound, "no such key").Because(errors.New("the hidden cause"))
		}),
		op("Deny", func(context.Context, *kmsapi.EncryptRequest) (any, error) {
			return nil, kmsapi.Errorf(kmsapi.AccessDenied, "not you")
		}),
		op("Unavailable", func(context.Context, *kmsapi.EncryptRequest) (any, error) {
			return nil, kmsapi.Errorf(kmsapi.KeyUnavailable, "later")
		}),
		op("Fail", func(context.Context, *kmsapi.EncryptRequest) (any, error) {
			return nil, errors.New("the hidden cause")
		}),
		op("Panic", func(_ context.Context, in *kmsapi.EncryptRequest) (any, error) {
			panic(string(in.Plaintext.Reveal()))
		}),
		op("AnswerNonsense", func(context.Context, *kmsapi.EncryptRequest) (any, error) {
			return struct{ NoTag string }{canary}, nil
		}),
		op("Wait", rec.wait),
		op("AwaitDeadline", func(ctx context.Context, _ *kmsapi.EncryptRequest) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}),
	}}, {Target: "Kastellan", Service: "kms", Operations: []server.Operation{
		op("Encrypt", func(context.Context, *kmsapi.EncryptRequest) (any, error) {
			return kmsapi.EncryptResponse{KeyID: "the other table"}, nil
		}),
	}}, {
		Target: cloudhsmapi.Target, Service: cloudhsmapi.Service, Errors: &server.Errors{OnWire: cloudhsmapi.OnWire, Message: cloudhsmapi.MessageMember},
		Operations: []server.Operation{
			op("DescribeClusters", func(context.Context, *kmsapi.EncryptRequest) (any, error) { return &kmsapi.Empty{}, nil }),
			{
				Name: "CreateHsm", New: func() any { return new(cloudhsmapi.CreateHsmRequest) },
				Call: func(_ context.Context, _ identity.Caller, in any) (any, error) {
					return rec.createHsm(in.(*cloudhsmapi.CreateHsmRequest))
				},
			},
		},
	}}
}

// encrypt answers with the plaintext backwards.
func (rec *record) encrypt(_ context.Context, c identity.Caller, in any) (any, error) {
	rec.callers <- c
	req := in.(*kmsapi.EncryptRequest)
	out := bytes.Clone(req.Plaintext.Reveal())
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return &kmsapi.EncryptResponse{CiphertextBlob: out, KeyID: req.KeyID, EncryptionAlgorithm: kmsapi.AlgorithmSymmetricDefault}, nil
}

// createHsm answers with a kind of error for each availability zone.
func (rec *record) createHsm(in *cloudhsmapi.CreateHsmRequest) (any, error) {
	switch in.AvailabilityZone {
	case "eu-central-1a":
		return nil, kmsapi.Errorf(cloudhsmapi.ResourceNotFound, "no such cluster")
	case "eu-central-1b":
		return nil, kmsapi.Errorf(kmsapi.AccessDenied, "not you")
	case "eu-central-1c":
		return nil, errors.New("the hidden cause")
	default:
		return cloudhsmapi.CreateHsmResponse{Hsm: &cloudhsmapi.Hsm{HsmID: "hsm-" + strings.Repeat("a", 11)}}, nil
	}
}

func (rec *record) wait(ctx context.Context, in *kmsapi.EncryptRequest) (any, error) {
	rec.started <- struct{}{}
	select {
	case <-rec.release:
		return kmsapi.EncryptResponse{KeyID: in.KeyID}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// logs collects what a server logs.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}

// fixture is a server on a free port and a client of its own.
type fixture struct {
	*record
	t      testing.TB
	logs   *logs
	server *server.Server
	url    string
	client *http.Client
}

func start(t testing.TB, change func(*server.Config)) *fixture {
	t.Helper()
	f := &fixture{record: newRecord(), t: t, logs: new(logs)}
	cfg := server.Config{APIs: f.apis(), Identities: identities(t), Logger: f.logs.logger(slog.LevelDebug)}
	if change != nil {
		change(&cfg)
	}
	var err error
	if f.server, err = server.New(cfg); err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(f.server)
	t.Cleanup(ts.Close)
	f.url, f.client = ts.URL, ts.Client()
	return f
}

// request makes a request for an operation, not signed yet.
func (f *fixture) request(target, body string) *http.Request {
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.url+"/", strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", target)
	return r
}

func sign(r *http.Request, body, service string) *http.Request {
	sigv4.Sign(r, []byte(body), sigv4.Credentials{AccessKeyID: accessKey, Secret: secretKey}, service, region, time.Now())
	return r
}

// reply is an answer whose body has been read.
type reply struct {
	*http.Response
	text string
}

func (f *fixture) do(r *http.Request) reply {
	f.t.Helper()
	resp, err := f.client.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return reply{resp, string(text)}
}

// call signs a request and sends it.
func (f *fixture) call(target, body string) reply {
	f.t.Helper()
	return f.do(sign(f.request(target, body), body, "kms"))
}

func (f *fixture) get(path string) reply {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.url+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.do(r)
}

// code is the exception of an answer; the body must be nothing but it and a text.
func (r reply) code(t testing.TB) (code, message string) {
	t.Helper()
	var body struct {
		Type    string `json:"__type"`
		Message string `json:"message"` // encoding/json takes "Message" too
	}
	d := json.NewDecoder(strings.NewReader(r.text))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		t.Fatalf("%q: %v", r.text, err)
	}
	return body.Type, body.Message
}

const encryptBody = `{"KeyId":"alias/a","Plaintext":"Q0FOQVJZ"}` // CANARY
