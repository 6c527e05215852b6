package policy_test

import (
	"testing"

	"kastellan.dev/internal/policy"
)

// ask is one request, and what it comes to by the example above it.
type ask struct {
	subject *policy.Subject
	action  string
	values  values
	want    policy.Outcome
}

// Key policies as people write them for AWS KMS, and what they are for.
func TestExamplesOfKeyPolicies(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		policy, identity string
		asks             map[string]ask
	}{
		"the default policy leaves everything to IAM": {
			policy:   `{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}`,
			identity: `{"Effect":"Allow","Action":["kms:Encrypt","kms:GenerateDataKey*"],"Resource":"arn:aws:kms:eu-central-1:111122223333:key/*"}`,
			asks: map[string]ask{
				"which allows some actions":       {alice, "kms:GenerateDataKeyWithoutPlaintext", nil, allowedByIdentity},
				"and no others":                   {alice, "kms:Decrypt", nil, noIdentity},
				"while root may do everything":    {root, "kms:PutKeyPolicy", nil, allowedByIdentity},
				"and other accounts have no part": {stranger, "kms:Encrypt", nil, noResource},
				"not even their root":             {farRoot, "kms:Encrypt", nil, noResource},
			},
		},
		"administrators, users and services that users make grants for": {
			policy: `{"Sid":"Allow access for Key Administrators","Effect":"Allow","Principal":{"AWS":"` + alice.ARN + `"},
				"Action":["kms:Create*","kms:Describe*","kms:Enable*","kms:Put*","kms:TagResource","kms:ScheduleKeyDeletion"],"Resource":"*"},
				{"Sid":"Allow use of the key","Effect":"Allow","Principal":{"AWS":"` + roleARN + `"},
				"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:DescribeKey"],"Resource":"*"},
				{"Sid":"Allow attachment of persistent resources","Effect":"Allow","Principal":{"AWS":"` + roleARN + `"},
				"Action":["kms:CreateGrant","kms:ListGrants","kms:RevokeGrant"],"Resource":"*","Condition":{"Bool":{"kms:GrantIsForAWSResource":"true"}}}`,
			asks: map[string]ask{
				"an administrator manages":             {alice, "kms:PutKeyPolicy", nil, allowedByResource},
				"but does not use":                     {alice, "kms:Decrypt", nil, noResource},
				"a user uses both halves of ReEncrypt": {auditor, "kms:ReEncryptTo", nil, allowedByResource},
				"a user makes no grants":               {auditor, "kms:CreateGrant", values{"kms:grantisforawsresource": {"false"}}, noResource},
				"unless a service asks for them":       {auditor, "kms:CreateGrant", values{"kms:grantisforawsresource": {"true"}}, allowedByResource},
				"root has lost its key":                {root, "kms:PutKeyPolicy", nil, noResource},
			},
		},
		"another account may use the key": {
			policy:   `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*"}`,
			identity: `{"Effect":"Allow","Action":"kms:Encrypt","Resource":"` + keyARN + `"}`,
			asks: map[string]ask{
				"where its IAM policies say so": {stranger, "kms:Encrypt", nil, allowedByIdentity},
				"not where they do not":         {stranger, "kms:Decrypt", nil, noIdentity},
				"nor beyond the key policy":     {farRoot, "kms:DescribeKey", nil, noResource},
			},
		},
		"everybody of an account, by way of one service": {
			policy: `{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["kms:Decrypt","kms:GenerateDataKey*"],"Resource":"*",
				"Condition":{"StringEquals":{"kms:CallerAccount":"111122223333","kms:ViaService":"s3.eu-central-1.amazonaws.com"}}}`,
			asks: map[string]ask{
				"through the service":     {bob, "kms:Decrypt", values{"kms:calleraccount": {owner}, "kms:viaservice": {"s3.eu-central-1.amazonaws.com"}}, allowedByResource},
				"through another service": {bob, "kms:Decrypt", values{"kms:calleraccount": {owner}, "kms:viaservice": {"ebs.eu-central-1.amazonaws.com"}}, noResource},
				"directly":                {bob, "kms:Decrypt", values{"kms:calleraccount": {owner}}, noResource},
				"from another account":    {stranger, "kms:Decrypt", values{"kms:calleraccount": {other}, "kms:viaservice": {"s3.eu-central-1.amazonaws.com"}}, noResource},
			},
		},
		"only with an encryption context": {
			policy: allowing(aws(roleARN)) + `,{"Effect":"Deny","Principal":"*","Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*",
				"Condition":{"Null":{"kms:EncryptionContext:Department":"true"}}},
				{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"ForAnyValue:StringNotEquals":{"kms:EncryptionContextKeys":["Department","Project"]}}}`,
			asks: map[string]ask{
				"it has":                   {auditor, "kms:Encrypt", values{"kms:encryptioncontext:department": {"HR"}, "kms:encryptioncontextkeys": {"Department"}}, allowedByResource},
				"it does not have":         {auditor, "kms:Encrypt", nil, deniedByResource},
				"it has with another name": {auditor, "kms:Encrypt", values{"kms:encryptioncontext:department": {"HR"}, "kms:encryptioncontextkeys": {"Department", "Salary"}}, deniedByResource},
				"other actions have none":  {auditor, "kms:DescribeKey", nil, allowedByResource},
			},
		},
		"an enclave by its measurements": {
			policy: `{"Effect":"Allow","Principal":{"AWS":"` + roleARN + `"},"Action":"kms:Decrypt","Resource":"*",
				"Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"9FEDCBA8ABCDEF7ABCDEF6ABCDEF5ABCDEF4ABCDEF3ABCDEF2ABCDEF1ABCDEF1ABCDEF0ABCDEF1ABCDEFEXAMPLE"}}}`,
			asks: map[string]ask{
				"with the right image":   {auditor, "kms:Decrypt", values{"kms:recipientattestation:imagesha384": {"9fedcba8abcdef7abcdef6abcdef5abcdef4abcdef3abcdef2abcdef1abcdef1abcdef0abcdef1abcdefexample"}}, allowedByResource},
				"with another":           {auditor, "kms:Decrypt", values{"kms:recipientattestation:imagesha384": {"00"}}, noResource},
				"without an attestation": {auditor, "kms:Decrypt", nil, noResource},
			},
		},
		"what may be granted": {
			policy: `{"Effect":"Allow","Principal":{"AWS":"` + roleARN + `"},"Action":"kms:CreateGrant","Resource":"*",
				"Condition":{"ForAllValues:StringEquals":{"kms:GrantOperations":["Encrypt","Decrypt"]},"StringLike":{"kms:GranteePrincipal":"arn:aws:iam::111122223333:role/*"}}}`,
			asks: map[string]ask{
				"some of the operations":     {auditor, "kms:CreateGrant", values{"kms:grantoperations": {"Decrypt"}, "kms:granteeprincipal": {roleARN}}, allowedByResource},
				"one that is not among them": {auditor, "kms:CreateGrant", values{"kms:grantoperations": {"Decrypt", "Sign"}, "kms:granteeprincipal": {roleARN}}, noResource},
				"to somebody else":           {auditor, "kms:CreateGrant", values{"kms:grantoperations": {"Decrypt"}, "kms:granteeprincipal": {alice.ARN}}, noResource},
			},
		},
		"key material that expires, and limits of time and place": {
			policy: `{"Effect":"Allow","Principal":"*","Action":"kms:ImportKeyMaterial","Resource":"*","Condition":{"NumericLessThanEquals":{"kms:ValidTo":"1767225599"},"StringEquals":{"kms:ExpirationModel":"KEY_MATERIAL_EXPIRES"}}},
				{"Effect":"Allow","Principal":"*","Action":"kms:ScheduleKeyDeletion","Resource":"*","Condition":{"NumericGreaterThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"30"}}},
				{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":["192.0.2.0/24","2001:db8:1234::/48"]},"Bool":{"aws:ViaAWSService":"false"}}}`,
			asks: map[string]ask{
				"before the end":          {bob, "kms:ImportKeyMaterial", values{"kms:validto": {"1767225599"}, "kms:expirationmodel": {"KEY_MATERIAL_EXPIRES"}, "aws:sourceip": {"192.0.2.1"}}, allowedByResource},
				"after it":                {bob, "kms:ImportKeyMaterial", values{"kms:validto": {"1767225600"}, "kms:expirationmodel": {"KEY_MATERIAL_EXPIRES"}}, noResource},
				"with a window of thirty": {bob, "kms:ScheduleKeyDeletion", values{"kms:schedulekeydeletionpendingwindowindays": {"30"}}, allowedByResource},
				"with a shorter one":      {bob, "kms:ScheduleKeyDeletion", values{"kms:schedulekeydeletionpendingwindowindays": {"7"}}, noResource},
				"from elsewhere":          {bob, "kms:ScheduleKeyDeletion", values{"kms:schedulekeydeletionpendingwindowindays": {"30"}, "aws:sourceip": {"198.51.100.1"}, "aws:viaawsservice": {"false"}}, deniedByResource},
			},
		},
		"IAM policies by aliases and tags": {
			policy: allowing(aws(owner)),
			identity: `{"Effect":"Allow","Action":"kms:Encrypt","Resource":"arn:aws:kms:*:111122223333:key/*","Condition":{"ForAnyValue:StringLike":{"kms:ResourceAliases":"alias/project-*"}}},
				{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}},
				{"Effect":"Allow","Action":"kms:Sign","Resource":"*","Condition":{"StringEquals":{"kms:RequestAlias":"alias/${aws:username}"}}}`,
			asks: map[string]ask{
				"one alias of several":     {alice, "kms:Encrypt", values{"kms:resourcealiases": {"alias/x", "alias/project-a"}}, allowedByIdentity},
				"no such alias":            {alice, "kms:Encrypt", values{"kms:resourcealiases": {"alias/x"}}, noIdentity},
				"no alias at all":          {alice, "kms:Encrypt", values{"kms:resourcealiases": {}}, noIdentity},
				"the same tag":             {alice, "kms:Decrypt", values{"aws:resourcetag/team": {"red"}, "aws:principaltag/team": {"red"}}, allowedByIdentity},
				"another tag":              {alice, "kms:Decrypt", values{"aws:resourcetag/team": {"red"}, "aws:principaltag/team": {"blue"}}, noIdentity},
				"a tag of the key only":    {alice, "kms:Decrypt", values{"aws:resourcetag/team": {"red"}}, noIdentity},
				"the alias that is theirs": {alice, "kms:Sign", values{"kms:requestalias": {"alias/alice"}, "aws:username": {"alice"}}, allowedByIdentity},
				"a key by its id":          {alice, "kms:Sign", values{"aws:username": {"alice"}}, noIdentity},
			},
		},
	}
	for name, test := range tests {
		in := policy.Inputs{Owner: owner, Resource: must(t, policy.ParseKeyPolicy, test.policy)}
		if test.identity != "" {
			in.Identity = identityPolicies(t, test.identity)
		}
		for about, a := range test.asks {
			t.Run(name+": "+about, func(t *testing.T) {
				t.Parallel()
				r := policy.Request{Subject: a.subject, Action: a.action, Resource: keyARN, Values: a.values}
				if got := policy.Decide(&in, &r); got != a.want {
					t.Errorf("got %+v, want %+v", got, a.want)
				}
			})
		}
	}
}
