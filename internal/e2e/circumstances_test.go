package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks/xkstest"
)

// TestTheCircumstancesOfARequestAreConditions sends requests with TLS and without to users, each
// with one condition.
func TestTheCircumstancesOfARequestAreConditions(t *testing.T) {
	t.Parallel()
	conditions := []struct {
		condition    string
		plain, byTLS bool
	}{
		{`{"Bool":{"aws:SecureTransport":"true"}}`, false, true},
		{`{"Bool":{"aws:SecureTransport":"false"}}`, true, false},
		{`{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}`, true, true},
		{`{"NotIpAddress":{"aws:SourceIp":"127.0.0.1"}}`, false, false},
		{`{"StringLike":{"aws:UserAgent":"*aws-sdk-go-v2/*"}}`, true, true},
		{`{"StringEquals":{"aws:RequestedRegion":"` + kastellantest.Region + `","aws:username":"user-5"}}`, true, true},
		{`{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}`, false, false},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"},"Null":{"aws:Referer":"true"}}`, true, true},
	}
	var users []kastellantest.User
	name := func(i int) string { return "user-" + string(rune('0'+i)) }
	for i, c := range conditions {
		users = append(users, kastellantest.User{Name: name(i), Policy: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":` + c.condition + `}}`})
	}
	roots, tlsOption := serveTLS(t)
	for _, secure := range []bool{false, true} {
		options := kastellantest.Options{Users: users}
		if secure {
			options.Config = tlsOption
		}
		server := kastellantest.Start(t, options)
		for i, c := range conditions {
			client := server.Client(name(i))
			if secure {
				client = clientOverTLS(server, name(i), roots)
			}
			want, allowed := "AccessDeniedException", c.plain
			if secure {
				allowed = c.byTLS
			}
			if allowed {
				want = ""
			}
			_, err := client.ListKeys(t.Context(), &awskms.ListKeysInput{})
			t.Run(fmt.Sprintf("%s, with TLS: %v", c.condition, secure), func(t *testing.T) { wantError(t, err, want) })
		}
	}
}

// serveTLS makes a certificate for localhost, and an option to serve with it.
func serveTLS(t *testing.T) (*x509.CertPool, func(*config.Config)) {
	t.Helper()
	ca := xkstest.NewCA(t)
	made := ca.Issue(t, xkstest.Leaf{Host: "localhost"})
	var chain []byte
	for _, der := range made.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for file, text := range map[string][]byte{"tls.crt": chain, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(filepath.Join(folder, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ca.Pool, func(c *config.Config) {
		c.Listen.TLS = config.TLS{Certificate: filepath.Join(folder, "tls.crt"), Key: filepath.Join(folder, "tls.key")}
	}
}

func clientOverTLS(server *kastellantest.Server, user string, roots *x509.CertPool) *awskms.Client {
	id, text := kastellantest.Credentials(user)
	return awskms.NewFromConfig(aws.Config{
		Region: kastellantest.Region, BaseEndpoint: aws.String(strings.Replace(server.Endpoint, "http:", "https:", 1)),
		Credentials: credentials.NewStaticCredentialsProvider(id, text, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, DisableKeepAlives: true}},
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	})
}
