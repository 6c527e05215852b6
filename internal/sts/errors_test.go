package sts_test

import (
	"errors"
	"testing"

	"github.com/aws/smithy-go"
)

// wantError tells when err is not the exception of that name.
func wantError(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	switch {
	case code == "" && err != nil:
		t.Errorf("unexpected: %v", err)
	case code != "" && !errors.As(err, &api):
		t.Errorf("got %v, want %s", err, code)
	case code != "" && api.ErrorCode() != code:
		t.Errorf("got %s (%s), want %s", api.ErrorCode(), api.ErrorMessage(), code)
	}
}
