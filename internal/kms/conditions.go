package kms

import (
	"slices"
	"strconv"
	"strings"
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
