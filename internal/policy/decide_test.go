package policy_test

import (
	"testing"

	"kastellan.dev/internal/policy"
)

// The outcomes of a decision.
var (
	allowedByIdentity = policy.Outcome{Decision: policy.Allow, By: policy.FromIdentity}
	allowedByResource = policy.Outcome{Decision: policy.Allow, By: policy.FromResource}
	allowedByGrant    = policy.Outcome{Decision: policy.Allow, By: policy.FromGrant}
	noIdentity        = policy.Outcome{By: policy.FromIdentity}
	noResource        = policy.Outcome{By: policy.FromResource}
	noBoundary        = policy.Outcome{By: policy.FromBoundary}
	noSession         = policy.Outcome{By: policy.FromSession}
	deniedByIdentity  = policy.Outcome{Decision: policy.ExplicitDeny, By: policy.FromIdentity}
	deniedByResource  = policy.Outcome{Decision: policy.ExplicitDeny, By: policy.FromResource}
	deniedByBoundary  = policy.Outcome{Decision: policy.ExplicitDeny, By: policy.FromBoundary}
	deniedBySession   = policy.Outcome{Decision: policy.ExplicitDeny, By: policy.FromSession}
)

// decision is one row of a table: the statements of each policy, and what they come to.
type decision struct {
	subject           *policy.Subject
	resource          string // of the key's policy; empty: the resource has none
	identity          string
	boundary, session string // empty: there is none
	granted           bool
	want              policy.Outcome
}

func (d *decision) decide(t *testing.T) policy.Outcome {
	t.Helper()
	in := policy.Inputs{Owner: owner}
	if d.resource != "" {
		in.Resource = must(t, policy.ParseKeyPolicy, d.resource)
	}
	if d.identity != "" {
		in.Identity = identityPolicies(t, d.identity)
	}
	if d.boundary != "" {
		in.Boundary = must(t, policy.ParseIdentity, d.boundary)
	}
	if d.session != "" {
		in.Session = []*policy.Document{must(t, policy.ParseSession, d.session)}
	}
	if d.granted {
		in.Grant = func() bool { return true }
	}
	return policy.Decide(&in, encrypt(d.subject))
}

func runDecisions(t *testing.T, tests map[string]decision) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.decide(t); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestDecideWithinOneAccount(t *testing.T) {
	t.Parallel()
	toAlice, toAccount, toRole := allowing(aws(alice.ARN)), allowing(aws(owner)), allowing(aws(roleARN))
	toSession, toAll := allowing(aws(auditor.ARN)), allowing(`"*"`)
	runDecisions(t, map[string]decision{
		"nothing allows without a policy of the resource":           {subject: alice, want: noIdentity},
		"identity decides alone without a policy of the resource":   {subject: alice, identity: allowEncrypt, want: allowedByIdentity},
		"identity is not enough with a policy of the resource":      {subject: alice, resource: toRole, identity: allowAll, want: noResource},
		"the resource is enough for a user whom it names":           {subject: alice, resource: toAlice, want: allowedByResource},
		"what is for one user is not for another":                   {subject: bob, resource: toAlice, identity: allowAll, want: noResource},
		"the account delegates to identity policies":                {subject: alice, resource: toAccount, identity: allowEncrypt, want: allowedByIdentity},
		"the account's root delegates as its id does":               {subject: alice, resource: allowing(aws(root.ARN)), identity: allowEncrypt, want: allowedByIdentity},
		"delegated is not allowed":                                  {subject: alice, resource: toAccount, want: noIdentity},
		"delegated is not allowed by another action":                {subject: alice, resource: toAccount, identity: allowDecrypt, want: noIdentity},
		"root needs no identity policy where the account is named":  {subject: root, resource: toAccount, want: allowedByIdentity},
		"root has nothing where only a user is named":               {subject: root, resource: toAlice, want: noResource},
		"everybody is allowed directly":                             {subject: alice, resource: toAll, want: allowedByResource},
		"a star in AWS is everybody too":                            {subject: alice, resource: allowing(`{"AWS":"*"}`), want: allowedByResource},
		"a role's ARN with its path is for its sessions":            {subject: auditor, resource: toRole, want: allowedByResource},
		"a role's ARN without its path is another role":             {subject: auditor, resource: allowing(aws("arn:aws:iam::" + owner + ":role/Auditor")), want: noResource},
		"a session is named by itself":                              {subject: auditor, resource: toSession, want: allowedByResource},
		"a session of another name is another":                      {subject: auditor, resource: allowing(aws("arn:aws:sts::" + owner + ":assumed-role/Auditor/s2")), want: noResource},
		"a federated user is named by itself":                       {subject: fed, resource: allowing(aws(fed.ARN)), want: allowedByResource},
		"unique ids are nobody":                                     {subject: alice, resource: allowing(aws("AIDACKCEVSQ6C2EXAMPLE")), identity: allowAll, want: noResource},
		"a canonical user is nobody":                                {subject: alice, resource: allowing(`{"CanonicalUser":"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"}`), want: noResource},
		"one of several principals":                                 {subject: alice, resource: allowing(aws(roleARN, alice.ARN)), want: allowedByResource},
		"direct is stronger than delegated in another statement":    {subject: alice, resource: toAccount + "," + toAlice, want: allowedByResource},
		"a boundary limits identity policies":                       {subject: alice, resource: toAccount, identity: allowAll, boundary: allowDecrypt, want: noBoundary},
		"a boundary does not allow":                                 {subject: alice, resource: toAccount, boundary: allowAll, want: noIdentity},
		"a boundary that allows changes nothing":                    {subject: alice, resource: toAccount, identity: allowAll, boundary: allowEncrypt, want: allowedByIdentity},
		"a boundary does not limit what a user is allowed directly": {subject: alice, resource: toAlice, boundary: allowDecrypt, want: allowedByResource},
		"a boundary limits what a role is allowed":                  {subject: auditor, resource: toRole, boundary: allowDecrypt, want: noBoundary},
		"a session policy limits what a role is allowed":            {subject: auditor, resource: toRole, session: allowDecrypt, want: noSession},
		"a session policy that allows lets the role's allow pass":   {subject: auditor, resource: toRole, session: allowEncrypt, want: allowedByResource},
		"a session policy does not limit a session that is named":   {subject: auditor, resource: toSession, session: allowDecrypt, boundary: allowDecrypt, want: allowedByResource},
		"nor what everybody is allowed":                             {subject: auditor, resource: toAll, session: allowDecrypt, boundary: allowDecrypt, want: allowedByResource},
		"a session policy limits identity policies":                 {subject: auditor, resource: toAccount, identity: allowAll, session: allowDecrypt, want: noSession},
		"a session policy does not allow":                           {subject: auditor, resource: toAccount, session: allowAll, want: noIdentity},
		"a boundary is told before a session policy":                {subject: auditor, resource: toAccount, identity: allowAll, boundary: allowDecrypt, session: allowDecrypt, want: noBoundary},
	})
}

