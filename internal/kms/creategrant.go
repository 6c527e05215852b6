package kms

import (
	"context"
	"slices"
	"unicode/utf8"

	"kastellan.dev/internal/blob"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// grantStates is the row of CreateGrant in the matrix of key states. It makes
// grants on keys whose custom key store is not connected.
var grantStates = refusals{
	kmsapi.StateDisabled:               kmsapi.Disabled,
	kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
	kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
	kmsapi.StatePendingImport:          kmsapi.KMSInvalidState,
	kmsapi.StateCreating:               kmsapi.KMSInvalidState,
}

// Limits of the constraints of a grant.
const (
	maxConstraintPairs = 8
	maxConstraintValue = 384  // characters
	maxSourceARN       = 2048 // bytes
)

// shownGrant is what the audit record shows of a new grant, as AWS's does: the
// key too, and never the token.
type shownGrant struct {
	GrantID string `aws:"GrantId"`
	KeyID   string `aws:"KeyId"`
}

func (c *call) createGrant(ctx context.Context, in *kmsapi.CreateGrantRequest) (*kmsapi.CreateGrantResponse, error) {
	if err := c.checkGrantTokens(ctx, in.GrantTokens); err != nil {
		return nil, err
	}
	if err := checkConstraintSizes(in.Constraints); err != nil {
		return nil, err
	}
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	rec, err := c.newGrant(k, in)
	if err != nil {
		return nil, err
	}
	fresh := rec.ID
	err = c.s.update(ctx, func(tx store.Tx) error {
		rec.ID = fresh
		return c.addGrant(tx, k, rec, in.DryRun)
	})
	if err != nil {
		return nil, err
	}
	token, err := c.s.grantToken(rec)
	if err != nil {
		return nil, err
	}
	c.shown = shownGrant{GrantID: rec.ID, KeyID: k.ARN}
	return &kmsapi.CreateGrantResponse{GrantID: rec.ID, GrantToken: token}, nil
}

// newGrant makes the record of the grant that was asked for.
func (c *call) newGrant(k *keyEntry, in *kmsapi.CreateGrantRequest) (*grantRecord, error) {
	if err := c.checkGrantPrincipals(in); err != nil {
		return nil, err
	}
	operations, err := checkGrantOperations(in.Operations, k)
	if err != nil {
		return nil, err
	}
	constraints, err := checkConstraints(in.Constraints, k)
	if err != nil {
		return nil, err
	}
	if in.GranteeServicePrincipal != "" && (constraints == nil || constraints.SourceArn == "") {
		return nil, invalid("A grant to a service principal must have a SourceArn constraint.")
	}
	return &grantRecord{
		ID: randomHex(32), Account: k.Account, Region: k.Region, KeyID: k.ID, Created: c.s.now().UTC(), Name: in.Name,
		Grantee: in.GranteePrincipal, GranteeService: in.GranteeServicePrincipal,
		Retiring: in.RetiringPrincipal, RetiringService: in.RetiringServicePrincipal,
		Operations: operations, Constraints: constraints, IssuingAccount: c.caller.Account, Issuer: c.caller.ARN,
	}, nil
}

// addGrant stores a grant, unless there is one that is the same by name and
// everything else: then rec gets its id. The quota can be exceeded by the calls
// that run at one moment.
func (c *call) addGrant(tx store.Tx, k *keyEntry, rec *grantRecord, dry bool) error {
	if err := c.stillInState(tx, k); err != nil {
		return err
	}
	twin, err := rec.twin(tx)
	if err != nil {
		return err
	}
	if n := c.s.mirror.countGrants(k.Region, k.ID); twin == "" && n >= c.s.quotas.GrantsPerKey {
		return kmsapi.Errorf(kmsapi.LimitExceeded, "%s has %d grants, which is the limit.", k.ARN, n)
	}
	if dry {
		return dryRun()
	}
	if twin != "" {
		rec.ID = twin
		return nil
	}
	return rec.put(tx)
}

// stillInState tells whether a key is there, and both its policy and its state still allow the
// operation at the moment of a change.
func (c *call) stillInState(r store.Reader, k *keyEntry) error {
	rec, err := load[keyRecord](r, k.path())
	if err != nil {
		return err
	}
	if rec == nil {
		return keyNotFound(k.ARN)
	}
	now, err := c.nowOf(k, rec)
	if err != nil {
		return err
	}
	return c.inState(now)
}

// checkGrantPrincipals admits one grantee and at most one retiring principal.
func (c *call) checkGrantPrincipals(in *kmsapi.CreateGrantRequest) error {
	switch {
	case (in.GranteePrincipal == "") == (in.GranteeServicePrincipal == ""):
		return invalid("Specify either GranteePrincipal or GranteeServicePrincipal, but not both.")
	case in.RetiringPrincipal != "" && in.RetiringServicePrincipal != "":
		return invalid("Specify either RetiringPrincipal or RetiringServicePrincipal, but not both.")
	case in.GranteeServicePrincipal != "" && in.RetiringPrincipal == "" && in.RetiringServicePrincipal == "":
		return invalid("A grant to a service principal must have a RetiringPrincipal or a RetiringServicePrincipal.")
	}
	for _, arn := range []string{in.GranteePrincipal, in.RetiringPrincipal} {
		if arn == "" {
			continue
		}
		if err := c.checkPrincipal(arn); err != nil {
			return err
		}
	}
	for _, name := range []string{in.GranteeServicePrincipal, in.RetiringServicePrincipal} {
		if name != "" && !isServicePrincipal(name) {
			return invalid("%s is not the name of a service principal.", name)
		}
	}
	return nil
}

// checkGrantOperations admits operations that the key can do, and gives each once.
func checkGrantOperations(asked []kmsapi.GrantOperation, k *keyEntry) ([]kmsapi.GrantOperation, error) {
	if len(asked) == 0 {
		return nil, invalid("Operations must name at least one operation.")
	}
	possible := grantOperations(k.Spec, k.Usage)
	var out []kmsapi.GrantOperation
	for _, op := range asked {
		if !slices.Contains(possible, op) {
			return nil, invalid("The operation %s cannot be granted on a key with KeySpec %s and KeyUsage %s.", op, k.Spec, k.Usage)
		}
		if !slices.Contains(out, op) {
			out = append(out, op)
		}
	}
	return out, nil
}

// grantOperations are the operations that can be granted on a key.
func grantOperations(spec kmsapi.KeySpec, usage kmsapi.KeyUsageType) []kmsapi.GrantOperation {
	every := []kmsapi.GrantOperation{kmsapi.GrantCreateGrant, kmsapi.GrantDescribeKey, kmsapi.GrantRetireGrant}
	switch {
	case spec == kmsapi.SymmetricDefault:
		return append(every, kmsapi.GrantDecrypt, kmsapi.GrantEncrypt, kmsapi.GrantReEncryptFrom, kmsapi.GrantReEncryptTo,
			kmsapi.GrantGenerateDataKey, kmsapi.GrantGenerateDataKeyWithoutPlaintext,
			kmsapi.GrantGenerateDataKeyPair, kmsapi.GrantGenerateDataKeyPairWithoutPlaintext)
	case usage == kmsapi.GenerateVerifyMac:
		return append(every, kmsapi.GrantGenerateMac, kmsapi.GrantVerifyMac)
	case usage == kmsapi.EncryptDecrypt:
		every = append(every, kmsapi.GrantDecrypt, kmsapi.GrantEncrypt, kmsapi.GrantReEncryptFrom, kmsapi.GrantReEncryptTo)
	case usage == kmsapi.SignVerify:
		every = append(every, kmsapi.GrantSign, kmsapi.GrantVerify)
	case usage == kmsapi.KeyAgreement:
		every = append(every, kmsapi.GrantDeriveSharedSecret)
	case usage == kmsapi.EncapsulateDecapsulate:
		every = append(every, kmsapi.GrantEncapsulate, kmsapi.GrantDecapsulate)
	}
	return append(every, kmsapi.GrantGetPublicKey)
}

// checkConstraintSizes refuses constraints that are too long for any key. It comes before the
// decision: what patterns in policies are compared with must be short.
func checkConstraintSizes(in *kmsapi.GrantConstraints) error {
	switch {
	case in == nil:
		return nil
	case blob.ContextSize(in.EncryptionContextEquals) > blob.MaxContextSize:
		return tooLongConstraint("EncryptionContextEquals")
	case blob.ContextSize(in.EncryptionContextSubset) > blob.MaxContextSize:
		return tooLongConstraint("EncryptionContextSubset")
	case len(in.SourceArn) > maxSourceARN:
		return invalidSource()
	}
	return nil
}

func tooLongConstraint(member string) error {
	return invalid("%s is longer than an encryption context can be.", member)
}

func invalidSource() error {
	return invalid("SourceArn must be an ARN of at most %d bytes.", maxSourceARN)
}

// checkConstraints admits constraints that requests with the key can meet. It
// gives nil for what constrains nothing.
func checkConstraints(in *kmsapi.GrantConstraints, k *keyEntry) (*kmsapi.GrantConstraints, error) {
	if in == nil {
		return nil, nil
	}
	out := *in
	if out.EncryptionContextEquals != nil && len(out.EncryptionContextEquals) == 0 {
		return nil, invalid("EncryptionContextEquals must have at least one pair.") // it could mean an empty context, or any
	}
	if len(out.EncryptionContextSubset) == 0 {
		out.EncryptionContextSubset = nil // every context has it
	}
	if err := checkContextConstraint("EncryptionContextEquals", out.EncryptionContextEquals, k); err != nil {
		return nil, err
	}
	if err := checkContextConstraint("EncryptionContextSubset", out.EncryptionContextSubset, k); err != nil {
		return nil, err
	}
	if out.SourceArn != "" {
		if _, ok := kmsapi.ParseARN(out.SourceArn); !ok {
			return nil, invalidSource()
		}
	} else if len(out.EncryptionContextEquals)+len(out.EncryptionContextSubset) == 0 {
		return nil, nil
	}
	return &out, nil
}

func checkContextConstraint(member string, pairs map[string]string, k *keyEntry) error {
	switch {
	case len(pairs) == 0:
		return nil
	case k.Spec != kmsapi.SymmetricDefault:
		return invalid("%s is valid only for symmetric encryption keys.", member)
	case len(pairs) > maxConstraintPairs:
		return invalid("%s has %d pairs, the limit is %d.", member, len(pairs), maxConstraintPairs)
	}
	for _, value := range pairs {
		if utf8.RuneCountInString(value) > maxConstraintValue {
			return invalid("A value of %s is longer than %d characters.", member, maxConstraintValue)
		}
	}
	return nil
}
