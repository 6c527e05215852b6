package pkcs11_test

import (
	"os"
	"testing"

	"kastellan.dev/internal/pkcs11"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	actAsParent()
	os.Exit(m.Run())
}
