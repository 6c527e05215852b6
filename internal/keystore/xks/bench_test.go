package xks_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/xksapi"
)

// BenchmarkRoundTrip compares Encrypt and Decrypt of 32 bytes with their
// floor: the same client library sending the same body to the same proxy and reading the
// answer, with nothing signed, checked or encrypted on this side. The
// proxy of the floor does its whole work as well, signature included.
func BenchmarkRoundTrip(b *testing.B) {
	r := newRig(b, xkstest.Options{})
	c := r.connect(b)
	k := createKey(b, c)
	plaintext, aad := make([]byte, 32), []byte("purpose=benchmark")
	sealed := encrypt(b, c, k, string(plaintext), string(aad))
	ctx := context.Background()

	b.Run("floor", func(b *testing.B) {
		request := signed(b, r, k.ARN)
		client := &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, r.proxy.Address)
			},
			TLSClientConfig: &tls.Config{RootCAs: r.proxy.CA.Pool, ServerName: r.proxy.Host},
		}}
		defer client.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			resp, err := client.Do(request())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				b.Fatal(resp.StatusCode, err)
			}
			_ = resp.Body.Close()
		}
	})
	b.Run("Encrypt", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Encrypt(ctx, call("Encrypt"), k, nil, plaintext, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Decrypt", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Decrypt(ctx, call("Decrypt"), k, sealed, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// signed gives copies of one signed request to encrypt.
func signed(b *testing.B, r *rig, arn string) func() *http.Request {
	b.Helper()
	c := call("Encrypt")
	body := xksapi.Encode(&xksapi.EncryptRequest{
		RequestMetadata: &xksapi.RequestMetadata{AWSPrincipalARN: c.PrincipalARN, KMSKeyARN: arn, KMSOperation: c.Operation, KMSRequestID: c.RequestID},
		Plaintext:       make([]byte, 72), AdditionalAuthenticatedData: []byte("purpose=benchmark"),
		EncryptionAlgorithm: xksapi.AlgorithmAESGCM, CiphertextDataIntegrityValueAlgorithm: xksapi.AlgorithmSHA256,
	})
	newRequest := func() *http.Request {
		req, err := http.NewRequest(http.MethodPost, "https://"+r.proxy.Host+r.proxy.Path+"/keys/"+externalKey+"/encrypt", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		return req
	}
	first := newRequest()
	first.Header.Set("Content-Type", "application/json")
	signer := sigv4.Signer{
		Credentials: sigv4.Credentials{AccessKeyID: r.proxy.AccessKeyID, Secret: r.proxy.Secret},
		Service:     xksapi.Service, Region: region, SignedHeaders: []string{"host", "x-amz-date"},
	}
	signer.Sign(first, body, time.Now())
	return func() *http.Request {
		req := newRequest()
		req.Header = first.Header.Clone()
		return req
	}
}
