package kms

import (
	"encoding/hex"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/nitro"
)

// resourceAccount is the account of the key; other resources are of the caller's account.
func (q *question) resourceAccount() ([]string, bool) { return some(q.owner()) }

func (q *question) owner() string {
	if q.key != nil {
		return q.key.Account
	}
	return q.call.caller.Account
}

func (q *question) resourceOrganization(which string) ([]string, bool) {
	return q.call.s.organization(q.owner()).Value(which)
}

// grantSource is the source that the grant that is to be made is for.
func (q *question) grantSource() ([]string, bool) {
	in, ok := q.call.in.(*kmsapi.CreateGrantRequest)
	if !ok || in.Constraints == nil {
		return nil, false
	}
	return some(in.Constraints.SourceArn)
}

// forService tells whether a service manages a grant on behalf of the caller.
func (q *question) forService() ([]string, bool) {
	switch operationOf(q.permission) {
	case "CreateGrant", "ListGrants", "RevokeGrant":
		return yesOrNo(q.call.caller.ViaService != "")
	default:
		return nil, false
	}
}

// folded gives the values of all keys of m that differ from name in case only.
func folded(m map[string]string, name string) (values []string, ok bool) {
	for key, value := range m {
		if strings.EqualFold(key, name) {
			values = append(values, value)
		}
	}
	return values, len(values) > 0
}

func tagValue(tags []kmsapi.Tag, name string) (values []string, ok bool) {
	for _, tag := range tags {
		if strings.EqualFold(tag.TagKey, name) {
			values = append(values, tag.TagValue)
		}
	}
	return values, len(values) > 0
}

func (q *question) multiRegionKeyType() ([]string, bool) {
	switch {
	case q.key.MultiRegion == nil:
		return nil, false
	case q.key.primary():
		return one(kmsapi.PrimaryKey)
	default:
		return one(kmsapi.ReplicaKey)
	}
}

// resourceAliases are the names of all aliases of the key. A key with more of them than
// the quota allows has none here, so that access by alias is denied.
func (q *question) resourceAliases() ([]string, bool) {
	if q.toBeMade {
		return nil, false
	}
	s := q.call.s
	var names []string
	for _, alias := range s.mirror.aliasesOf(q.key.Region, q.key.ID) {
		names = append(names, alias.Name)
	}
	if len(names) == 0 || len(names) > s.quotas.AliasesPerKey {
		return nil, false
	}
	return names, true
}

// reEncryptOnSameKey compares the two keys of a ReEncrypt, allowed or not.
func (q *question) reEncryptOnSameKey() ([]string, bool) {
	in, ok := q.call.in.(*kmsapi.ReEncryptRequest)
	if !ok || q.half == "" {
		return nil, false
	}
	var other *keyEntry
	if q.half == sourceHalf {
		other = q.call.named(in.DestinationKeyID)
	} else {
		other = q.call.sourceKey
	}
	return yesOrNo(other != nil && other.ARN == q.key.ARN)
}

// daysWithoutUse counts whole days since the key was used last; since it can have been
// used at all, if it never was.
func (q *question) daysWithoutUse() ([]string, bool) {
	if op := operationOf(q.permission); q.toBeMade || op != "DisableKey" && op != "ScheduleKeyDeletion" {
		return nil, false
	}
	s := q.call.s
	since := q.key.Created
	if tracking := s.mirror.trackingSince(); tracking.After(since) {
		since = tracking
	}
	if last := q.key.use.last.Load(); last != nil {
		since = last.Time
	}
	return one(strconv.Itoa(int(math.Floor(s.now().Sub(since).Hours() / 24))))
}

