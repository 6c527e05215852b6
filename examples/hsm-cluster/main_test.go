package main

import (
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/pkcs11"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	os.Exit(m.Run())
}

func TestFromNothingToAnEncryptedByte(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, kastellantest.WithPools(t, "ab"))
	id, text := kastellantest.Credentials(kastellantest.Admin)
	cfg := s.SDK(credentials.NewStaticCredentialsProvider(id, text, ""))
	var out strings.Builder
	if err := run(t.Context(), cfg, []string{kastellantest.Subnet("a"), kastellantest.Subnet("b")}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.HasSuffix(out.String(), ", and got it back\n") {
		t.Errorf("it prints %s", out.String())
	}
	err := run(t.Context(), cfg, []string{kastellantest.Subnet("a")}, &out)
	if err == nil || !strings.Contains(err.Error(), "subnets in 2 availability zones") {
		t.Errorf("with one subnet it fails with %v", err)
	}
}
