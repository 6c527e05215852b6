package sts_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
)

// federated is a server with a role for an identity provider.
type federated struct {
	*bank
	idp *idp
	key signingKey
}

func openFederated(t testing.TB) *federated {
	t.Helper()
	f := &federated{idp: startIDP(t), key: rs256("one", 0)}
	f.idp.publish(f.key)
	host := strings.TrimPrefix(f.idp.web.URL, "https://")
	arn := "arn:aws:iam::" + kastellantest.Account + ":oidc-provider/" + host
	f.bank = openBank(t, func(a *config.Account) {
		a.Providers = []config.OIDCProvider{{URL: f.idp.web.URL, ClientIDs: []string{"sts.amazonaws.com", "shop"}, CA: f.idp.ca(), ClockSkew: time.Minute}}
		trust := trusting(`{"Federated":"`+arn+`"}`, `{"StringEquals":{"`+host+`:sub":"system:serviceaccount:shop:checkout","`+host+`:aud":"sts.amazonaws.com"}}`,
			"sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity")
		keys := []config.Policy{{Document: allowing("kms:*")}}
		a.Roles = append(a.Roles,
			config.Role{Name: "web", Trust: trust, Policies: keys},
			config.Role{Name: "grouped", Policies: keys, Trust: trusting(`{"Federated":"`+arn+`"}`,
				`{"ForAnyValue:StringEquals":{"`+host+`:groups":"payments"}}`, "sts:AssumeRoleWithWebIdentity")},
		)
	})
	return f
}

// exchange turns a token into a session.
func (f *federated) exchange(token, role string, more ...func(*awssts.AssumeRoleWithWebIdentityInput)) (*awssts.AssumeRoleWithWebIdentityOutput, error) {
	in := &awssts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(rolePrefix + role), RoleSessionName: aws.String("pod"), WebIdentityToken: &token}
	for _, change := range more {
		change(in)
	}
	return f.with(nil).AssumeRoleWithWebIdentity(f.t.Context(), in)
}