func TestAnExplicitDenyWins(t *testing.T) {
	t.Parallel()
	toAlice := allowing(aws(alice.ARN))
	runDecisions(t, map[string]decision{
		"in an identity policy over a direct allow": {subject: alice, resource: toAlice, identity: denyEncrypt, want: deniedByIdentity},
		"in a boundary": {subject: alice, resource: toAlice, identity: allowAll, boundary: allowAll + "," + denyEncrypt, want: deniedByBoundary},
		"in a session policy over a session that is named": {subject: auditor, resource: allowing(aws(auditor.ARN)), session: denyEncrypt, want: deniedBySession},
		"of the resource to a user":                        {subject: alice, resource: toAlice + "," + denying(aws(alice.ARN)), identity: allowAll, want: deniedByResource},
		"of the resource before its allow":                 {subject: alice, resource: denying(`"*"`) + "," + toAlice, want: deniedByResource},
		"of the resource, which is told first":             {subject: alice, resource: denying(`"*"`), identity: denyEncrypt, want: deniedByResource},
		"to the account, for everybody in it":              {subject: alice, resource: toAlice + "," + denying(aws(owner)), want: deniedByResource},
		"to the account, for its root":                     {subject: root, resource: allowing(aws(owner)) + "," + denying(aws(root.ARN)), want: deniedByResource},
		"to the account, for sessions of its roles":        {subject: auditor, resource: allowing(aws(roleARN)) + "," + denying(aws(owner)), want: deniedByResource},
		"to a role, for its sessions":                      {subject: auditor, resource: allowing(aws(auditor.ARN)) + "," + denying(aws(roleARN)), want: deniedByResource},
		"to everybody, for services":                       {subject: service, resource: allowing(`{"Service":"logs.amazonaws.com"}`) + "," + denying(`"*"`), want: deniedByResource},
		"over a grant":                                     {subject: alice, resource: denying(aws(alice.ARN)), granted: true, want: deniedByResource},
		"of somebody else does not matter":                 {subject: alice, resource: toAlice + "," + denying(aws(bob.ARN)), want: allowedByResource},
		"of another account does not matter":               {subject: alice, resource: toAlice + "," + denying(aws(other)), want: allowedByResource},
		"of another action does not matter":                {subject: alice, resource: toAlice, identity: `{"Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}`, want: allowedByResource},
	})
}

