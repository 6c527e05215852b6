package sigv4_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"kastellan.dev/internal/sigv4"
)

func benchmarkRequest(b *testing.B) (*http.Request, *sigv4.Verifier) {
	b.Helper()
	r := signed(longTerm())
	v := kmsVerifier()
	if _, err := v.Verify(b.Context(), r, kmsBody); err != nil {
		b.Fatal(err)
	}
	return r, v
}

func BenchmarkVerify(b *testing.B) {
	r, v := benchmarkRequest(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), r, kmsBody); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifySDKRequest(b *testing.B) {
	r := unsigned()
	r.Header.Set("Amz-Sdk-Invocation-Id", "b52d0d08-9f5c-4b9f-8c6d-0d9d1c7f0c8e")
	r.Header.Set("Amz-Sdk-Request", "attempt=1; max=3")
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("User-Agent", "aws-sdk-go-v2/1.47.8 ua/2.1 os/linux lang/go#1.26.8")
	r.ContentLength = int64(len(kmsBody))
	signWithSDK(b, r, kmsBody, "", "service")
	v := exampleVerifier("")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), r, kmsBody); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyParallel(b *testing.B) {
	r, v := benchmarkRequest(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Verify(context.Background(), r, kmsBody); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// The floor: the hashes of a verification and nothing else.
func BenchmarkVerifyFloor(b *testing.B) {
	text := make([]byte, 320)
	mac := hmac.New(sha256.New, make([]byte, 32))
	var sum [32]byte
	b.ReportAllocs()
	for b.Loop() {
		sum = sha256.Sum256(kmsBody)
		sum = sha256.Sum256(text)
		mac.Reset()
		mac.Write(text[:140])
		mac.Sum(sum[:0])
	}
}

func BenchmarkSign(b *testing.B) {
	s := sigv4.Signer{Credentials: longTerm(), Service: "kms-xks-proxy", Region: region, SignedHeaders: []string{"host", "x-amz-date"}}
	r := httptest.NewRequest("POST", "https://proxy.example.test/example/kms/xks/v1/health", nil)
	b.ReportAllocs()
	for b.Loop() {
		s.Sign(r, kmsBody, signedAt)
	}
}

func BenchmarkSDKSign(b *testing.B) {
	s := v4.NewSigner()
	c := aws.Credentials{AccessKeyID: longTermKey, SecretAccessKey: secretOf(longTermKey).Reveal()}
	r := httptest.NewRequest("POST", "https://proxy.example.test/example/kms/xks/v1/health", nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.SignHTTP(b.Context(), c, r, hexSHA256(kmsBody), "kms-xks-proxy", region, signedAt); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyManyHeaders is what a stranger can ask for with one request: it
// must stay in proportion to the request's 60 KB.
func BenchmarkVerifyManyHeaders(b *testing.B) {
	r, v := crowded(), kmsVerifier()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), r, kmsBody); err != nil {
			b.Fatal(err)
		}
	}
}
