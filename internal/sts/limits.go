package sts

import (
	"strings"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/stsapi"
)

// maxPacked is how large session policies and tags may be, in bytes as they are
// compressed in a token, of which the rest is for what else it says.
const maxPacked = 2048

// maxPlain is how long the inline policy and the ARNs may be together, in characters.
const maxPlain = 2048

// limit takes the session policies in. Managed ones are of the account.
func (b *beginning) limit(d *identity.Directory, account string, inline *string, managed []stsapi.PolicyDescriptorType) error {
	length := 0
	if inline != nil {
		if _, err := policy.ParseSession([]byte(*inline)); err != nil {
			return kmsapi.Errorf(stsapi.MalformedPolicyDocument, "The session policy is not valid: %s.", strings.TrimPrefix(err.Error(), "policy: "))
		}
		b.claims.Policy = *inline
		length += len([]rune(*inline))
	}
	for _, m := range managed {
		if accountOf(m.Arn) != account {
			return kmsapi.Errorf(kmsapi.Validation, "The managed policy %s is of another account.", m.Arn)
		}
		if _, ok := d.ManagedPolicy(m.Arn); !ok {
			return kmsapi.Errorf(kmsapi.Validation, "The managed policy %s does not exist.", m.Arn)
		}
		b.claims.PolicyARNs = append(b.claims.PolicyARNs, m.Arn)
		length += len(m.Arn)
	}
	if length > maxPlain {
		return kmsapi.Errorf(stsapi.PackedPolicyTooLarge, "The session policies have %d characters together; the limit is %d.", length, maxPlain)
	}
	return nil
}

// packed is which part of the allotted space session policies and tags take; nil if there are none.
func packed(c *claims) (*int32, error) {
	if c.Policy == "" && len(c.PolicyARNs) == 0 && len(c.Tags) == 0 {
		return nil, nil
	}
	limited, err := pack(claims{Policy: c.Policy, PolicyARNs: c.PolicyARNs, Tags: c.Tags, Transitive: c.Transitive})
	if err != nil {
		return nil, err
	}
	percent := int32((len(limited)*100 + maxPacked - 1) / maxPacked)
	if percent > 100 {
		return nil, kmsapi.Errorf(stsapi.PackedPolicyTooLarge, "Packed size of session policies and session tags consumes %d%% of allotted space.", percent)
	}
	return &percent, nil
}

// made are a session's credentials, and the sizes that answers tell.
type made struct {
	*stsapi.Credentials
	packed, size, utilization *int32
}

// credentials makes the credentials of a session that begins now, with a token of at least
// so many characters.
func (c *call) credentials(session *claims, duration time.Duration, atLeast *int32) (*made, error) {
	percent, err := packed(session)
	if err != nil {
		return nil, err
	}
	session.Issued, session.Expires = c.at.Unix(), c.at.Add(duration).Unix()
	least := 0
	if atLeast != nil {
		least = int(*atLeast)
	}
	out, err := issue(c.s.sealer, session, least)
	if err != nil {
		return nil, err
	}
	size := int32(out.token.Len())
	if size > maxToken {
		return nil, kmsapi.Errorf(stsapi.PackedPolicyTooLarge, "The session token would have %d characters; the limit is %d.", size, maxToken)
	}
	utilization := (size*100 + maxToken - 1) / maxToken
	return &made{
		Credentials: &stsapi.Credentials{
			AccessKeyId:     out.accessKeyID,
			SecretAccessKey: out.secret,
			SessionToken:    out.token,
			Expiration:      kmsapi.At(out.expires),
		},
		packed: percent, size: &size, utilization: &utilization,
	}, nil
}

// maxTags is the most tags that a session can have.
const maxTags = 50

// tagsOf refuses keys that are there twice, and those of AWS.
func tagsOf(list []stsapi.Tag) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	tags := make(map[string]string, len(list))
	for _, t := range list {
		if _, twice := folded(tags, t.Key); twice {
			return nil, kmsapi.Errorf(stsapi.InvalidParameterValue, "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		if strings.HasPrefix(strings.ToLower(t.Key), "aws:") {
			return nil, kmsapi.Errorf(stsapi.InvalidParameterValue, "Tag keys must not begin with aws:.")
		}
		tags[t.Key] = t.Value
	}
	return tags, nil
}

// folded finds a tag whatever the case of its key.
func folded(tags map[string]string, key string) (string, bool) {
	if value, ok := tags[key]; ok {
		return value, true
	}
	for k, value := range tags {
		if strings.EqualFold(k, key) {
			return value, true
		}
	}
	return "", false
}
