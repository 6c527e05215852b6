package kms

import (
	"context"
	"errors"
	"fmt"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
)

// maxPolicy is the longest key policy, in bytes.
const maxPolicy = 32768

// policyName is the name of every key's one policy.
const policyName = "default"

// checkPolicy refuses a key policy that cannot be kept.
func (s *Service) checkPolicy(document string) error {
	if len(document) > maxPolicy {
		return kmsapi.Errorf(kmsapi.LimitExceeded, "The key policy is longer than %d bytes.", maxPolicy)
	}
	d, err := policy.ParseKeyPolicy([]byte(document))
	switch {
	case errors.Is(err, policy.ErrPrincipal):
		return invalidPrincipals(err)
	case err != nil:
		return kmsapi.Errorf(kmsapi.MalformedPolicyDocument, "The key policy is not valid: %v.", err)
	}
	for _, name := range d.Principals() {
		if !s.exists(name) {
			return invalidPrincipals(fmt.Errorf("%s does not exist", name))
		}
	}
	return nil
}

// invalidPrincipals leaves out why: that somebody does not exist is not for everyone to know.
func invalidPrincipals(cause error) error {
	return kmsapi.Errorf(kmsapi.MalformedPolicyDocument, "Policy contains a statement with one or more invalid principals.").Because(cause)
}

// compiled is a stored key policy. One that cannot be read, as none should be, denies
// everything: it may have been meant to deny what a grant allows.
func compiled(rec *keyRecord) *policy.Document {
	d, err := policy.ParseKeyPolicy([]byte(rec.Policy))
	if err != nil {
		return denial
	}
	return d
}

// denial is a key policy that denies everything to everybody.
var denial = func() *policy.Document {
	d, err := policy.ParseKeyPolicy([]byte(`{"Statement":{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}}`))
	if err != nil {
		panic(err) // the text is a constant
	}
	return d
}()

// mayUpdate refuses a key policy, or the first one of a key, after which its author could not
// change it again.
func (c *call) mayUpdate(rec *keyRecord, bypass bool) error {
	if bypass {
		return nil
	}
	c.put(question{
		permission: "kms:PutKeyPolicy", resource: rec.arn(), region: rec.Region,
		key: &keyEntry{keyRecord: *rec, ARN: rec.arn()}, toBeMade: c.op.Name != "PutKeyPolicy",
	})
	in := c.caller.Inputs()
	in.Owner, in.Resource = rec.Account, compiled(rec)
	if policy.Decide(&in, c.request()).Decision != policy.Allow {
		return kmsapi.Errorf(kmsapi.MalformedPolicyDocument, "The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

// policyOr is the policy that was given for a key in a Region, or else the default one.
func (c *call) policyOr(document, region string) (string, error) {
	if document == "" {
		return defaultPolicy(region, c.caller.Account), nil
	}
	return document, c.s.checkPolicy(document)
}

// defaultPolicy lets the IAM policies of the account decide.
func defaultPolicy(region, account string) string {
	return fmt.Sprintf(`{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:%s:iam::%s:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`, kmsapi.PartitionOf(region), account)
}

func checkPolicyName(name string) error {
	if name != "" && name != policyName {
		return kmsapi.Errorf(kmsapi.NotFound, "No such policy exists: a key has one policy, named %s.", policyName)
	}
	return nil
}

func (c *call) getKeyPolicy(_ context.Context, in *kmsapi.GetKeyPolicyRequest) (*kmsapi.GetKeyPolicyResponse, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	if err := checkPolicyName(in.PolicyName); err != nil {
		return nil, err
	}
	return &kmsapi.GetKeyPolicyResponse{Policy: k.Policy, PolicyName: policyName}, nil
}

func (c *call) putKeyPolicy(ctx context.Context, in *kmsapi.PutKeyPolicyRequest) (*kmsapi.Empty, error) {
	_, err := c.change(ctx, in.KeyID, func(k *keyRecord) error {
		if err := checkPolicyName(in.PolicyName); err != nil {
			return err
		}
		if err := c.s.checkPolicy(in.Policy); err != nil {
			return err
		}
		k.Policy = in.Policy
		return c.mayUpdate(k, in.BypassPolicyLockoutSafetyCheck)
	})
	return none, err
}

// listKeyPolicies lists the one policy that every key has, whatever the page.
func (c *call) listKeyPolicies(_ context.Context, in *kmsapi.ListKeyPoliciesRequest) (*kmsapi.ListKeyPoliciesResponse, error) {
	if _, err := c.manage(in.KeyID); err != nil {
		return nil, err
	}
	if in.Marker != "" {
		return nil, invalidMarker()
	}
	return &kmsapi.ListKeyPoliciesResponse{PolicyNames: []string{policyName}}, nil
}
