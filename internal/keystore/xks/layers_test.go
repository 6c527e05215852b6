package xks_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/xksapi"
)

const marker = "MARKER-plaintext-nobody-may-see"

func TestProxySeesNoPlaintextButAllElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{})
	c := r.connect(t)
	k := createKey(t, c)
	sealed := encrypt(t, c, k, marker, "purpose=test")
	if plaintext, err := decrypt(t.Context(), c, k, sealed, "purpose=test"); err != nil || plaintext != marker {
		t.Fatalf("decrypted %q, %v", plaintext, err)
	}
	for _, op := range []xkstest.Op{xkstest.Encrypt, xkstest.Decrypt} {
		requests := r.proxy.Requests(op)
		if len(requests) != 1 {
			t.Fatalf("%d requests to %s", len(requests), op)
		}
		q := requests[0]
		if bytes.Contains(q.Input, []byte(marker)) || len(q.Input) != len(marker)+40 {
			t.Errorf("%s: the proxy sees %d bytes", op, len(q.Input))
		}
		if string(q.AAD) != "purpose=test" || q.KeyID != externalKey || q.Region != region {
			t.Errorf("%s: AAD %q, key %s, Region %s", op, q.AAD, q.KeyID, q.Region)
		}
		m := q.Metadata
		if m.KMSKeyARN != k.ARN || m.AWSPrincipalARN != call("").PrincipalARN || m.KMSRequestID != call("").RequestID || !strings.EqualFold(m.KMSOperation, string(op)) {
			t.Errorf("%s: request metadata %+v", op, m)
		}
	}
	if m := r.proxy.Requests(xkstest.Metadata)[0].Metadata; m.KMSKeyARN != "" || m.KMSOperation != "CreateKey" {
		t.Errorf("GetKeyMetadata has the request metadata %+v", m)
	}
	if q := r.proxy.Requests(xkstest.Health)[0].Metadata; q.KMSOperation != "ConnectCustomKeyStore" {
		t.Errorf("GetHealthStatus has the request metadata %+v", q)
	}
}

// A proxy, or who has taken it over, can decrypt its own layer and make
// another one: the inner layer must not follow.
func TestProxyCannotExchangePlaintexts(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{})
	c := r.connect(t)
	k, other := createKey(t, c), createKey(t, c)
	sealed, foreign := encrypt(t, c, k, marker, "aad"), encrypt(t, c, other, marker, "aad")
	if _, err := decrypt(t.Context(), c, other, sealed, "aad"); err == nil {
		t.Error("a key on the same external key opens it")
	}
	for name, fault := range map[string]xkstest.Fault{
		"another plaintext": xkstest.Edit(func(out *xksapi.DecryptResponse) { out.Plaintext[3] ^= 1 }),
		"zeros":             xkstest.Edit(func(out *xksapi.DecryptResponse) { clear(out.Plaintext) }),
		"a shorter one":     xkstest.Edit(func(out *xksapi.DecryptResponse) { out.Plaintext = out.Plaintext[1:] }),
		"none":              xkstest.Edit(func(out *xksapi.DecryptResponse) { out.Plaintext = nil }),
	} {
		r.proxy.Fail(xkstest.Decrypt, fault)
		plaintext, err := decrypt(t.Context(), c, k, sealed, "aad")
		wantCode(t, name, err, kmsapi.KMSInvalidState)
		if plaintext != "" {
			t.Errorf("%s: %q came out", name, plaintext)
		}
		r.proxy.Heal()
	}
	if _, err := decrypt(t.Context(), c, k, foreign, "aad"); err == nil {
		t.Error("what another key sealed opens")
	}
}

func TestInnerKeyIsBoundToItsKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{})
	r.proxy.AddKey("other-external-key")
	c := r.connect(t)
	k := createKey(t, c)
	sealed := encrypt(t, c, k, marker, "")
	moved, copied := k, k
	moved.XksKeyID = "other-external-key"
	copied.ARN = strings.Replace(k.ARN, account, "999999999999", 1)
	if _, err := c.Encrypt(t.Context(), call("Encrypt"), moved, nil, []byte("x"), nil); err == nil {
		t.Error("the inner key serves another external key")
	}
	if _, err := decrypt(t.Context(), c, copied, sealed, ""); err == nil {
		t.Error("the inner key serves another KMS key")
	}
	if bytes.Contains(k.Data, []byte(marker)) || len(k.Data) < 32 {
		t.Errorf("the record has %d bytes", len(k.Data))
	}
}

func TestEveryBitOfTheSealedBytesCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t, xkstest.Options{IVSize: 16, Metadata: "version-7"})
	c := r.connect(t)
	k := createKey(t, c)
	sealed := encrypt(t, c, k, "short", "aad")
	for bit := range len(sealed) * 8 {
		changed := bytes.Clone(sealed)
		changed[bit/8] ^= 1 << (bit % 8)
		if plaintext, err := decrypt(t.Context(), c, k, changed, "aad"); err == nil || plaintext != "" {
			t.Fatalf("with bit %d of byte %d flipped it opens", bit%8, bit/8)
		}
	}
	for n := range sealed {
		if _, err := decrypt(t.Context(), c, k, sealed[:n], "aad"); err == nil {
			t.Fatalf("the first %d bytes open", n)
		}
	}
	if _, err := decrypt(t.Context(), c, k, append(bytes.Clone(sealed), 0), "aad"); err == nil {
		t.Error("with a byte more it opens")
	}
	if plaintext, err := decrypt(t.Context(), c, k, sealed, "aad"); err != nil || plaintext != "short" {
		t.Errorf("afterwards the good one gives %q, %v", plaintext, err)
	}
}

// The layout of stored ciphertexts must never change under its version.
func TestSealedBytesHaveTheDocumentedLayout(t *testing.T) {
	t.Parallel()
	inner := strings.Repeat("cc", 40)
	for name, body := range map[string]string{
		"an IV of 12 bytes, no metadata": "010c00" + strings.Repeat("1a", 12) + strings.Repeat("7a", 16) + inner,
		"an IV of 16 bytes, metadata":    "011014" + strings.Repeat("1a", 16) + strings.Repeat("3e", 20) + strings.Repeat("7a", 16) + inner,
	} {
		sealed, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		p, err := xks.ParseBody(sealed)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.IV[0] != 0x1a || p.Tag[15] != 0x7a || hex.EncodeToString(p.Ciphertext) != inner || len(p.Metadata) > 0 && p.Metadata[19] != 0x3e {
			t.Errorf("%s: %x", name, p)
		}
		if !bytes.Equal(p.Body(), sealed) {
			t.Errorf("%s: it becomes %x", name, p.Body())
		}
	}
	for name, body := range map[string]string{
		"another version": "020c00" + strings.Repeat("1a", 28) + inner, "an IV of 13 bytes": "010d00" + strings.Repeat("1a", 29) + inner,
		"metadata of 21 bytes": "010c15" + strings.Repeat("1a", 49) + inner, "a ciphertext that is too short": "010c00" + strings.Repeat("1a", 28) + inner[2:],
		"nothing": "", "the prefix alone": "010c00",
	} {
		sealed, _ := hex.DecodeString(body)
		if _, err := xks.ParseBody(sealed); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
