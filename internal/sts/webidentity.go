package sts

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/stsapi"
)

// webIdentity is somebody for whom an identity provider vouches.
type webIdentity struct {
	provider    string // name: host and path of the issuer's URL
	providerARN string
	subject     string
	audience    string // the client id of ours that the token is for
	claims      tokenClaims
}

func (c *call) assumeRoleWithWebIdentity(ctx context.Context, in *stsapi.AssumeRoleWithWebIdentityRequest) (*stsapi.AssumeRoleWithWebIdentityResponse, error) {
	c.recipient = accountOf(in.RoleArn)
	c.about("AWS::IAM::Role", in.RoleArn)
	if in.ProviderId != nil {
		return nil, kmsapi.Errorf(kmsapi.Validation, "ProviderId is for OAuth 2.0 access tokens, which are not accepted here.")
	}
	web, err := c.verifyToken(ctx, c.recipient, in.WebIdentityToken.Reveal())
	if err != nil {
		return nil, err
	}
	c.web = web
	b, err := web.beginning(in)
	if err != nil {
		return nil, err
	}
	role, known := c.directory.Role(in.RoleArn)
	subject := &policy.Subject{Provider: web.providerARN}
	for _, action := range b.permissions("sts:AssumeRoleWithWebIdentity") {
		if !known || !c.trusted(role, subject, action, b) {
			return nil, kmsapi.Errorf(kmsapi.AccessDenied, "Not authorized to perform %s", action)
		}
	}
	if err := b.limit(c.directory, role.Account, in.Policy, in.PolicyArns); err != nil {
		return nil, err
	}
	out, err := c.begin(role, b, role.MaxSession)
	if err != nil {
		return nil, err
	}
	return &stsapi.AssumeRoleWithWebIdentityResponse{
		SubjectFromWebIdentityToken: web.subject,
		Audience:                    web.audience,
		SourceIdentity:              b.claims.SourceID,
		AssumedRoleUser:             sessionUser(role, b.claims.Name),
		Credentials:                 out.Credentials,
		Provider:                    web.providerARN,
		PackedPolicySize:            out.packed,
		SessionTokenSize:            out.size,
		SessionTokenUtilization:     out.utilization,
	}, nil
}

// beginning reads the request, and the tags and the source identity in the token.
func (w *webIdentity) beginning(in *stsapi.AssumeRoleWithWebIdentityRequest) (*beginning, error) {
	tags, transitive, err := w.claims.sessionTags()
	if err != nil {
		return nil, err
	}
	source, err := w.claims.sourceIdentity()
	if err != nil {
		return nil, err
	}
	b := &beginning{duration: in.DurationSeconds, size: in.MinimumSessionTokenSize, tags: tags, web: w}
	b.claims = claims{
		Kind:       ofRole,
		Name:       in.RoleSessionName,
		Tags:       tags,
		Transitive: transitive,
		SourceID:   source,
		Provider:   w.providerARN,
		Claims:     map[string]string{w.key("sub"): w.subject, w.key("aud"): w.audience},
	}
	return b, nil
}

func (w *webIdentity) key(claim string) string { return strings.ToLower(w.provider + ":" + claim) }

// lookup gives the values of condition keys about the token.
func (w *webIdentity) lookup(key string) ([]string, bool) {
	if key == "aws:federatedprovider" {
		return present(w.providerARN)
	}
	name, ok := strings.CutPrefix(key, w.key(""))
	switch {
	case !ok:
		return nil, false
	case name == "aud": // the one that was accepted, as AWS has it
		return present(w.audience)
	case name == "oaud":
		return w.claims.texts("aud")
	}
	for claim := range w.claims {
		if strings.EqualFold(claim, name) {
			return w.claims.texts(claim)
		}
	}
	return nil, false
}

// verifyToken verifies an OpenID Connect token for a role of the account.
func (c *call) verifyToken(ctx context.Context, account, token string) (*webIdentity, error) {
	issuer, err := unverifiedIssuer(token)
	if err != nil {
		return nil, err
	}
	provider, arn := c.provider(account, issuer)
	if provider == nil {
		return nil, kmsapi.Errorf(stsapi.InvalidIdentityToken, "No OpenIDConnect provider found in your account for %s", shown(issuer))
	}
	payload, err := c.s.issuers.of(provider).verify(ctx, token)
	if err != nil {
		return nil, err
	}
	claims := make(tokenClaims)
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, notAToken()
	}
	if err := claims.checkNames(); err != nil {
		return nil, err
	}
	w := &webIdentity{provider: provider.Name(), providerARN: arn, claims: claims}
	if err := w.checkTimes(c.at, provider.Skew); err != nil {
		return nil, err
	}
	return w, w.checkAudience(provider.ClientIDs)
}