func TestDecideAcrossAccounts(t *testing.T) {
	t.Parallel()
	runDecisions(t, map[string]decision{
		"both sides allow, the account":                       {subject: stranger, resource: allowing(aws(other)), identity: allowAll, want: allowedByIdentity},
		"both sides allow, the user":                          {subject: stranger, resource: allowing(aws(stranger.ARN)), identity: allowAll, want: allowedByIdentity},
		"both sides allow, everybody":                         {subject: stranger, resource: allowing(`"*"`), identity: allowAll, want: allowedByIdentity},
		"both sides allow, the role":                          {subject: farRole, resource: allowing(aws(farRole.Role)), identity: allowAll, want: allowedByIdentity},
		"both sides allow, the session":                       {subject: farRole, resource: allowing(aws(farRole.ARN)), identity: allowAll, want: allowedByIdentity},
		"the resource's policy alone is not enough":           {subject: stranger, resource: allowing(aws(stranger.ARN)), want: noIdentity},
		"everybody is not enough":                             {subject: stranger, resource: allowing(`"*"`), want: noIdentity},
		"identity alone is not enough":                        {subject: stranger, resource: allowing(aws(owner)), identity: allowAll, want: noResource},
		"without a policy of the resource nobody else is let": {subject: stranger, identity: allowAll, want: noResource},
		"nor is root of another account":                      {subject: farRoot, want: noResource},
		"root of a named account needs no identity policy":    {subject: farRoot, resource: allowing(aws(other)), want: allowedByIdentity},
		"the boundary limits":                                 {subject: stranger, resource: allowing(aws(stranger.ARN)), identity: allowAll, boundary: allowDecrypt, want: noBoundary},
		"the session policy limits even a session by name":    {subject: farRole, resource: allowing(aws(farRole.ARN)), identity: allowAll, session: allowDecrypt, want: noSession},
	})
}

func TestServicesAndProvidersMustBeNamed(t *testing.T) {
	t.Parallel()
	runDecisions(t, map[string]decision{
		"a service that is named":                   {subject: service, resource: allowing(`{"Service":"logs.amazonaws.com"}`), want: allowedByResource},
		"another service":                           {subject: service, resource: allowing(`{"Service":"s3.amazonaws.com"}`), want: noResource},
		"everybody is not a service":                {subject: service, resource: allowing(`"*"`), want: noResource},
		"no policy names no service":                {subject: service, identity: allowAll, want: noResource},
		"a provider that is named":                  {subject: provider, resource: allowing(`{"Federated":"` + provider.Provider + `"}`), want: allowedByResource},
		"another provider":                          {subject: provider, resource: allowing(`{"Federated":"accounts.google.com"}`), want: noResource},
		"everybody is not a provider":               {subject: provider, resource: allowing(`{"AWS":"*"}`), want: noResource},
		"a service that a NotPrincipal leaves out":  {subject: service, resource: allowing(`{"Service":"logs.amazonaws.com"}`) + `,{"Effect":"Deny","NotPrincipal":{"Service":"logs.amazonaws.com"},"Action":"*","Resource":"*"}`, want: allowedByResource},
		"a service that a NotPrincipal does not":    {subject: service, resource: allowing(`{"Service":"logs.amazonaws.com"}`) + `,{"Effect":"Deny","NotPrincipal":{"AWS":"` + owner + `"},"Action":"*","Resource":"*"}`, want: deniedByResource},
		"a service to which something was granted":  {subject: service, resource: allowing(aws(owner)), granted: true, want: allowedByGrant},
		"a subject that is nobody is not everybody": {subject: &policy.Subject{}, resource: allowing(`"*"`), want: noResource},
	})
}

func TestAGrantIsAskedLast(t *testing.T) {
	t.Parallel()
	runDecisions(t, map[string]decision{
		"a grant allows by itself":                          {subject: alice, resource: allowing(aws(bob.ARN)), granted: true, want: allowedByGrant},
		"a grant allows across accounts":                    {subject: stranger, resource: allowing(aws(owner)), granted: true, want: allowedByGrant},
		"a grant is not needed where a policy allows":       {subject: alice, resource: allowing(aws(alice.ARN)), granted: true, want: allowedByResource},
		"a boundary limits a grant":                         {subject: alice, resource: allowing(aws(bob.ARN)), boundary: allowDecrypt, granted: true, want: noBoundary},
		"a boundary that allows lets it pass":               {subject: alice, resource: allowing(aws(bob.ARN)), boundary: allowEncrypt, granted: true, want: allowedByGrant},
		"a session policy limits a grant":                   {subject: auditor, resource: allowing(aws(bob.ARN)), session: allowDecrypt, granted: true, want: noSession},
		"an explicit deny of the subject wins over a grant": {subject: alice, resource: allowing(aws(bob.ARN)), identity: denyEncrypt, granted: true, want: deniedByIdentity},
	})
	in := policy.Inputs{Resource: must(t, policy.ParseKeyPolicy, allowing(aws(alice.ARN))), Owner: owner, Grant: func() bool {
		t.Error("a grant is asked for though the policy allows")
		return false
	}}
	policy.Decide(&in, encrypt(alice))
	in.Grant = func() bool { return false }
	if got := policy.Decide(&in, encrypt(bob)); got != noResource {
		t.Errorf("without a grant: %+v", got)
	}
}