func TestATokenOfAnIdentityProviderBecomesASession(t *testing.T) {
	t.Parallel()
	f := openFederated(t)
	token := f.idp.token(f.key, map[string]any{
		"https://aws.amazon.com/source_identity": "checkout",
		"https://aws.amazon.com/tags":            map[string]any{"principal_tags": map[string]any{"team": []string{"shop"}}, "transitive_tag_keys": []string{"team"}},
	})
	out, err := f.exchange(token, "web")
	if err != nil {
		t.Fatal(err)
	}
	if *out.SubjectFromWebIdentityToken != "system:serviceaccount:shop:checkout" || *out.Audience != "sts.amazonaws.com" ||
		!strings.Contains(*out.Provider, ":oidc-provider/127.0.0.1") || *out.SourceIdentity != "checkout" {
		t.Errorf("%+v", out)
	}
	if _, err := f.kms(static(out.Credentials)).ListKeys(t.Context(), nil); err != nil {
		t.Error(err)
	}
	record := f.records("AssumeRoleWithWebIdentity")[0]
	identity := record["userIdentity"].(map[string]any)
	if identity["type"] != "WebIdentityUser" || identity["userName"] != "system:serviceaccount:shop:checkout" || !strings.Contains(identity["identityProvider"].(string), "oidc-provider") || record["recipientAccountId"] != kastellantest.Account {
		t.Errorf("%v", record)
	}
	if strings.Contains(string(must(os.ReadFile(filepath.Join(f.Directory, "audit.jsonl")))), token) {
		t.Error("the token is in the audit log")
	}
	session := f.records("ListKeys")[0]["userIdentity"].(map[string]any)["sessionContext"].(map[string]any)
	if data, _ := session["webIdFederationData"].(map[string]any); data == nil || data["federatedProvider"] != *out.Provider {
		t.Errorf("%v", session)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTokensOfIdentityProviders(t *testing.T) {
	t.Parallel()
	f := openFederated(t)
	other, elliptic := rs256("one", 1), es256(t, "two")
	f.idp.publish(f.key, elliptic)
	now := time.Now().Unix()
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(f.key.private.Public()))})
	good := func(changes map[string]any) string { return f.idp.token(f.key, changes) }
	whole, null := good(nil), json.RawMessage("null")
	tests := map[string]struct {
		token  string
		role   string
		refuse string
	}{
		"RS256":                       {whole, "web", ""},
		"ES256":                       {f.idp.token(elliptic, nil), "web", ""},
		"another service account":     {good(map[string]any{"sub": "system:serviceaccount:shop:other"}), "web", "AccessDenied"},
		"a client id that is another": {good(map[string]any{"aud": "shop"}), "web", "AccessDenied"},
		"one of several client ids":   {good(map[string]any{"aud": []string{"x", "sts.amazonaws.com"}}), "web", ""},
		"an audience of somebody else": {good(map[string]any{"aud": "somebody.else"}), "web",
			"InvalidIdentityToken"},
		"an authorized party that is another":   {good(map[string]any{"azp": "somebody.else"}), "web", "InvalidIdentityToken"},
		"an authorized party that is ours":      {good(map[string]any{"aud": "x", "azp": "sts.amazonaws.com"}), "web", ""},
		"a group that is trusted":               {good(map[string]any{"groups": []string{"a", "payments"}}), "grouped", ""},
		"groups that are not":                   {good(map[string]any{"groups": []string{"a"}}), "grouped", "AccessDenied"},
		"a role that trusts users only":         {whole, "svc/app", "AccessDenied"},
		"a role that does not exist":            {whole, "nobody", "AccessDenied"},
		"an hour late":                          {good(map[string]any{"exp": now - 3600}), "web", "ExpiredTokenException"},
		"late by less than the skew":            {good(map[string]any{"exp": now - 5}), "web", ""},
		"issued in the future":                  {good(map[string]any{"iat": now + 3600}), "web", "InvalidIdentityToken"},
		"not valid yet":                         {good(map[string]any{"nbf": now + 3600}), "web", "InvalidIdentityToken"},
		"without an end":                        {good(map[string]any{"exp": nil}), "web", "InvalidIdentityToken"},
		"without a beginning":                   {good(map[string]any{"iat": nil}), "web", "InvalidIdentityToken"},
		"without a subject":                     {good(map[string]any{"sub": nil}), "web", "InvalidIdentityToken"},
		"without an audience":                   {good(map[string]any{"aud": nil}), "web", "InvalidIdentityToken"},
		"without an issuer":                     {good(map[string]any{"iss": nil}), "web", "InvalidIdentityToken"},
		"of another issuer":                     {good(map[string]any{"iss": "https://issuer.example.test"}), "web", "InvalidIdentityToken"},
		"an end that is text":                   {good(map[string]any{"exp": "tomorrow"}), "web", "InvalidIdentityToken"},
		"an authorized party that is null":      {good(map[string]any{"azp": null}), "web", "InvalidIdentityToken"},
		"an authorized party that is a list":    {good(map[string]any{"azp": []string{"sts.amazonaws.com"}}), "web", "InvalidIdentityToken"},
		"an authorized party that is a number":  {good(map[string]any{"azp": 7}), "web", "InvalidIdentityToken"},
		"an end that is null":                   {good(map[string]any{"exp": null}), "web", "InvalidIdentityToken"},
		"a beginning that is null":              {good(map[string]any{"iat": null}), "web", "InvalidIdentityToken"},
		"a beginning that is a list":            {good(map[string]any{"iat": []int64{now}}), "web", "InvalidIdentityToken"},
		"valid from null on":                    {good(map[string]any{"nbf": null}), "web", "InvalidIdentityToken"},
		"valid from a text on":                  {good(map[string]any{"nbf": "0"}), "web", "InvalidIdentityToken"},
		"without a first moment":                {good(map[string]any{"nbf": nil}), "web", ""},
		"no signature needed":                   {f.idp.unsigned(), "web", "InvalidIdentityToken"},
		"the public key as a shared secret":     {f.idp.signed(jose.HS256, public, "one", nil), "web", "InvalidIdentityToken"},
		"a key of the same name":                {f.idp.token(other, nil), "web", "InvalidIdentityToken"},
		"a key that nobody knows":               {f.idp.token(signingKey{"three", other.algorithm, other.private}, nil), "web", "InvalidIdentityToken"},
		"a signature that was changed":          {whole[:len(whole)-8] + "AAAAAAAA", "web", "InvalidIdentityToken"},
		"claims of another token":               {swapped(whole, good(map[string]any{"sub": "x"})), "web", "InvalidIdentityToken"},
		"an access token that is no JWT":        {"gho_0123456789", "web", "InvalidIdentityToken"},
		"a source identity with a space":        {good(map[string]any{"https://aws.amazon.com/source_identity": "a b"}), "web", "IDPRejectedClaim"},
		"tags that are a list":                  {good(map[string]any{"https://aws.amazon.com/tags": []string{"x"}}), "web", "IDPRejectedClaim"},
		"tags in claims of their own":           {good(map[string]any{"https://aws.amazon.com/tags/principal_tags/team": "x"}), "web", ""},
		"tags for a role that does not take it": {good(map[string]any{"groups": "payments", "https://aws.amazon.com/tags/principal_tags/team": "x"}), "grouped", "AccessDenied"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := f.exchange(test.token, test.role)
			wantError(t, err, test.refuse)
		})
	}
}

