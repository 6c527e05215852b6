package kms_test

import (
	"fmt"
	"testing"

	"kastellan.dev/internal/kmsapi"
)

// TestPagesOfOneAccountAmongOthers reads lists page by page while others have keys and aliases too.
func TestPagesOfOneAccountAmongOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 7
	for i := range n {
		for _, who := range []string{account, foreign} {
			key := must(do[kmsapi.CreateKeyResponse](w, root(who), "CreateKey", &kmsapi.CreateKeyRequest{}))(t).KeyMetadata
			must(do[kmsapi.Empty](w, root(who), "CreateAlias", &kmsapi.CreateAliasRequest{AliasName: fmt.Sprintf("alias/%d", i), TargetKeyID: key.KeyID}))(t)
		}
	}
	gone := must(do[kmsapi.ListAliasesResponse](w, root(account), "ListAliases", &kmsapi.ListAliasesRequest{}))(t).Aliases[3]
	must(do[kmsapi.Empty](w, root(account), "DeleteAlias", &kmsapi.DeleteAliasRequest{AliasName: gone.AliasName}))(t)

	keys, aliases := map[string]bool{}, []string{}
	for marker := ""; ; {
		out := must(do[kmsapi.ListKeysResponse](w, root(account), "ListKeys", &kmsapi.ListKeysRequest{Limit: ptr(int32(3)), Marker: marker}))(t)
		for _, k := range out.Keys {
			keys[k.KeyArn] = true
		}
		if marker = out.NextMarker; marker == "" {
			break
		}
	}
	for marker := ""; ; {
		out := must(do[kmsapi.ListAliasesResponse](w, root(account), "ListAliases", &kmsapi.ListAliasesRequest{Limit: ptr(int32(2)), Marker: marker}))(t)
		for _, a := range out.Aliases {
			aliases = append(aliases, a.AliasName)
		}
		if marker = out.NextMarker; marker == "" {
			break
		}
	}
	if len(keys) != n {
		t.Errorf("%d keys: %v", len(keys), keys)
	}
	if got, want := fmt.Sprint(aliases), "[alias/0 alias/1 alias/2 alias/4 alias/5 alias/6]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	byKey := must(do[kmsapi.ListAliasesResponse](w, root(account), "ListAliases", &kmsapi.ListAliasesRequest{KeyID: gone.TargetKeyID}))(t)
	if len(byKey.Aliases) != 0 {
		t.Errorf("the alias is still there: %v", byKey.Aliases)
	}
}
