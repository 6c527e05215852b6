package kms_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/store"
)

// withKeyring has grant tokens sealed as they are in service.
func withKeyring(t testing.TB) func(*kms.Config) {
	return func(c *kms.Config) {
		ring, err := rootkey.OpenKeyring(t.Context(), rootkey.Random(), c.Store)
		if err != nil {
			t.Fatal(err)
		}
		c.Sealer = ring
	}
}

func TestTheTokensOfAGrantAreInterchangeable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withKeyring(t))
	key, other := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	one, two := w.grant(key.KeyID, grantName("n")), w.grant(key.KeyID, grantName("n"))
	if one.GrantID != two.GrantID || one.GrantToken == two.GrantToken {
		t.Fatalf("got %+v and %+v", one, two)
	}
	for _, token := range []string{one.GrantToken, two.GrantToken} {
		if len(token) > 8192 || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("the token %q", token)
		}
		wantCode(t, w.encryptWith(key.KeyID, token), "")
		wantCode(t, w.encryptWith(other.KeyID, token), "") // any key's will do
	}
	wantCode(t, w.encryptWith(key.KeyID, one.GrantToken, two.GrantToken), "")
	w.restart()
	wantCode(t, w.encryptWith(key.KeyID, one.GrantToken, two.GrantToken), "")
	wantCode(t, w.retire(root(account), kmsapi.RetireGrantRequest{GrantToken: two.GrantToken}), "")
	for _, token := range []string{one.GrantToken, two.GrantToken} {
		wantCode(t, w.encryptWith(key.KeyID, token), kmsapi.InvalidGrantToken)
		wantCode(t, w.retire(root(account), kmsapi.RetireGrantRequest{GrantToken: token}), kmsapi.InvalidGrantToken)
	}
}

// takingTokens are the operations that take grant tokens.
func takingTokens(key string, sealed []byte, tokens []string) map[string]any {
	return map[string]any{
		"CreateGrant":                     grantRequest(key, func(r *kmsapi.CreateGrantRequest) { r.GrantTokens = tokens }),
		"Decrypt":                         &kmsapi.DecryptRequest{CiphertextBlob: sealed, GrantTokens: tokens},
		"DescribeKey":                     &kmsapi.DescribeKeyRequest{KeyID: key, GrantTokens: tokens},
		"Encrypt":                         &kmsapi.EncryptRequest{KeyID: key, Plaintext: secretBytes("x"), GrantTokens: tokens},
		"GenerateDataKey":                 &kmsapi.GenerateDataKeyRequest{KeyID: key, KeySpec: kmsapi.DataKeyAES256, GrantTokens: tokens},
		"GenerateDataKeyWithoutPlaintext": &kmsapi.GenerateDataKeyWithoutPlaintextRequest{KeyID: key, KeySpec: kmsapi.DataKeyAES256, GrantTokens: tokens},
		"ReEncrypt":                       &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, DestinationKeyID: key, GrantTokens: tokens},
	}
}

func TestGrantTokensThatAreNone(t *testing.T) {
	t.Parallel()
	w, stranger := newWorld(t, withKeyring(t)), newWorld(t, withKeyring(t))
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")}))(t).CiphertextBlob
	elsewhere := in(root(account), "us-west-2")
	abroad := must(do[kmsapi.CreateKeyResponse](w, elsewhere, "CreateKey", &kmsapi.CreateKeyRequest{}))(t).KeyMetadata
	abroadGrant := must(do[kmsapi.CreateGrantResponse](w, elsewhere, "CreateGrant", grantRequest(abroad.KeyID)))(t)
	good, revoked := w.grant(key.KeyID).GrantToken, w.grant(key.KeyID)
	wantCode(t, w.revoke(key.KeyID, revoked.GrantID), "")
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	changed := append([]byte(nil), raw...)
	changed[len(changed)-1] ^= 1
	tokens := map[string][]string{
		"a word":                   {"token"},
		"a token of another root":  {stranger.grant(stranger.createKey(&kmsapi.CreateKeyRequest{}).KeyID).GrantToken},
		"a token of a Region":      {abroadGrant.GrantToken},
		"a token changed":          {base64.RawURLEncoding.EncodeToString(changed)},
		"a token cut":              {good[:len(good)-4]},
		"a token with padding":     {good + "="},
		"in another alphabet":      {base64.RawStdEncoding.EncodeToString(raw) + "+/"},
		"a token of nothing":       {revoked.GrantToken},
		"a good one before a word": {good, "token"},
	}
	for name, list := range tokens {
		for op, request := range takingTokens(key.Arn, sealed, list) {
			if _, err := w.s.Do(t.Context(), operation(t, op), root(account), request); kmsapi.CodeOf(err) != kmsapi.InvalidGrantToken {
				t.Errorf("%s with %s: %v", op, name, err)
			}
		}
	}
	for op, request := range takingTokens(key.Arn, sealed, []string{good}) {
		if _, err := w.s.Do(t.Context(), operation(t, op), root(account), request); err != nil {
			t.Errorf("%s with a good token: %v", op, err)
		}
	}
	if strings.Contains(string(raw), key.KeyID) {
		t.Error("the token shows what it names")
	}
}

