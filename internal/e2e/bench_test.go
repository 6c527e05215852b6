package e2e_test

import (
	stdcontext "context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// BenchmarkRequests measures whole requests over HTTP beside their floor: a
// bare net/http handler that verifies the signature, encrypts 32 bytes and writes
// a line to a file, called by the same client in the same process. The figure to compare
// is CPU time, since client and server share the machine: cpu-µs/op.
func BenchmarkRequests(b *testing.B) {
	p := newPair(b, func(o *kastellantest.Options) { o.Quotas.KeyStoreRate = 1e9 })
	b.Run("floor", func(b *testing.B) { measure(b, post(b, floor(b), floorBody)) })
	for origin, key := range p.keys {
		for name, body := range map[string]string{
			"Encrypt":         encode(map[string]any{"KeyId": key, "Plaintext": make([]byte, 32)}),
			"GenerateDataKey": encode(map[string]any{"KeyId": key, "KeySpec": "AES_256"}),
			"Decrypt":         encode(map[string]any{"CiphertextBlob": sealedBy(b, p, key)}),
		} {
			b.Run(string(origin)+"/"+name, func(b *testing.B) { measure(b, post(b, p.Endpoint, body, "TrentService."+name)) })
		}
	}
}

func sealedBy(b *testing.B, p *pair, key string) []byte {
	out, err := p.client.Encrypt(b.Context(), &awskms.EncryptInput{KeyId: aws.String(key), Plaintext: make([]byte, 32)})
	if err != nil {
		b.Fatal(err)
	}
	return out.CiphertextBlob
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

var floorBody = encode(map[string]any{"KeyId": "key", "Plaintext": make([]byte, 32)})

// post gives a function that sends one signed request.
func post(b *testing.B, url, body string, target ...string) func() error {
	return postAs(b, kastellantest.Admin, url, body, target...)
}

// postAs is post for a user.
func postAs(b *testing.B, user, url, body string, target ...string) func() error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.Cleanup(client.CloseIdleConnections)
	id, text := kastellantest.Credentials(user)
	signer := &sigv4.Signer{Credentials: sigv4.Credentials{AccessKeyID: id, Secret: secret.NewText(text)}, Service: "kms", Region: kastellantest.Region}
	return func() error {
		r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		if len(target) > 0 {
			r.Header.Set("X-Amz-Target", target[0])
		}
		signer.Sign(r, []byte(body), time.Now())
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusOK {
			return &statusError{resp.Status + " " + string(answer)}
		}
		return err
	}
}

type statusError struct{ text string }

func (e *statusError) Error() string { return e.text }

// measure runs call from several goroutines and reports the CPU time of one call.
func measure(b *testing.B, call func() error) {
	if err := call(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := cpuTime()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := call(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// floor serves the least that an encryption service has to do.
func floor(b *testing.B) string {
	id, text := kastellantest.Credentials(kastellantest.Admin)
	verifier := &sigv4.Verifier{Service: "kms", Lookup: func(_ stdcontext.Context, accessKeyID, _ string) (sigv4.Secret, bool) {
		return sigv4.Secret{Key: secret.NewText(text)}, accessKeyID == id
	}}
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	log, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	var mu sync.Mutex
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if _, err := verifier.Verify(r.Context(), r, body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var in struct {
			KeyId     string
			Plaintext []byte
		}
		if err := json.Unmarshal(body, &in); err != nil {
			return
		}
		line, _ := json.Marshal(map[string]string{"eventName": "Encrypt", "arn": id, "key": in.KeyId})
		mu.Lock()
		_, _ = log.Write(append(line, '\n'))
		mu.Unlock()
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		out, _ := json.Marshal(map[string]any{"CiphertextBlob": aead.Seal(nil, nil, in.Plaintext, nil), "KeyId": in.KeyId})
		_, _ = w.Write(out)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	b.Cleanup(func() { _ = srv.Close() })
	return "http://" + l.Addr().String()
}

// cpuTime is what this process, client and server, has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