// checkNames refuses claims that differ in case only: the names of condition keys do not tell
// them apart, and one of them may be of the user's choice.
func (t tokenClaims) checkNames() error {
	seen := make(map[string]bool, len(t))
	for name := range t {
		folded := strings.ToLower(name)
		if seen[folded] {
			return kmsapi.Errorf(stsapi.InvalidIdentityToken, "The token has claims whose names differ in case only.")
		}
		seen[folded] = true
	}
	return nil
}

// provider finds the account's provider for an issuer, whose URL is compared to the letter.
func (c *call) provider(account, issuer string) (*identity.Provider, string) {
	for arn, p := range c.directory.Providers(account) {
		if p.URL == issuer {
			return p, arn
		}
	}
	return nil, ""
}

// maxShown is how much of an issuer that nobody vouches for is told, in characters: as much as the URL
// of a provider can have in IAM.
const maxShown = 255

// shown is what the answer and the audit record say of such an issuer.
func shown(issuer string) string {
	var b strings.Builder
	n := 0
	for _, r := range issuer {
		if n++; n > maxShown {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
	}
	return b.String()
}

func notAToken() error {
	return kmsapi.Errorf(stsapi.InvalidIdentityToken, "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
}

// unverifiedIssuer tells who says to have issued a token.
func unverifiedIssuer(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", notAToken()
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", notAToken()
	}
	var said struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &said); err != nil {
		return "", notAToken()
	}
	if said.Issuer == "" {
		return "", missingClaim("iss")
	}
	return said.Issuer, nil
}

func missingClaim(name string) error {
	return kmsapi.Errorf(stsapi.InvalidIdentityToken, "Missing a required claim: %s", name)
}

// checkTimes looks at when the token was issued, from when on and until when it is good.
func (w *webIdentity) checkTimes(now time.Time, skew time.Duration) error {
	var at [3]time.Time
	for i, name := range []string{"exp", "iat", "nbf"} {
		raw, ok := w.claims[name]
		if !ok && name == "nbf" {
			continue
		}
		if !ok {
			return missingClaim(name)
		}
		var seconds *float64 // null leaves it nil
		if json.Unmarshal(raw, &seconds) != nil || seconds == nil || *seconds < 0 || *seconds > 1<<40 {
			return kmsapi.Errorf(stsapi.InvalidIdentityToken, "The claim %s is not a time.", name)
		}
		at[i] = time.Unix(int64(*seconds), 0).UTC()
	}
	expires, issued, from := at[0], at[1], at[2]
	switch {
	case !now.Add(-skew).Before(expires):
		return kmsapi.Errorf(stsapi.ExpiredWebIdentity, "Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), expires.Unix())
	case now.Add(skew).Before(issued), now.Add(skew).Before(from):
		return kmsapi.Errorf(stsapi.InvalidIdentityToken, "The token is not valid yet.")
	}
	return nil
}

// checkAudience finds for which of our client ids the token is: that of the authorized
// party, if the token names one, or else one of its audiences.
func (w *webIdentity) checkAudience(clientIDs []string) error {
	subject, _ := w.claims.texts("sub")
	if len(subject) != 1 || subject[0] == "" {
		return missingClaim("sub")
	}
	w.subject = subject[0]
	audiences, ok := w.claims.texts("aud")
	if !ok || len(audiences) == 0 {
		return missingClaim("aud")
	}
	if raw, ok := w.claims["azp"]; ok {
		var party *string // null leaves it nil
		if json.Unmarshal(raw, &party) != nil || party == nil {
			return kmsapi.Errorf(stsapi.InvalidIdentityToken, "The claim azp is not a text.")
		}
		audiences = []string{*party}
	}
	for _, a := range audiences {
		if slices.Contains(clientIDs, a) {
			w.audience = a
			return nil
		}
	}
	return kmsapi.Errorf(stsapi.InvalidIdentityToken, "Incorrect token audience")
}
