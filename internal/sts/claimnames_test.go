package sts

import (
	"encoding/json"
	"testing"
)

func TestClaimsThatDifferInCaseOnlyAreRefused(t *testing.T) {
	t.Parallel()
	one := json.RawMessage(`"x"`)
	if err := (tokenClaims{"sub": one, "Sub": one}).checkNames(); err == nil {
		t.Error("sub and Sub are accepted")
	}
	if err := (tokenClaims{"sub": one, "Name": one}).checkNames(); err != nil {
		t.Error(err)
	}
}
