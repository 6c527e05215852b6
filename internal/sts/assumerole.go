package sts

import (
	"context"
	"strings"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/stsapi"
)

const (
	// usualSession is how long the session of a role lasts if nothing else is asked for.
	usualSession = time.Hour
	// maxChained is the longest session of a role that is assumed by a session of a role.
	maxChained = time.Hour
)

func (c *call) getCallerIdentity(context.Context, *stsapi.GetCallerIdentityRequest) (*stsapi.GetCallerIdentityResponse, error) {
	return &stsapi.GetCallerIdentityResponse{UserId: c.caller.PrincipalID, Account: c.caller.Account, Arn: c.caller.ARN}, nil
}

func (c *call) assumeRole(_ context.Context, in *stsapi.AssumeRoleRequest) (*stsapi.AssumeRoleResponse, error) {
	if err := c.mayAssume(in); err != nil {
		return nil, err
	}
	c.about("AWS::IAM::Role", in.RoleArn)
	asked, err := c.beginning(in)
	if err != nil {
		return nil, err
	}
	role, known := c.directory.Role(in.RoleArn)
	for _, action := range asked.permissions("sts:AssumeRole") {
		if !known || !c.trusted(role, c.caller.Subject(), action, asked) {
			return nil, kmsapi.Errorf(kmsapi.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s", c.caller.ARN, action, in.RoleArn)
		}
	}
	if err := asked.limit(c.directory, role.Account, in.Policy, in.PolicyArns); err != nil {
		return nil, err
	}
	longest := role.MaxSession
	if c.chained() {
		longest = maxChained
	}
	out, err := c.begin(role, asked, longest)
	if err != nil {
		return nil, err
	}
	return &stsapi.AssumeRoleResponse{
		SourceIdentity:          asked.claims.SourceID,
		AssumedRoleUser:         sessionUser(role, asked.claims.Name),
		Credentials:             out.Credentials,
		PackedPolicySize:        out.packed,
		SessionTokenSize:        out.size,
		SessionTokenUtilization: out.utilization,
	}, nil
}

// mayAssume refuses who may never assume a role, and what nobody can do here.
func (c *call) mayAssume(in *stsapi.AssumeRoleRequest) error {
	switch {
	case c.caller.Type == identity.TypeRoot:
		return kmsapi.Errorf(kmsapi.AccessDenied, "Roles may not be assumed by root accounts.")
	case c.caller.Type == identity.TypeFederatedUser:
		return kmsapi.Errorf(kmsapi.AccessDenied, "Cannot call AssumeRole with federation token credentials.")
	case in.SerialNumber != nil || in.TokenCode != nil:
		return noSuchDevice()
	case len(in.ProvidedContexts) > 0:
		return kmsapi.Errorf(kmsapi.Validation, "There are no trusted context providers here.")
	}
	return nil
}

// noSuchDevice refuses codes of MFA devices, of which there are none.
func noSuchDevice() error {
	return kmsapi.Errorf(kmsapi.AccessDenied, "MultiFactorAuthentication failed, there is no MFA device with that serial number.")
}

// chained tells that the caller is itself the session of a role.
func (c *call) chained() bool { return c.caller.Type == identity.TypeAssumedRole }

// beginning is how a session of a role begins, before anybody has decided whether it may.
type beginning struct {
	claims   claims
	duration *int32            // seconds, as asked for
	size     *int32            // characters that the token has at least
	tags     map[string]string // those of the request, without those that come along from the caller's session
	external *string
	role     *identity.RoleEntry // once it is known, for condition keys
	web      *webIdentity        // nil: the caller has signed
}

// beginning reads the request, and adds what the caller's session hands on.
func (c *call) beginning(in *stsapi.AssumeRoleRequest) (*beginning, error) {
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	b := &beginning{duration: in.DurationSeconds, size: in.MinimumSessionTokenSize, tags: tags, external: in.ExternalId}
	b.claims = claims{Kind: ofRole, Name: in.RoleSessionName, Tags: tags, Transitive: in.TransitiveTagKeys}
	if in.SourceIdentity != nil {
		b.claims.SourceID = *in.SourceIdentity
	}
	for _, key := range in.TransitiveTagKeys {
		if _, ok := folded(tags, key); !ok {
			return nil, kmsapi.Errorf(kmsapi.Validation, "The specified transitive tag key must be included in the requested tags.")
		}
	}
	if s := c.caller.Session; s != nil {
		if err := b.inherit(c, s); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// inherit adds what the caller's session hands on: transitive tags and the source
// identity. Neither can be replaced.
func (b *beginning) inherit(c *call, s *identity.Session) error {
	if s.SourceIdentity != "" {
		if b.claims.SourceID != "" && b.claims.SourceID != s.SourceIdentity {
			return kmsapi.Errorf(kmsapi.AccessDenied, "The source identity cannot be changed: that of the calling session stays.")
		}
		b.claims.SourceID = s.SourceIdentity
	}
	incoming := make(map[string]string)
	for _, key := range s.Transitive {
		value, ok := folded(c.caller.Tags, key)
		if !ok {
			continue
		}
		if _, again := folded(b.tags, key); again {
			return kmsapi.Errorf(kmsapi.Validation, "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
		}
		incoming[key] = value
	}
	if len(incoming) == 0 {
		return nil
	}
	all := make(map[string]string, len(b.tags)+len(incoming))
	for key, value := range b.tags {
		all[key] = value
	}
	for key, value := range incoming {
		all[key] = value
		b.claims.Transitive = append(b.claims.Transitive[:len(b.claims.Transitive):len(b.claims.Transitive)], key)
	}
	b.claims.Tags = all
	c.note("incomingTransitiveTags", incoming)
	return nil
}

// permissions are what whoever begins the session must be allowed to do with the role.
func (b *beginning) permissions(action string) []string {
	all := []string{action}
	if len(b.claims.Tags) > 0 {
		all = append(all, "sts:TagSession")
	}
	if b.claims.SourceID != "" {
		all = append(all, "sts:SetSourceIdentity")
	}
	return all
}

// trusted asks the role's trust policy, and the caller's own policies.
func (c *call) trusted(role *identity.RoleEntry, subject *policy.Subject, action string, b *beginning) bool {
	var in policy.Inputs
	if b.web == nil {
		in = c.caller.Inputs()
	}
	in.Resource, in.Owner = role.Trust, role.Account
	b.role = role
	outcome := policy.Decide(&in, &policy.Request{Subject: subject, Action: action, Resource: role.ARN, Values: &values{call: c, beginning: b}})
	return outcome.Decision == policy.Allow
}

// begin makes the credentials of a session of the role that lasts at most so long.
func (c *call) begin(role *identity.RoleEntry, b *beginning, longest time.Duration) (*made, error) {
	duration := usualSession
	if b.duration != nil {
		duration = time.Duration(*b.duration) * time.Second
	}
	if duration > longest {
		if c.chained() {
			return nil, kmsapi.Errorf(kmsapi.Validation, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
		}
		return nil, kmsapi.Errorf(kmsapi.Validation, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	b.claims.Issuer, b.claims.IssuerID = role.ARN, role.ID
	return c.credentials(&b.claims, duration, b.size)
}

func sessionUser(role *identity.RoleEntry, name string) *stsapi.AssumedRoleUser {
	return &stsapi.AssumedRoleUser{AssumedRoleId: role.ID + ":" + name, Arn: role.SessionARN(name)}
}

// accountOf is the account of an ARN; empty if it is none.
func accountOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		return parts[4]
	}
	return ""
}