// encryptionContext is the one that the question is about: of ReEncrypt that of its half, of
// operations on grants that of the grant's constraint. It is not ok for operations without one.
func (q *question) encryptionContext() (context map[string]string, ok bool) {
	switch in := q.call.in.(type) {
	case *kmsapi.EncryptRequest:
		return in.EncryptionContext, true
	case *kmsapi.DecryptRequest:
		return in.EncryptionContext, true
	case *kmsapi.GenerateDataKeyRequest:
		return in.EncryptionContext, true
	case *kmsapi.GenerateDataKeyWithoutPlaintextRequest:
		return in.EncryptionContext, true
	case *kmsapi.GenerateDataKeyPairRequest:
		return in.EncryptionContext, true
	case *kmsapi.GenerateDataKeyPairWithoutPlaintextRequest:
		return in.EncryptionContext, true
	case *kmsapi.ReEncryptRequest:
		if q.half == sourceHalf {
			return in.SourceEncryptionContext, true
		}
		return in.DestinationEncryptionContext, true
	}
	limits := q.constraints()
	switch {
	case limits == nil:
		return nil, false
	case limits.EncryptionContextEquals != nil:
		return limits.EncryptionContextEquals, true
	default:
		return limits.EncryptionContextSubset, limits.EncryptionContextSubset != nil
	}
}

func (q *question) contextKeys() ([]string, bool) {
	context, _ := q.encryptionContext()
	return slices.Collect(maps.Keys(context)), len(context) > 0
}

// constraints are those of the grant that is to be made or retired.
func (q *question) constraints() *kmsapi.GrantConstraints {
	switch in := q.call.in.(type) {
	case *kmsapi.CreateGrantRequest:
		return in.Constraints
	case *kmsapi.RetireGrantRequest:
		if q.call.retiring != nil {
			return q.call.retiring.Constraints
		}
	}
	return nil
}

func (q *question) grantConstraintTypes() (types []string, ok bool) {
	limits := q.constraints()
	if limits == nil {
		return nil, false
	}
	if len(limits.EncryptionContextEquals) > 0 {
		types = append(types, "EncryptionContextEquals")
	}
	if len(limits.EncryptionContextSubset) > 0 {
		types = append(types, "EncryptionContextSubset")
	}
	if limits.SourceArn != "" {
		types = append(types, "SourceArn")
	}
	return types, len(types) > 0
}

// attested are the measurements in the attestation document of the one whom the answer is for.
func (q *question) attested(name string) ([]string, bool) {
	to, err := q.call.recipient(recipientOf(q.call.in))
	if err != nil || to == nil {
		return nil, false
	}
	return measurement(to.attestation, name)
}

// measurement gives a register by its name in lower case: "pcr0", "nitrotpmpcr23".
func measurement(a *nitro.Attestation, name string) ([]string, bool) {
	if name == "imagesha384" {
		return some(a.ImageSHA384())
	}
	registers := a.PCRs
	digits, found := strings.CutPrefix(name, "pcr")
	if !found {
		registers = a.NitroTPMPCRs
		digits, found = strings.CutPrefix(name, "nitrotpmpcr")
	}
	n, err := strconv.Atoi(digits)
	if !found || err != nil || strconv.Itoa(n) != digits {
		return nil, false
	}
	return some(hex.EncodeToString(registers[n]))
}

// requestTags are the tags that a request gives to a key.
func (q *question) requestTags() []kmsapi.Tag {
	if op := operationOf(q.permission); op != "CreateKey" && op != "TagResource" {
		return nil // also ReplicateKey, whose tags are a matter of the permission to create the replica
	}
	switch in := q.call.in.(type) {
	case *kmsapi.CreateKeyRequest:
		return in.Tags
	case *kmsapi.ReplicateKeyRequest:
		return in.Tags
	case *kmsapi.TagResourceRequest:
		return in.Tags
	default:
		return nil
	}
}

func (q *question) tagKeys() (keys []string, ok bool) {
	if in, untag := q.call.in.(*kmsapi.UntagResourceRequest); untag {
		return in.TagKeys, len(in.TagKeys) > 0
	}
	for _, tag := range q.requestTags() {
		keys = append(keys, tag.TagKey)
	}
	return keys, len(keys) > 0
}
