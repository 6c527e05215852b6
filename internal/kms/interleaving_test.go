package kms_test

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
)

// overtaken is a metadata store in which something else can come first.
type overtaken struct {
	store.Store
	first atomic.Pointer[func()] // runs once, before the next change
}

func (o *overtaken) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	if first := o.first.Swap(nil); first != nil {
		(*first)()
	}
	return o.Store.Update(ctx, fn)
}

func TestWhoLosesAPermissionWhileHeCallsDoesNotChangeTheKey(t *testing.T) {
	t.Parallel()
	inner, err := bolt.Create(filepath.Join(t.TempDir(), "kastellan.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inner.Close() })
	db := &overtaken{Store: inner}
	w := newWorldOn(t, db, slowly)
	who := member(t, account, allowAll)
	without := func(operation string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Deny","Principal":{"AWS":"` + who.ARN + `"},"Action":"kms:` + operation + `","Resource":"*"}]}`
	}
	for _, tc := range []struct {
		operation string
		request   func(key string) any
	}{
		{"DisableKey", func(key string) any { return &kmsapi.DisableKeyRequest{KeyID: key} }},
		{"ScheduleKeyDeletion", func(key string) any { return &kmsapi.ScheduleKeyDeletionRequest{KeyID: key} }},
		{"CreateGrant", func(key string) any { return grantRequest(key) }},
		{"CreateAlias", func(key string) any { return &kmsapi.CreateAliasRequest{AliasName: "alias/mine", TargetKeyID: key} }},
		{"PutKeyPolicy", func(key string) any { return &kmsapi.PutKeyPolicyRequest{KeyID: key, Policy: openPolicy} }},
	} {
		key := w.createKey(&kmsapi.CreateKeyRequest{}).KeyID
		revoke := func() {
			must(do[kmsapi.Empty](w, root(account), "PutKeyPolicy", &kmsapi.PutKeyPolicyRequest{KeyID: key, Policy: without(tc.operation)}))(t)
		}
		db.first.Store(&revoke)
		_, err := w.s.Do(t.Context(), operation(t, tc.operation), who, tc.request(key))
		wantCode(t, err, kmsapi.AccessDenied)
		if state := w.keyState(key); state != kmsapi.StateEnabled {
			t.Errorf("after %s the key is %s", tc.operation, state)
		}
		if ids := w.grantIDs(key); len(ids) != 0 {
			t.Errorf("after %s the key has grants", tc.operation)
		}
		if all := must(do[kmsapi.ListAliasesResponse](w, root(account), "ListAliases", &kmsapi.ListAliasesRequest{KeyID: key}))(t).Aliases; len(all) != 0 {
			t.Errorf("after %s the key has aliases", tc.operation)
		}
		now := must(do[kmsapi.GetKeyPolicyResponse](w, root(account), "GetKeyPolicy", &kmsapi.GetKeyPolicyRequest{KeyID: key}))(t)
		if now.Policy != without(tc.operation) {
			t.Errorf("after %s the key's policy is %s", tc.operation, now.Policy)
		}
	}
}
