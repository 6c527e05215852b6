package kms

import (
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/nitro"
)

// looked is a condition key that was looked up, with what was found.
type looked struct {
	key    string
	values []string
	ok     bool
}

// Lookup implements policy.Values. Policies ask for the same few keys in many statements.
func (q *question) Lookup(key string) (values []string, ok bool) {
	c := q.call
	for i := range c.looked {
		if c.looked[i].key == key {
			return c.looked[i].values, c.looked[i].ok
		}
	}
	values, ok = q.find(key)
	c.looked = append(c.looked, looked{key, values, ok})
	return values, ok
}

// find knows the condition keys of KMS, and has package identity find those that are about the
// caller and the circumstances.
func (q *question) find(key string) (values []string, ok bool) {
	if of, known := keyConditions[key]; known {
		if q.key == nil {
			return nil, false
		}
		return of(q)
	}
	if condition, known := callConditions[key]; known {
		if slices.Contains(condition.without, operationOf(q.permission)) {
			return nil, false
		}
		return condition.of(q)
	}
	if m, known := memberConditions[key]; known {
		return m.of(q)
	}
	for _, family := range conditionFamilies {
		if name, found := strings.CutPrefix(key, family.prefix); found {
			return family.of(q, name)
		}
	}
	region := q.region
	if region == "" {
		region = q.call.caller.Region
	}
	return q.call.caller.Lookup(key, region, q.call.s.now())
}

// one is the value of a condition key that the request has.
func one[T ~string](value T) ([]string, bool) { return []string{string(value)}, true }

// some is one, unless the value is empty: then the request does not have the key.
func some[T ~string](value T) ([]string, bool) {
	if value == "" {
		return nil, false
	}
	return one(value)
}

func yesOrNo(value bool) ([]string, bool) { return one(strconv.FormatBool(value)) }

// keyConditions are about the key that the question is about.
var keyConditions = map[string]func(*question) ([]string, bool){
	"kms:keyorigin":                   func(q *question) ([]string, bool) { return one(q.key.Origin) },
	"kms:keyspec":                     func(q *question) ([]string, bool) { return one(q.key.Spec) },
	"kms:customermasterkeyspec":       func(q *question) ([]string, bool) { return one(q.key.Spec) },
	"kms:keyusage":                    func(q *question) ([]string, bool) { return one(q.key.Usage) },
	"kms:customermasterkeyusage":      func(q *question) ([]string, bool) { return one(q.key.Usage) },
	"kms:multiregion":                 func(q *question) ([]string, bool) { return yesOrNo(q.key.MultiRegion != nil) },
	"kms:multiregionkeytype":          (*question).multiRegionKeyType,
	"kms:resourcealiases":             (*question).resourceAliases,
	"kms:requestalias":                func(q *question) ([]string, bool) { return some(q.alias) },
	"kms:reencryptonsamekey":          (*question).reEncryptOnSameKey,
	"kms:trailingdayswithoutkeyusage": (*question).daysWithoutUse,
}

// callCondition is a condition key that does not need a key, and the permissions without it.
type callCondition struct {
	of      func(*question) ([]string, bool)
	without []string
}

// Permissions that have hardly any of KMS's condition keys.
var (
	listsAndRandom  = []string{"ListAliases", "ListKeys", "ListRetirableGrants", "GenerateRandom"}
	aboutKeyStores  = []string{"ConnectCustomKeyStore", "CreateCustomKeyStore", "DeleteCustomKeyStore", "DescribeCustomKeyStores", "DisconnectCustomKeyStore", "UpdateCustomKeyStore"}
	neverForService = slices.Concat(listsAndRandom, aboutKeyStores)
)

// callConditions are about the call, with or without a key.
var callConditions = map[string]callCondition{
	"kms:calleraccount":            {func(q *question) ([]string, bool) { return some(q.call.caller.Account) }, listsAndRandom},
	"kms:viaservice":               {func(q *question) ([]string, bool) { return some(q.call.caller.ViaService) }, neverForService},
	"kms:encryptioncontextkeys":    {of: (*question).contextKeys},
	"kms:grantconstrainttype":      {of: (*question).grantConstraintTypes},
	"kms:grantconstraintsourcearn": {of: (*question).grantSource},
	"kms:grantisforawsresource":    {of: (*question).forService},
	"aws:tagkeys":                  {of: (*question).tagKeys},
	"aws:resourceaccount":          {of: (*question).resourceAccount},
	"aws:resourceorgid":            {of: func(q *question) ([]string, bool) { return q.resourceOrganization("id") }},
	"aws:resourceorgpaths":         {of: func(q *question) ([]string, bool) { return q.resourceOrganization("paths") }},
}

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

// conditionFamilies are condition keys that end in a name of the caller's choice, in lower case.
var conditionFamilies = []struct {
	prefix string
	of     func(q *question, name string) ([]string, bool)
}{
	{"kms:encryptioncontext:", func(q *question, name string) ([]string, bool) {
		context, _ := q.encryptionContext()
		return folded(context, name)
	}},
	{"kms:recipientattestation:", (*question).attested},
	{"aws:requesttag/", func(q *question, name string) ([]string, bool) { return tagValue(q.requestTags(), name) }},
	{"aws:resourcetag/", func(q *question, name string) ([]string, bool) {
		if q.key == nil {
			return nil, false
		}
		return tagValue(q.key.Tags, name)
	}},
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
	for _, alias := range s.mirror.aliasesOf(q.key.Account, q.key.Region, q.key.ID) {
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
	keys := make([]string, 0, len(context))
	for key := range context {
		keys = append(keys, key)
	}
	return keys, len(keys) > 0
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
