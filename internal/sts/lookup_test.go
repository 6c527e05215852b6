package sts_test

import (
	"bytes"
	"context"
	"net/http"
	"testing"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/sts"
)

const longTermKey = "AKIAALICE00000000001"

// service is a Service with one role, and what tokens are sealed with.
func service(t testing.TB) (*sts.Service, *identity.Source, rootkey.Sealer, *sts.TokenClaims) {
	t.Helper()
	return serviceAt(t, time.Now)
}

// serviceAt is service by that clock.
func serviceAt(t testing.TB, now func() time.Time) (*sts.Service, *identity.Source, rootkey.Sealer, *sts.TokenClaims) {
	t.Helper()
	d, err := identity.New([]identity.Account{{
		ID:    "111122223333",
		Users: []identity.User{{Name: "alice", AccessKeys: []identity.AccessKey{{ID: longTermKey, Secret: secret.NewText("0123456789012345678901234567890123456789")}}}},
		Roles: []identity.Role{{Name: "app", Trust: trusting(anyone, `{}`).Document, Attached: identity.Attached{Inline: []string{allowing("kms:*")}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	role, _ := d.Role("arn:aws:iam::111122223333:role/app")
	source, sealer := identity.NewSource(d), rootkey.Random().Direct()
	s, err := sts.New(sts.Config{Identities: source, Sealer: sealer, Audit: audit.NewFile(new(bytes.Buffer)), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	begin := now()
	return s, source, sealer, &sts.TokenClaims{Kind: "role", Issuer: role.ARN, IssuerID: role.ID, Name: "one", Issued: begin.Unix(), Expires: begin.Add(time.Hour).Unix(), Policy: allowing("kms:ListKeys")}
}

func TestALookupOfASessionThatWasSeenAllocatesNothing(t *testing.T) {
	s, _, sealer, c := service(t)
	id, _, token, err := sts.Issue(sealer, c)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() {
		if _, ok := s.Lookup(id, token); !ok {
			t.Fatal("not found")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTheMemoryOfSessionsIsBounded(t *testing.T) {
	t.Parallel()
	s, _, sealer, c := service(t)
	first, _, firstToken, _ := sts.Issue(sealer, c)
	for i := range 2*sts.MaxOpened + 100 {
		id, _, token, err := sts.Issue(sealer, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Lookup(id, token); !ok {
			t.Fatal("a session is not found")
		}
		if i%1000 == 0 {
			if _, ok := s.Lookup(first, firstToken); !ok {
				t.Fatal("a session that is in use is not found")
			}
		}
	}
	if n := s.Remembered(); n > 2*sts.MaxOpened {
		t.Errorf("%d sessions are remembered", n)
	}
}

func TestSessionsThatHaveEndedAreForgotten(t *testing.T) {
	t.Parallel()
	clock := new(clock)
	s, _, sealer, c := serviceAt(t, clock.now)
	seen := func() {
		t.Helper()
		id, _, token, err := sts.Issue(sealer, c)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := s.Lookup(id, token); !ok || e.Key.Expires.Unix() != c.Expires {
			t.Error("a session is not found")
		}
	}
	for range 10 {
		seen()
	}
	clock.advance(2 * time.Hour)
	seen() // one that has ended is found, since the caller is to be told so, and not remembered
	if n := s.Remembered(); n != 10 {
		t.Errorf("%d sessions are remembered, want the 10 from before", n)
	}
	c.Expires = clock.now().Add(time.Hour).Unix()
	seen()
	if n := s.Remembered(); n != 1 {
		t.Errorf("%d sessions are remembered, want the one that has not ended", n)
	}
}

func TestStrangersAreNotRemembered(t *testing.T) {
	t.Parallel()
	s, _, sealer, c := service(t)
	id, _, token, _ := sts.Issue(sealer, c)
	for _, try := range [][2]string{{id, flipped(token)}, {"ASIA0123456789ABCDEF", token}, {id, ""}, {longTermKey, token}} {
		if _, ok := s.Lookup(try[0], try[1]); ok {
			t.Errorf("%s is found", try[0])
		}
	}
	if n := s.Remembered(); n != 0 {
		t.Errorf("%d sessions are remembered", n)
	}
}

func TestAWrongTokenDoesNotEndARememberedSession(t *testing.T) {
	t.Parallel()
	s, _, sealer, c := service(t)
	id, _, token, _ := sts.Issue(sealer, c)
	if _, ok := s.Lookup(id, token); !ok {
		t.Fatal("not found")
	}
	if _, ok := s.Lookup(id, flipped(token)); ok {
		t.Error("a wrong token is taken")
	}
	if _, ok := s.Lookup(id, token); !ok {
		t.Error("the right one is not taken any more")
	}
}

// BenchmarkVerify is what a session costs beside a long-term key: one request, over and over.
func BenchmarkVerify(b *testing.B) {
	s, source, sealer, c := service(b)
	v := &sigv4.Verifier{Service: "kms", Lookup: func(_ context.Context, id, token string) (sigv4.Secret, bool) {
		e, ok := source.Lookup(id)
		if !ok {
			e, ok = s.Lookup(id, token)
		}
		if !ok {
			return sigv4.Secret{}, false
		}
		return sigv4.Secret{Key: e.Key.Secret, SessionToken: e.Key.SessionToken, Expires: e.Key.Expires, Owner: e.Principal}, true
	}}
	alice, _ := source.Lookup(longTermKey)
	id, text, token, err := sts.Issue(sealer, c)
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"KeyId":"alias/x","Plaintext":"AAAA"}`)
	for name, who := range map[string]sigv4.Credentials{
		"long-term key (floor)": {AccessKeyID: longTermKey, Secret: alice.Key.Secret},
		"session":               {AccessKeyID: id, Secret: secret.NewText(text), SessionToken: secret.NewText(token)},
	} {
		b.Run(name, func(b *testing.B) {
			r, _ := http.NewRequest(http.MethodPost, "https://kms.example.test/", nil)
			r.Header.Set("X-Amz-Target", "TrentService.Encrypt")
			sigv4.Sign(r, body, who, "kms", "us-east-1", time.Now())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), r, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("token that was not seen before", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := sts.Open(sealer, id, token); err != nil {
				b.Fatal(err)
			}
		}
	})
}
