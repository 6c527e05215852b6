package nitro

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"testing"
)

func TestAWSRootIsTheOneThatAWSPublishes(t *testing.T) {
	t.Parallel()
	const want = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
	block, rest := pem.Decode([]byte(awsRootG1))
	if block == nil || len(rest) > 0 {
		t.Fatal("it is not one PEM block")
	}
	if got := sha256.Sum256(block.Bytes); hex.EncodeToString(got[:]) != want {
		t.Errorf("its SHA-256 is %x, want %s", got, want)
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := root.NotAfter.Year(); got != 2049 {
		t.Errorf("it is valid until %d", got)
	}
	alone := x509.NewCertPool()
	alone.AddCert(root)
	if !AWSRoot().Equal(alone) {
		t.Error("the pool is not of this certificate alone")
	}
}
