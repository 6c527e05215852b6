package pkcs11_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
)

var discard = slog.New(slog.DiscardHandler)

// testTime bounds every test's calls, generously: the machine may be busy.
const testTime = time.Minute

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	t.Cleanup(cancel)
	return ctx
}

func open(t testing.TB, cfg pkcs11.Config) pkcs11.Token {
	t.Helper()
	token, err := pkcs11.Open(testContext(t), cfg, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return token
}

// openLoggedIn opens a token and logs its user in.
func openLoggedIn(t testing.TB, ref pkcs11test.TokenRef, cfg pkcs11.Config) pkcs11.Token {
	t.Helper()
	token := open(t, cfg)
	if err := token.Login(testContext(t), secret.NewText(ref.PIN)); err != nil {
		t.Fatal(err)
	}
	return token
}

var dataKey = pkcs11.Template{Label: "data", ID: []byte{1, 2}, Token: true, Encrypt: true, Extractable: true}

func generate(t testing.TB, token pkcs11.Token, template pkcs11.Template) pkcs11.Handle {
	t.Helper()
	key, err := token.GenerateKey(testContext(t), template)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestInfoDescribesTheToken(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	info, err := open(t, ref.Config()).Info(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Label != ref.Label || info.Serial != ref.URI.Serial || info.Model != "SoftHSM v2" ||
		!info.UserPINInitialized || info.UserPINLocked || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 || info.FirmwareVersion == "" {
		t.Errorf("info is %+v", info)
	}
}

func TestGCMRoundTrip(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config())
	key := generate(t, token, dataKey)
	ctx := testContext(t)
	for name, c := range map[string]struct{ plaintext, aad []byte }{
		"a data key with context":   {bytes.Repeat([]byte{7}, 32), []byte("context")},
		"nothing at all":            {nil, nil},
		"only additional data":      {nil, []byte("context")},
		"large data and context":    {bytes.Repeat([]byte{9}, 65536), bytes.Repeat([]byte{8}, 70000)},
		"a single byte":             {[]byte{0}, nil},
		"a kilobyte, no additional": {make([]byte, 1024), nil},
	} {
		t.Run(name, func(t *testing.T) {
			sealed, err := token.EncryptGCM(ctx, key, c.plaintext, c.aad)
			if err != nil {
				t.Fatal(err)
			}
			if len(sealed.IV) != 12 || len(sealed.Tag) != 16 || len(sealed.Ciphertext) != len(c.plaintext) {
				t.Fatalf("lengths are %d, %d, %d", len(sealed.IV), len(sealed.Tag), len(sealed.Ciphertext))
			}
			opened, err := token.DecryptGCM(ctx, key, sealed, c.aad)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(opened, c.plaintext) {
				t.Error("another plaintext came back")
			}
		})
	}
}

func TestDecryptRefusesWhatWasTamperedWith(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config())
	key, other := generate(t, token, dataKey), generate(t, token, dataKey)
	ctx := testContext(t)
	good, err := token.EncryptGCM(ctx, key, []byte("plaintext"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte) []byte { b = bytes.Clone(b); b[0] ^= 1; return b }
	for name, c := range map[string]struct {
		key   pkcs11.Handle
		in    pkcs11.GCM
		aad   string
		known bool // told by IsAuthentication, not just by MaybeAuthentication
	}{
		"another tag":               {key, pkcs11.GCM{IV: good.IV, Ciphertext: good.Ciphertext, Tag: flip(good.Tag)}, "aad", false},
		"another ciphertext":        {key, pkcs11.GCM{IV: good.IV, Ciphertext: flip(good.Ciphertext), Tag: good.Tag}, "aad", false},
		"another IV":                {key, pkcs11.GCM{IV: flip(good.IV), Ciphertext: good.Ciphertext, Tag: good.Tag}, "aad", false},
		"other additional data":     {key, good, "AAD", false},
		"another key":               {other, good, "aad", false},
		"an empty IV":               {key, pkcs11.GCM{Ciphertext: good.Ciphertext, Tag: good.Tag}, "aad", true},
		"an IV of 13 bytes":         {key, pkcs11.GCM{IV: make([]byte, 13), Ciphertext: good.Ciphertext, Tag: good.Tag}, "aad", true},
		"a tag of 12 bytes":         {key, pkcs11.GCM{IV: good.IV, Ciphertext: good.Ciphertext, Tag: good.Tag[:12]}, "aad", true},
		"a shorter ciphertext":      {key, pkcs11.GCM{IV: good.IV, Ciphertext: good.Ciphertext[1:], Tag: good.Tag}, "aad", false},
		"no ciphertext, only a tag": {key, pkcs11.GCM{IV: good.IV, Tag: good.Tag}, "aad", false},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := token.DecryptGCM(ctx, c.key, c.in, []byte(c.aad))
			if err == nil || out != nil {
				t.Fatal("it was accepted")
			}
			if !pkcs11.MaybeAuthentication(err) || pkcs11.IsAuthentication(err) != c.known {
				t.Errorf("the error is %v", err)
			}
		})
	}
	if _, err := token.DecryptGCM(ctx, key, good, []byte("aad")); err != nil {
		t.Errorf("afterwards the good one fails: %v", err)
	}
}