func TestNotPrincipalLeavesOutOnlyWhomItNamesInFull(t *testing.T) {
	t.Parallel()
	except := func(principal string) string {
		return allowing(`"*"`) + `,{"Effect":"Deny","NotPrincipal":` + principal + `,"Action":"kms:*","Resource":"*"}`
	}
	runDecisions(t, map[string]decision{
		"a user and its account":                 {subject: alice, resource: except(aws(alice.ARN, owner)), want: allowedByResource},
		"a user and its account's root":          {subject: alice, resource: except(aws(alice.ARN, root.ARN)), want: allowedByResource},
		"a user without its account":             {subject: alice, resource: except(aws(alice.ARN)), want: deniedByResource},
		"an account without the user":            {subject: alice, resource: except(aws(owner)), want: deniedByResource},
		"an account for its root":                {subject: root, resource: except(aws(owner)), want: allowedByResource},
		"a session, its role and its account":    {subject: auditor, resource: except(aws(auditor.ARN, roleARN, owner)), want: allowedByResource},
		"a role and its account without session": {subject: auditor, resource: except(aws(roleARN, owner)), want: deniedByResource},
		"a session and its account without role": {subject: auditor, resource: except(aws(auditor.ARN, owner)), want: deniedByResource},
		"nobody who has a permissions boundary":  {subject: alice, resource: except(aws(alice.ARN, owner)), boundary: allowAll, want: deniedByResource},
		"nor everybody":                          {subject: alice, resource: except(`"*"`), boundary: allowAll, want: deniedByResource},
		"everybody":                              {subject: alice, resource: except(`"*"`), want: allowedByResource},
		"somebody else":                          {subject: bob, resource: except(aws(alice.ARN, owner)), want: deniedByResource},
	})
}

func TestIdentityAllows(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		subject                     *policy.Subject
		identity, boundary, session string
		want                        policy.Decision
	}{
		"nothing allows nothing":           {subject: alice, want: policy.ImplicitDeny},
		"a policy allows":                  {subject: alice, identity: allowEncrypt, want: policy.Allow},
		"a policy denies":                  {subject: alice, identity: allowAll + "," + denyEncrypt, want: policy.ExplicitDeny},
		"a boundary limits":                {subject: alice, identity: allowAll, boundary: allowDecrypt, want: policy.ImplicitDeny},
		"a boundary denies":                {subject: alice, identity: allowAll, boundary: denyEncrypt, want: policy.ExplicitDeny},
		"a session policy limits":          {subject: auditor, identity: allowAll, session: allowDecrypt, want: policy.ImplicitDeny},
		"a session policy denies":          {subject: auditor, session: denyEncrypt, want: policy.ExplicitDeny},
		"all of them allow":                {subject: auditor, identity: allowAll, boundary: allowAll, session: allowEncrypt, want: policy.Allow},
		"root may do everything":           {subject: root, want: policy.Allow},
		"root of another account may too":  {subject: farRoot, want: policy.Allow},
		"a service has no policies":        {subject: service, want: policy.ImplicitDeny},
		"a provider's client has none yet": {subject: provider, want: policy.ImplicitDeny},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := policy.Inputs{}
			if test.identity != "" {
				in.Identity = identityPolicies(t, test.identity)
			}
			if test.boundary != "" {
				in.Boundary = must(t, policy.ParseIdentity, test.boundary)
			}
			if test.session != "" {
				in.Session = identityPolicies(t, test.session)
			}
			if got := policy.IdentityAllows(&in, encrypt(test.subject)); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestAnEmptySessionPolicyAllowsNothing(t *testing.T) {
	t.Parallel()
	in := policy.Inputs{Identity: identityPolicies(t, allowAll), Session: []*policy.Document{{}}}
	if got := policy.IdentityAllows(&in, encrypt(fed)); got != policy.ImplicitDeny {
		t.Errorf("got %v", got)
	}
	in.Session = append(in.Session, identityPolicies(t, allowEncrypt)...)
	if got := policy.IdentityAllows(&in, encrypt(fed)); got != policy.Allow {
		t.Errorf("with another that allows: %v", got)
	}
}

func TestTheZeroDecisionDenies(t *testing.T) {
	t.Parallel()
	var d policy.Decision
	if d != policy.ImplicitDeny || d.String() != "ImplicitDeny" || policy.Allow.String() != "Allow" || policy.ExplicitDeny.String() != "ExplicitDeny" {
		t.Error("decisions are misnamed")
	}
}
