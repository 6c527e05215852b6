package clients_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kastellantest"
)

// server is a running Kastellan.
type server struct {
	*kastellantest.Server
	t *testing.T
}

// start starts a server and lets the environment say where it is, which is all
// that most clients need.
func start(t *testing.T) *server {
	t.Helper()
	s := &server{kastellantest.Start(t, kastellantest.Options{}), t}
	id, secret := kastellantest.Credentials(kastellantest.Admin)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": s.Endpoint, "AWS_REGION": kastellantest.Region, "AWS_DEFAULT_REGION": kastellantest.Region,
		"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret,
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": "",
	} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "") // so that it comes back
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// sdk is the official client, made in the usual way.
func (s *server) sdk(region string) *kms.Client {
	id, secret := kastellantest.Credentials(kastellantest.Admin)
	return kms.NewFromConfig(aws.Config{
		Region: region, BaseEndpoint: &s.Endpoint, HTTPClient: http.DefaultClient,
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""),
	})
}

// key makes a key in a Region and gives its ARN.
func (s *server) key(region string, spec types.KeySpec, usage types.KeyUsageType) string {
	s.t.Helper()
	out, err := s.sdk(region).CreateKey(s.t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// symmetric makes a symmetric encryption key.
func (s *server) symmetric() string {
	s.t.Helper()
	return s.key(kastellantest.Region, types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt)
}

// disable makes a key of no use.
func (s *server) disable(key string) {
	s.t.Helper()
	if _, err := s.sdk(kastellantest.Region).DisableKey(s.t.Context(), &kms.DisableKeyInput{KeyId: &key}); err != nil {
		s.t.Fatal(err)
	}
}
