package e2e_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/tracing/otlp"
	"kastellan.dev/internal/tracing/tracingtest"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

type proxyConfig = xksproxy.ServerConfig

func proxyConfigOf(t *testing.T, certificate *tls.Certificate) proxyConfig {
	t.Helper()
	return proxyConfig{Proxy: xksproxytest.Config(xksproxytest.FileRing(t)), TLS: &xksproxy.TLSConfig{Certificate: certificate}}
}

// tracedProxy is the proxy's configuration for a collector.
func tracedProxy(t *testing.T, c *tracingtest.Collector, accept bool) func(*proxyConfig) {
	t.Helper()
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return func(cfg *proxyConfig) {
		cfg.Tracing = &otlp.Config{Endpoint: c.URL, CA: pool, SampleRatio: 1, Accept: accept, Service: "kastellan-xks-proxy", Delay: time.Millisecond}
	}
}

// journal is a log in JSON that can be read while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// find waits for a line with the message whose attribute has the value.
func (j *journal) find(t *testing.T, message, attribute, value string) map[string]any {
	t.Helper()
	var found map[string]any
	polltest.Until(t, message+" with "+attribute+"="+value, func() bool {
		j.mu.Lock()
		lines := strings.Split(strings.TrimSpace(j.buf.String()), "\n")
		j.mu.Unlock()
		for _, line := range lines {
			var got map[string]any
			if json.Unmarshal([]byte(line), &got) == nil && got["msg"] == message && got[attribute] == value {
				found = got
				return true
			}
		}
		return false
	})
	return found
}

// requestID is that of an answer that is an error.
func requestID(t *testing.T, err error) string {
	t.Helper()
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || response.RequestID == "" {
		t.Fatalf("%v has no request id", err)
	}
	return response.RequestID
}

func TestAFailedCallToAProxyIsInBothLogsUnderOneRequestID(t *testing.T) {
	t.Parallel()
	ours, theirs := &journal{}, &journal{}
	b := newBoth(t, func(o *kastellantest.Options) { o.Logger = ours.logger() }, func(c *proxyConfig) { c.Proxy.Logger = theirs.logger() })
	_, err := b.client.CreateKey(t.Context(), &awskms.CreateKeyInput{
		Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: &b.id, XksKeyId: aws.String("key-of-nobody"),
	})
	wantError(t, err, "XksKeyNotFoundException")
	id := requestID(t, err)
	call := ours.find(t, "a call to the external key store proxy failed", "requestId", id)
	if call["keyStore"] != b.id || call["xksOperation"] != "GetKeyMetadata" || call["exception"] != "KeyNotFoundException" {
		t.Errorf("the server's log has %v", call)
	}
	if got := ours.find(t, "request failed", "requestId", id); got["operation"] != "TrentService.CreateKey" {
		t.Errorf("the server's log has %v", got)
	}
	if got := theirs.find(t, "request", "kmsRequestId", id); got["errorName"] != "KeyNotFoundException" {
		t.Errorf("the proxy's log has %v", got)
	}
}

func TestAnOperationThatAnHSMFailsIsLoggedWithItsRequestID(t *testing.T) {
	t.Parallel()
	log := &journal{}
	faults := pkcs11test.NewFaults(t)
	cluster := kastellantest.ClusterOf(t, clusterID, []pkcs11test.TokenRef{
		faults.Break(t, pkcs11test.NewToken(t, "one", kastellantest.Password)), faults.Break(t, pkcs11test.NewToken(t, "two", kastellantest.Password)),
	})
	s := kastellantest.Start(t, kastellantest.Options{Clusters: []*kastellantest.Cluster{cluster}, Logger: log.logger()})
	store := s.KeyStore(cluster.CreateInput("hsm"))
	key := s.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &store})
	faults.Set(t, "C_EncryptInit rv=0x30")
	_, err := s.Client(admin).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: key.Arn, Plaintext: []byte("MARKER-plaintext")})
	wantError(t, err, "KMSInvalidStateException")
	id := requestID(t, err)
	got := log.find(t, "an HSM failed a request", "requestId", id)
	if got["keyStore"] != store || got["operation"] != "Encrypt" || !strings.Contains(got["error"].(string), "CKR_DEVICE_ERROR") {
		t.Errorf("the log has %v", got)
	}
	if got := log.find(t, "request failed", "requestId", id); !strings.Contains(got["error"].(string), "CKR_DEVICE_ERROR") {
		t.Errorf("the log has %v", got)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if strings.Contains(log.buf.String(), "MARKER") {
		t.Error("a plaintext is in the log")
	}
}
