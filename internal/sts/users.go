package sts

import (
	"context"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/stsapi"
)

const (
	// usualUserSession is how long the session of a user lasts if nothing else is asked for.
	usualUserSession = 12 * time.Hour
	// maxRootSession is the longest that one of root lasts.
	maxRootSession = time.Hour
)

func (c *call) getSessionToken(_ context.Context, in *stsapi.GetSessionTokenRequest) (*stsapi.GetSessionTokenResponse, error) {
	switch {
	case c.caller.Session != nil:
		return nil, kmsapi.Errorf(kmsapi.AccessDenied, "Cannot call GetSessionToken with session credentials")
	case in.SerialNumber != nil || in.TokenCode != nil:
		return nil, noSuchDevice()
	}
	session := claims{Kind: ofUser, Issuer: c.caller.ARN, IssuerID: c.caller.PrincipalID}
	out, err := c.credentials(&session, c.userDuration(in.DurationSeconds), in.MinimumSessionTokenSize)
	if err != nil {
		return nil, err
	}
	return &stsapi.GetSessionTokenResponse{Credentials: out.Credentials, SessionTokenSize: out.size, SessionTokenUtilization: out.utilization}, nil
}

func (c *call) getFederationToken(_ context.Context, in *stsapi.GetFederationTokenRequest) (*stsapi.GetFederationTokenResponse, error) {
	if c.caller.Session != nil {
		return nil, kmsapi.Errorf(kmsapi.AccessDenied, "Cannot call GetFederationToken with session credentials")
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	b := &beginning{duration: in.DurationSeconds, tags: tags}
	b.claims = claims{Kind: ofFederated, Issuer: c.caller.ARN, IssuerID: c.caller.PrincipalID, Name: in.Name, Tags: tags}
	user := c.caller.FederatedARN(in.Name)
	for _, action := range b.permissions("sts:GetFederationToken") {
		if !c.permitted(action, user, b) {
			return nil, kmsapi.Errorf(kmsapi.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s", c.caller.ARN, action, user)
		}
	}
	if err := b.limit(c.directory, c.caller.Account, in.Policy, in.PolicyArns); err != nil {
		return nil, err
	}
	out, err := c.credentials(&b.claims, c.userDuration(in.DurationSeconds), in.MinimumSessionTokenSize)
	if err != nil {
		return nil, err
	}
	return &stsapi.GetFederationTokenResponse{
		FederatedUser:           &stsapi.FederatedUser{FederatedUserId: c.caller.Account + ":" + in.Name, Arn: user},
		Credentials:             out.Credentials,
		PackedPolicySize:        out.packed,
		SessionTokenSize:        out.size,
		SessionTokenUtilization: out.utilization,
	}, nil
}

// permitted asks the caller's own policies.
func (c *call) permitted(action, resource string, b *beginning) bool {
	in := c.caller.Inputs()
	in.Owner = c.caller.Account
	return policy.Decide(&in, &policy.Request{Subject: c.caller.Subject(), Action: action, Resource: resource, Values: &values{call: c, beginning: b}}).Decision == policy.Allow
}

// userDuration is how long a session of the caller lasts.
func (c *call) userDuration(seconds *int32) time.Duration {
	duration := usualUserSession
	if seconds != nil {
		duration = time.Duration(*seconds) * time.Second
	}
	if c.caller.Type == identity.TypeRoot {
		duration = min(duration, maxRootSession)
	}
	return duration
}