// swapped is the first token with the claims of the second.
func swapped(first, second string) string {
	a, b := strings.Split(first, "."), strings.Split(second, ".")
	return a[0] + "." + b[1] + "." + a[2]
}

func TestKeysOfIdentityProvidersRotate(t *testing.T) {
	t.Parallel()
	f := openFederated(t)
	next := es256(t, "two")
	exchange := func(k signingKey, want string) {
		t.Helper()
		_, err := f.exchange(f.idp.token(k, map[string]any{"exp": time.Now().Add(48 * time.Hour).Unix()}), "web")
		wantError(t, err, want)
	}
	exchange(f.key, "")
	exchange(f.key, "")
	if n := f.idp.asked(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
	f.idp.publish(next)
	exchange(next, "InvalidIdentityToken") // the provider was asked a moment ago
	if n := f.idp.asked(); n != 1 {
		t.Errorf("strangers had the keys fetched %d times", n)
	}
	f.clock.advance(11 * time.Second)
	exchange(next, "")
	exchange(f.key, "InvalidIdentityToken")

	f.idp.fail(true)
	f.clock.advance(time.Hour)
	exchange(next, "") // by the key that was fetched an hour ago
	f.clock.advance(24 * time.Hour)
	exchange(next, "IDPCommunicationError")
	f.idp.fail(false)
	f.clock.advance(11 * time.Second)
	exchange(next, "")
}

func TestKnownKeysDoNotWaitForAStrangersKey(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{"fresh keys": time.Minute, "keys that are to be fetched anew": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFederated(t)
			exchange := func(k signingKey) error {
				_, err := f.exchange(f.idp.token(k, map[string]any{"exp": time.Now().Add(48 * time.Hour).Unix()}), "web")
				return err
			}
			wantError(t, exchange(f.key), "")
			f.clock.advance(age)
			waiting, answer := f.idp.hold()
			stranger, unknown := make(chan error, 1), es256(t, "stranger")
			go func() { stranger <- exchange(unknown) }()
			<-waiting
			wantError(t, exchange(f.key), "")
			select {
			case err := <-stranger:
				t.Errorf("the stranger was answered before the issuer had: %v", err)
			default:
			}
			answer()
			wantError(t, <-stranger, "InvalidIdentityToken")
		})
	}
}

func TestAnIssuerThatNobodyVouchesForIsToldInPart(t *testing.T) {
	t.Parallel()
	f := openFederated(t)
	_, err := f.exchange(f.idp.token(f.key, map[string]any{"iss": "https://x\n\u202e" + strings.Repeat("é", 5000)}), "web")
	wantError(t, err, "InvalidIdentityToken")
	message, _ := f.records("AssumeRoleWithWebIdentity")[0]["errorMessage"].(string)
	if !strings.HasSuffix(message, " for https://x\uFFFD\uFFFD"+strings.Repeat("é", 244)+"…") {
		t.Errorf("the record says %q", message)
	}
}

func TestAnIdentityProviderThatCannotBeReached(t *testing.T) {
	t.Parallel()
	f := openFederated(t)
	token := f.idp.token(f.key, nil)
	f.idp.web.Close()
	_, err := f.exchange(token, "web")
	wantError(t, err, "IDPCommunicationError")
	if records := f.records("AssumeRoleWithWebIdentity"); len(records) != 1 || records[0]["errorCode"] != "IDPCommunicationError" {
		t.Errorf("%v", records)
	}
}

func TestAPodUsesItsProjectedToken(t *testing.T) {
	t.Parallel()
	f := openFederated(t)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(f.idp.token(f.key, nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	provider := stscreds.NewWebIdentityRoleProvider(f.with(nil), rolePrefix+"web", stscreds.IdentityTokenFile(path))
	client := f.kms(aws.NewCredentialsCache(provider))
	key, err := client.CreateKey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.GenerateDataKey(t.Context(), &awskms.GenerateDataKeyInput{KeyId: key.KeyMetadata.KeyId, NumberOfBytes: aws.Int32(32)}); err != nil {
		t.Error(err)
	}
}

func TestTheSDKAssumesRoles(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	provider := stscreds.NewAssumeRoleProvider(b.as("alice"), rolePrefix+"svc/app", func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "sdk" })
	if _, err := b.kms(aws.NewCredentialsCache(provider)).ListKeys(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