// TestEveryOperationWithGrantTokensChecksThem asks with nothing but a bad token.
func TestEveryOperationWithGrantTokensChecksThem(t *testing.T) {
	t.Parallel()
	w, found := newWorld(t), 0
	for _, op := range kms.Operations() {
		request := op.New()
		tokens := reflect.ValueOf(request).Elem().FieldByName("GrantTokens")
		if !tokens.IsValid() {
			continue
		}
		found++
		tokens.Set(reflect.ValueOf([]string{"token"}))
		_, err := w.s.Do(t.Context(), op, root(account), request)
		if kmsapi.CodeOf(err) != kmsapi.InvalidGrantToken {
			t.Errorf("%s: %v", op.Name, err)
		}
	}
	if found != 17 {
		t.Errorf("%d operations take grant tokens", found)
	}
}

// held is a store whose changes reach a watcher only after a while.
type held struct {
	store.Store
	release <-chan struct{}
}

func (h held) Watch(ctx context.Context, snapshot func(store.Revision, store.Reader) error, change func(store.Change) error) error {
	return h.Store.Watch(ctx, snapshot, func(c store.Change) error {
		select {
		case <-h.release:
		case <-ctx.Done():
		}
		return change(c)
	})
}

// late opens the world in another process, which learns of no change until the test ends.
func (w *world) late() *world {
	w.t.Helper()
	release := make(chan struct{})
	cfg := w.cfg
	cfg.Store = held{w.cfg.Store, release}
	s, err := kms.Open(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		close(release)
		s.Close()
	})
	return &world{t: w.t, s: s}
}

func TestATokenWorksInAProcessThatHasNotSeenTheGrantYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withKeyring(t), func(c *kms.Config) { c.Store = shared{c.Store} })
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	other := w.late()
	made := w.grant(key.KeyID)
	if ids := other.grantIDs(key.KeyID); len(ids) != 0 {
		t.Fatal("the other process is not late")
	}
	wantCode(t, other.encryptWith(key.KeyID, made.GrantToken), "")
	wantCode(t, w.revoke(key.KeyID, made.GrantID), "")
	wantCode(t, other.encryptWith(key.KeyID, made.GrantToken), kmsapi.InvalidGrantToken)
}

// openSealer keeps what is sealed as it is.
type openSealer struct{}

func (openSealer) Seal(_, _ string, plaintext []byte) ([]byte, error) { return plaintext, nil }
func (openSealer) Open(_, _ string, sealed []byte) ([]byte, error)    { return sealed, nil }

func TestTheLayoutOfAGrantToken(t *testing.T) {
	t.Parallel()
	const keyID = "1234abcd-12ab-34cd-56ef-1234567890ab"
	id := strings.Repeat("c0ffee00", 8)
	layout := "\x01" + strings.Repeat("\xc0\xff\xee\x00", 8) + account + keyID
	token := base64.RawURLEncoding.EncodeToString([]byte(layout))
	at, ok := kms.OpenGrantToken(openSealer{}, region, token)
	if want := fmt.Sprintf("grant/%s/%s/%s/%s", account, region, keyID, id); !ok || at != want {
		t.Errorf("got %q, want %q", at, want)
	}
	w := newWorld(t, func(c *kms.Config) { c.Sealer = openSealer{} })
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID)
	if at, ok := kms.OpenGrantToken(openSealer{}, region, made.GrantToken); !ok || at != fmt.Sprintf("grant/%s/%s/%s/%s", account, region, key.KeyID, made.GrantID) {
		t.Errorf("a new token holds %q", at)
	}
	for name, bad := range map[string]string{"empty": "", "another version": "\x02" + layout[1:], "without a key": layout[:45]} {
		if at, ok := kms.OpenGrantToken(openSealer{}, region, base64.RawURLEncoding.EncodeToString([]byte(bad))); ok {
			t.Errorf("%s: opened as %q", name, at)
		}
	}
}

func FuzzGrantToken(f *testing.F) {
	layout := "\x01" + strings.Repeat("\xc0\xff\xee\x00", 8) + account + "1234abcd-12ab-34cd-56ef-1234567890ab"
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(layout)))
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(layout[:45])))
	f.Add("")
	f.Add("AQ==")
	f.Fuzz(func(t *testing.T, token string) {
		at, ok := kms.OpenGrantToken(openSealer{}, region, token)
		if ok && !strings.HasPrefix(at, "grant/") {
			t.Errorf("the token leads to %q", at)
		}
	})
}
