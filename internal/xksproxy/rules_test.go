package xksproxy_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "A", false}, {"a", "ab", false},
		{"*", "", true}, {"*", "anything", true}, {"a*", "a", true}, {"a*c", "abbc", true}, {"a*c", "abbcd", false},
		{"a*b*c", "a1b2b3c", true}, {"a*b*c", "a1c2b", false}, {"?", "a", true}, {"?", "", false}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{"arn:aws:iam::*:role/app-?", "arn:aws:iam::123456789012:role/app-1", true},
		{"arn:aws:iam::*:role/app-?", "arn:aws:iam::123456789012:role/app-10", false},
		{"*.amazonaws.com", "ebs.amazonaws.com", true}, {"AWS Internal", "AWS Internal", true}, {"[a]", "a", false}, {"**a", "ba", true},
	} {
		if got := xksproxy.Match(c.pattern, c.text); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.text, got)
		}
	}
}

func TestAPatternCannotTakeForEver(t *testing.T) {
	t.Parallel()
	started := time.Now()
	if xksproxy.Match(strings.Repeat("*a", 1000)+"b", strings.Repeat("a", 2048)) {
		t.Error("matches")
	}
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	t.Parallel()
	rules := []xksproxy.Rule{
		{Name: "not mallory", Effect: xksproxy.Deny, Principals: []string{"*/mallory"}},
		{Name: "data keys", Effect: xksproxy.Allow, KMSOperations: []string{"GenerateDataKey*"}, Operations: []string{"Encrypt"}},
		{Name: "alice", Effect: xksproxy.Allow, Principals: []string{"*:user/alice"}, Keys: []string{"key-?"}},
		{Name: "that key", Effect: xksproxy.Allow, KMSKeyARNs: []string{"*:key/k2"}},
	}
	p := fileProxy(t, func(c *xksproxy.Config) { c.Stores[0].Rules, c.Stores[0].Default = rules, xksproxy.Deny })
	for _, c := range []struct {
		name                                string
		principal, kmsOperation, kmsKey, op string
		want                                int
	}{
		{"a rule that denies stands before those that allow", "x/mallory", "GenerateDataKey", "k", "encrypt", 403},
		{"a rule on kmsOperation", "x/bob", "GenerateDataKeyWithoutPlaintext", "k", "encrypt", 200},
		{"a rule on another operation does not match", "x/bob", "GenerateDataKey", "k", "metadata", 403},
		{"a rule on principal and key", "arn:aws:iam::1:user/alice", "Encrypt", "k", "encrypt", 200},
		{"another KMS key than the rule names", "x/bob", "Encrypt", "arn:aws:kms:key/k3", "encrypt", 403},
		{"a rule on the KMS key's ARN", "x/bob", "Encrypt", "arn:aws:kms:eu-west-1:1:key/k2", "encrypt", 200},
		{"no rule", "x/bob", "Encrypt", "k", "encrypt", 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := metadata(c.kmsOperation)
			m["awsPrincipalArn"], m["kmsKeyArn"] = c.principal, c.kmsKey
			body := encryptOf("x", "")
			body["requestMetadata"] = m
			if w := post(t, p, "/keys/key-1/"+c.op, body); w.Code != c.want {
				t.Errorf("%d %s, want %d", w.Code, w.Body, c.want)
			}
		})
	}
	health(t, p) // no rule is asked
}

func TestRulesAreAskedBeforeTheKeyIsLookedFor(t *testing.T) {
	t.Parallel()
	p := fileProxy(t, func(c *xksproxy.Config) { c.Stores[0].Rules, c.Stores[0].Default = nil, xksproxy.Deny })
	if w := post(t, p, "/keys/nobody/encrypt", encryptOf("x", "")); w.Code != http.StatusForbidden {
		t.Errorf("somebody who is denied learns which keys there are: %d", w.Code)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, prefix, op, key string
		ok                    bool
	}{
		{"/kms/xks/v1/health", "", "GetHealthStatus", "", true},
		{"/a/b/kms/xks/v1/health", "/a/b", "GetHealthStatus", "", true},
		{"/a/kms/xks/v1/keys/k.1_-Z/metadata", "/a", "GetKeyMetadata", "k.1_-Z", true},
		{"/kms/xks/v1/keys/" + strings.Repeat("k", 128) + "/encrypt", "", "Encrypt", strings.Repeat("k", 128), true},
		{"/kms/xks/v1/keys/" + strings.Repeat("k", 129) + "/encrypt", "", "", "", false},
		{path: "/kms/xks/v1/keys//encrypt"}, {path: "/kms/xks/v1/keys/k%31/encrypt"}, {path: "/kms/xks/v1/keys/k/encrypt/"},
		{path: "/kms/xks/v2/health"}, {path: "/kms/xks/v1/keys/k/sign"}, {path: "/kms/xks/v1/keys/a/b/encrypt"}, {path: ""}, {path: "/"}, {path: "health"},
	} {
		prefix, op, key, ok := xksproxy.ParsePath(c.path)
		if ok != c.ok || prefix != c.prefix || op != c.op || key != c.key {
			t.Errorf("%s: %q %q %q %v", c.path, prefix, op, key, ok)
		}
	}
}

func TestStoresAreToldApartByPrefix(t *testing.T) {
	t.Parallel()
	p := fileProxy(t, func(c *xksproxy.Config) {
		other := c.Stores[0]
		other.Prefix, other.Credentials = "", other.Credentials[1:]
		other.Keys = []xksproxy.KeyConfig{{ID: xksproxytest.Key}}
		c.Stores = append(c.Stores, other)
	})
	encrypt(t, p, xksproxytest.Key, "x", "")
	// The first store's credential is nobody's in the second.
	if w := send(p, signed("/kms/xks/v1/health", []byte(`{}`))); w.Code != http.StatusUnauthorized {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
