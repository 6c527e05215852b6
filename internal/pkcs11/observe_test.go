package pkcs11_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"kastellan.dev/internal/pkcs11"
)

func TestErrorsHaveFewClasses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{fmt.Errorf("x: %w", &pkcs11.Error{Function: "C_Encrypt", RV: pkcs11.CKR_DEVICE_ERROR}), "CKR_DEVICE_ERROR"},
		{&pkcs11.Error{RV: pkcs11.CKR_VENDOR_DEFINED + 17}, "CKR_VENDOR_DEFINED"},
		{&pkcs11.Error{RV: 0x7777}, "other"},
		{fmt.Errorf("x: %w", pkcs11.ErrLost), "lost"},
		{pkcs11.ErrBusy, "busy"},
		{pkcs11.ErrTimeout, "timeout"},
		{pkcs11.ErrNoToken, "no-token"},
		{pkcs11.ErrModule, "module"},
		{context.DeadlineExceeded, "deadline"},
		{context.Canceled, "canceled"},
		{errors.New("whatever"), "other"},
	} {
		if got := pkcs11.Class(c.err); got != c.want {
			t.Errorf("%v is %q, want %q", c.err, got, c.want)
		}
	}
	if n := (pkcs11.Config{}).SessionLimit(); n != 16 {
		t.Errorf("there may be %d sessions", n)
	}
}
