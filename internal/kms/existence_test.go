package kms_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
)

// naming gives a copy of a request that names another key, in all members that name one.
func naming(in any, id string) any {
	out := reflect.New(reflect.TypeOf(in).Elem())
	out.Elem().Set(reflect.ValueOf(in).Elem())
	for _, member := range []string{"KeyID", "TargetKeyID", "SourceKeyID", "DestinationKeyID"} {
		if f := out.Elem().FieldByName(member); f.IsValid() {
			f.SetString(id)
		}
	}
	return out.Interface()
}

func hasKey(op *kms.Operation) bool {
	request := reflect.TypeOf(op.New()).Elem()
	return slices.ContainsFunc([]string{"KeyID", "TargetKeyID", "DestinationKeyID"}, func(member string) bool {
		_, found := request.FieldByName(member)
		return found
	})
}

// TestThatAKeyExistsIsNotTold compares, in every operation, what those who may not use a key are
// told of one that exists and of one that does not.
func TestThatAKeyExistsIsNotTold(t *testing.T) {
	t.Parallel()
	th := newTheater(t)
	const unknown = "11111111-2222-3333-4444-555555555555"
	keyARN := func(id string) string { return "arn:aws:kms:" + region + ":" + account + ":key/" + id }
	aliasARN := func(name string) string { return "arn:aws:kms:" + region + ":" + account + ":alias/" + name }
	denied := strings.Replace(denyOne, "PERMISSION", "kms:*", 1)
	strangers := map[string]identity.Caller{
		"the root of another account": root(foreign), "a user without policies": member(t, foreign), "a user who may do everything": member(t, foreign, allowAll),
		"a user who is denied everything": member(t, foreign, allowAll, denied),
	}
	answer := func(op *kms.Operation, who identity.Caller, id string) string {
		_, err := th.s.Do(t.Context(), op, who, naming(th.requests[op.Name], id))
		var e *kmsapi.Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", op.Name, err)
		}
		return string(e.Code) + ": " + e.Message
	}
	compared := 0
	for _, op := range kms.Operations() {
		if !hasKey(op) {
			continue
		}
		for name, who := range strangers {
			there, missing := answer(op, who, th.key.Arn), answer(op, who, keyARN(unknown))
			if there != missing || strings.Contains(there, unknown) || strings.Contains(there, th.key.KeyID) {
				t.Errorf("%s tells %s apart: %q and %q", op.Name, name, there, missing)
			}
			if op.Aliases {
				if there, missing := answer(op, who, aliasARN("old")), answer(op, who, aliasARN("missing")); there != missing {
					t.Errorf("%s tells %s aliases apart: %q and %q", op.Name, name, there, missing)
				}
			}
			compared++
		}
		for name, who := range map[string]identity.Caller{"without permission": member(t, account), "denied": member(t, account, allowAll, denied)} {
			for _, id := range []string{th.key.Arn, unknown} {
				if got := answer(op, who, id); !strings.HasPrefix(got, string(kmsapi.AccessDenied)) {
					t.Errorf("%s %s: %s", op.Name, name, got)
				}
			}
		}
		allowed := answer(op, member(t, account, allowAll), unknown)
		if !strings.HasPrefix(allowed, string(kmsapi.NotFound)) {
			t.Errorf("%s with permission: %s", op.Name, allowed)
		}
	}
	if compared < 150 {
		t.Errorf("only %d answers were compared", compared)
	}
}

// TestACiphertextDoesNotTellWhoseKeyMadeIt compares keys of other accounts, keys that are not
// there and keys that the caller may not use.
func TestACiphertextDoesNotTellWhoseKeyMadeIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	elsewhere := newWorld(t)
	made := map[string][]byte{
		"the caller's account": w.sealedBy(w.createKey(&kmsapi.CreateKeyRequest{})), "nowhere": elsewhere.sealedBy(elsewhere.createKey(&kmsapi.CreateKeyRequest{})),
	}
	theirs := must(do[kmsapi.CreateKeyResponse](w, root(foreign), "CreateKey", &kmsapi.CreateKeyRequest{}))(t).KeyMetadata
	made["another account"] = must(do[kmsapi.EncryptResponse](w, root(foreign), "Encrypt", &kmsapi.EncryptRequest{KeyID: theirs.KeyID, Plaintext: secretBytes("x")}))(t).CiphertextBlob
	own := w.createKey(&kmsapi.CreateKeyRequest{Policy: openPolicy})
	texts := map[string]bool{}
	for name, sealed := range made {
		for called, in := range map[string]any{
			"Decrypt":   &kmsapi.DecryptRequest{CiphertextBlob: sealed},
			"ReEncrypt": &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, DestinationKeyID: own.KeyID},
		} {
			_, err := w.s.Do(t.Context(), operation(t, called), member(t, account), in)
			if kmsapi.CodeOf(err) != kmsapi.AccessDenied {
				t.Errorf("%s of a ciphertext from %s: %v", called, name, err)
				continue
			}
			texts[err.Error()] = true
		}
	}
	if len(texts) != 1 {
		t.Errorf("the texts are %v", texts)
	}
}
