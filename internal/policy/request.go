package policy

// Subject is who asks: what the Principal elements of policies are compared with.
type Subject struct {
	Account string // 12 digits; empty for services and for identities of a provider
	ARN     string // of the user, the account's root or the session
	Role    string // of a role's session: the role's ARN, with its path; else empty
	Root    bool   // the root user of the account
	Service string // the name of a service principal, or empty
	// Provider is the ARN of the identity provider that vouches for somebody who is not
	// a principal yet, as in AssumeRoleWithWebIdentity; else empty.
	Provider string
}

// Values are the condition keys that a request has.
type Values interface {
	// Lookup gives the values of a condition key, whose name is in lower case
	// ("kms:encryptioncontext:department"). A key that the request does not have is not ok;
	// one that has no values is ok and empty. Numbers, times and Booleans are given as policies
	// write them, bytes in base64. The slice is not changed, and is
	// not kept beyond the evaluation.
	Lookup(key string) (values []string, ok bool)
}

// Request is what policies are asked about.
type Request struct {
	Subject  *Subject
	Action   string // "kms:Encrypt"
	Resource string // an ARN, or "*" for actions that have no resource
	Values   Values // nil: the request has no condition keys
}