func TestKeysAreFoundAndDestroyed(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config())
	ctx := testContext(t)
	key := generate(t, token, dataKey)
	second := generate(t, token, pkcs11.Template{Label: "second", Token: true, Encrypt: true})

	find := func(label string, id []byte) []pkcs11.Handle {
		t.Helper()
		found, err := token.FindKeys(ctx, label, id)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if diff := cmp.Diff([]pkcs11.Handle{key}, find("data", nil)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]pkcs11.Handle{key}, find("data", []byte{1, 2})); diff != "" {
		t.Error(diff)
	}
	if found := find("data", []byte{1}); len(found) != 0 {
		t.Errorf("found by another id: %v", found)
	}
	objects, err := token.ListKeys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 2 {
		t.Errorf("the list has %d keys", len(objects))
	}
	for _, o := range objects {
		if o.Handle == key && (o.Label != "data" || !bytes.Equal(o.ID, []byte{1, 2})) {
			t.Errorf("the list has %+v", o)
		}
	}
	if err := token.Destroy(ctx, second); err != nil {
		t.Fatal(err)
	}
	if found := find("second", nil); len(found) != 0 {
		t.Error("the destroyed key is still there")
	}
	if _, err := token.Attributes(ctx, second); err == nil {
		t.Error("a destroyed key has attributes")
	}
	if err := token.Destroy(ctx, pkcs11.Handle{}); !errors.Is(err, pkcs11.ErrLost) {
		t.Errorf("the zero handle: %v", err)
	}
}

func TestAttributesFollowTheTemplate(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config())
	common := pkcs11.Attributes{KeyType: 0x1f, ValueLen: 32, Sensitive: true, Local: true}
	for name, c := range map[string]struct {
		template pkcs11.Template
		want     func(*pkcs11.Attributes)
	}{
		"a data key that may leave": {dataKey, func(a *pkcs11.Attributes) {
			a.Label, a.ID, a.Encrypt, a.Decrypt, a.Extractable = "data", []byte{1, 2}, true, true, true
		}},
		"a wrapping key that stays": {pkcs11.Template{Label: "w", ID: []byte{3}, Token: true, Wrap: true}, func(a *pkcs11.Attributes) {
			a.Label, a.ID, a.Wrap, a.Unwrap, a.NeverExtractable = "w", []byte{3}, true, true, true
		}},
		"a key under trusted keys only": {pkcs11.Template{Label: "t", ID: []byte{4}, Extractable: true, WrapWithTrusted: true}, func(a *pkcs11.Attributes) {
			a.Label, a.ID, a.Extractable, a.WrapWithTrusted = "t", []byte{4}, true, true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want := common
			c.want(&want)
			have, err := token.Attributes(testContext(t), generate(t, token, c.template))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRandomGivesFreshBytes(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := open(t, ref.Config())
	a, err := token.Random(testContext(t), 32)
	if err != nil {
		t.Fatal(err)
	}
	b, err := token.Random(testContext(t), 32)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != 32 || bytes.Equal(a, b) {
		t.Errorf("%x and %x", a, b)
	}
	if _, err := token.Random(testContext(t), -1); err == nil {
		t.Error("a negative number is accepted")
	}
}
