package kms

import (
	"context"
	"fmt"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

// Operation is one row of the table of operations.
type Operation struct {
	Name       string   // as in X-Amz-Target
	Permission string   // the IAM action
	Further    []string // IAM actions that it needs besides: on another key, or for tags
	ReadOnly   bool     // as AWS records it: cryptography counts as reading
	Aliases    bool     // KeyId may be an alias name or alias ARN
	// AcrossAccounts tells that keys of other accounts can be used, as their policies or grants allow.
	AcrossAccounts bool
	Uses           bool    // it counts as a use of its keys: see lastusage.go
	Quota          string  // the request quota that it counts in: its own, or what rates.go says
	Rate           float64 // AWS's value of its own quota, requests per second
	InvalidARN     bool    // a malformed ARN is InvalidArnException rather than NotFoundException
	Refused        refusals
	suits          condition // before the key's state counts; nil: the operation is one for every key
	fits           condition // after the key's state

	// New makes an empty request, a pointer to a structure of kmsapi.
	New func() any
	do  func(ctx context.Context, c *call, in any) (any, error)
}

// flag sets a property of a row.
type flag func(*Operation)

func readOnly(o *Operation)       { o.ReadOnly = true }
func aliases(o *Operation)        { o.Aliases = true }
func invalidARN(o *Operation)     { o.InvalidARN = true }
func acrossAccounts(o *Operation) { o.AcrossAccounts = true }

// cryptographic is for the operations that use keys. They read, take aliases and keys of other
// accounts, and have a row of the matrix in common.
func cryptographic(o *Operation) {
	o.ReadOnly, o.Aliases, o.AcrossAccounts, o.Uses, o.Refused, o.Quota = true, true, true, true, cryptoStates, byKey
}

func refuse(row refusals) flag { return func(o *Operation) { o.Refused = row } }

// forKeys is for operations that some kinds of keys do not have, whatever their state.
func forKeys(suits ...condition) flag { return func(o *Operation) { o.suits = all(suits...) } }

// fitting is for operations that a key must be made for.
func fitting(fits condition) flag { return func(o *Operation) { o.fits = fits } }

// perSecond is for operations whose request quota is not the standard one.
func perSecond(rate float64) flag { return func(o *Operation) { o.Rate = rate } }

// countedAs is for operations without a request quota of their own.
func countedAs(quota string) flag { return func(o *Operation) { o.Quota = quota } }

// permission is for the operations that are not allowed by their own name.
func permission(p string) flag { return func(o *Operation) { o.Permission = p } }

// further is for the operations that need more than one permission.
func further(p ...string) flag { return func(o *Operation) { o.Further = p } }

// Permissions on other keys, and for tags.
const (
	createKey     = "kms:CreateKey"
	reEncryptFrom = "kms:ReEncryptFrom"
	reEncryptTo   = "kms:ReEncryptTo"
	tagResource   = "kms:TagResource"
)

func row[Req, Resp any](name string, fn func(*call, context.Context, *Req) (*Resp, error), flags ...flag) *Operation {
	op := &Operation{
		Name:       name,
		Permission: "kms:" + name,
		Quota:      name,
		Rate:       standardRate,
		New:        func() any { return new(Req) },
		do: func(ctx context.Context, c *call, in any) (any, error) {
			req, ok := in.(*Req)
			if !ok {
				return nil, fmt.Errorf("%s was given a %T", name, in)
			}
			out, err := fn(c, ctx, req)
			if err != nil {
				return nil, err
			}
			return out, nil
		},
	}
	for _, set := range flags {
		set(op)
	}
	return op
}

// operations is the table. Its order is that of the API's documentation.
var operations = []*Operation{
	row("CancelKeyDeletion", (*call).cancelKeyDeletion, invalidARN, refuse(cancelStates)),
	row("ConnectCustomKeyStore", (*call).connectCustomKeyStore),
	row("CreateAlias", (*call).createAlias, refuse(describeStates)),
	row("CreateCustomKeyStore", (*call).createCustomKeyStore),
	row("CreateGrant", (*call).createGrant, acrossAccounts, perSecond(50), invalidARN, refuse(grantStates)),
	row("CreateKey", (*call).createKey, further(tagResource)),
	row("Decapsulate", (*call).decapsulate, cryptographic, fitting(usage(kmsapi.EncapsulateDecapsulate))),
	row("Decrypt", (*call).decrypt, cryptographic, fitting(decrypts)),
	row("DeleteAlias", (*call).deleteAlias, perSecond(15)),
	row("DeleteCustomKeyStore", (*call).deleteCustomKeyStore),
	row("DeleteImportedKeyMaterial", (*call).deleteImportedKeyMaterial, perSecond(15), invalidARN, refuse(deleteImportedStates), forKeys(imports)),
	row("DeriveSharedSecret", (*call).deriveSharedSecret, cryptographic, fitting(usage(kmsapi.KeyAgreement))),
	row("DescribeCustomKeyStores", (*call).describeCustomKeyStores, readOnly),
	row("DescribeKey", (*call).describeKey, acrossAccounts, perSecond(2000), readOnly, aliases, invalidARN),
	row("DisableKey", (*call).disableKey, invalidARN, refuse(enableStates)),
	row("DisableKeyRotation", (*call).disableKeyRotation, invalidARN, refuse(autoRotationStates), forKeys(rotates, generated), fitting(leads)),
	row("DisconnectCustomKeyStore", (*call).disconnectCustomKeyStore),
	row("EnableKey", (*call).enableKey, invalidARN, refuse(enableStates)),
	row("EnableKeyRotation", (*call).enableKeyRotation, perSecond(15), invalidARN, refuse(autoRotationStates), forKeys(rotates, generated), fitting(leads)),
	row("Encapsulate", (*call).encapsulate, cryptographic, fitting(usage(kmsapi.EncapsulateDecapsulate))),
	row("Encrypt", (*call).encrypt, cryptographic, fitting(usage(kmsapi.EncryptDecrypt))),
	row("GenerateDataKey", (*call).generateDataKey, cryptographic, fitting(symmetric)),
	row("GenerateDataKeyPair", (*call).generateDataKeyPair, cryptographic, countedAs(byPair), forKeys(outsideStores), fitting(symmetric)),
	row("GenerateDataKeyPairWithoutPlaintext", (*call).generateDataKeyPairWithoutPlaintext, cryptographic, countedAs(byPair), forKeys(outsideStores), fitting(symmetric)),
	row("GenerateDataKeyWithoutPlaintext", (*call).generateDataKeyWithoutPlaintext, cryptographic, fitting(symmetric)),
	row("GenerateMac", (*call).generateMac, cryptographic, fitting(usage(kmsapi.GenerateVerifyMac))),
	row("GenerateRandom", (*call).generateRandom, readOnly, countedAs(string(keyspec.GroupSymmetric))),
	row("GetKeyLastUsage", (*call).getKeyLastUsage, readOnly, invalidARN),
	row("GetKeyPolicy", (*call).getKeyPolicy, perSecond(1000), readOnly, invalidARN),
	row("GetKeyRotationStatus", (*call).getKeyRotationStatus, acrossAccounts, perSecond(1000), readOnly, invalidARN, refuse(rotationStatusStates), forKeys(rotates)),
	row("GetParametersForImport", (*call).getParametersForImport, perSecond(1), readOnly, invalidARN, refuse(importParameterStates), forKeys(imports)),
	row("GetPublicKey", (*call).getPublicKey, acrossAccounts, perSecond(2000), readOnly, aliases, invalidARN, refuse(publicKeyStates), forKeys(asymmetric)),
	row("ImportKeyMaterial", (*call).importKeyMaterial, perSecond(15), invalidARN, refuse(importStates), forKeys(imports)),
	row("ListAliases", (*call).listAliases, perSecond(500), readOnly, invalidARN),
	row("ListGrants", (*call).listGrants, acrossAccounts, perSecond(100), readOnly, invalidARN),
	row("ListKeyPolicies", (*call).listKeyPolicies, perSecond(100), readOnly, invalidARN),
	row("ListKeyRotations", (*call).listKeyRotations, acrossAccounts, perSecond(100), readOnly, invalidARN, forKeys(rotates)),
	row("ListKeys", (*call).listKeys, perSecond(500), readOnly),
	row("ListResourceTags", (*call).listResourceTags, perSecond(2000), readOnly, invalidARN),
	row("ListRetirableGrants", (*call).listRetirableGrants, perSecond(100), readOnly),
	row("PutKeyPolicy", (*call).putKeyPolicy, perSecond(15), invalidARN),
	row("ReEncrypt", (*call).reEncrypt, cryptographic, permission(reEncryptFrom), further(reEncryptTo)),
	row("ReplicateKey", (*call).replicateKey, further(createKey, tagResource), invalidARN, refuse(replicateStates), fitting(isPrimary)),
	row("RetireGrant", (*call).retireGrant, acrossAccounts, perSecond(50), invalidARN),
	row("RevokeGrant", (*call).revokeGrant, acrossAccounts, perSecond(50), invalidARN),
	row("RotateKeyOnDemand", (*call).rotateKeyOnDemand, invalidARN, refuse(rotateStates), forKeys(rotates), fitting(leads)),
	row("ScheduleKeyDeletion", (*call).scheduleKeyDeletion, perSecond(15), invalidARN, refuse(scheduleStates)),
	row("Sign", (*call).sign, cryptographic, fitting(usage(kmsapi.SignVerify))),
	row("TagResource", (*call).tagResource, perSecond(10), invalidARN, refuse(describeStates)),
	row("UntagResource", (*call).untagResource, invalidARN, refuse(describeStates)),
	row("UpdateAlias", (*call).updateAlias, refuse(describeStates)),
	row("UpdateCustomKeyStore", (*call).updateCustomKeyStore),
	row("UpdateKeyDescription", (*call).updateKeyDescription, invalidARN, refuse(describeStates)),
	row("UpdatePrimaryRegion", (*call).updatePrimaryRegion, invalidARN, refuse(primaryStates), fitting(isPrimary)),
	row("Verify", (*call).verify, cryptographic, fitting(usage(kmsapi.SignVerify))),
	row("VerifyMac", (*call).verifyMac, cryptographic, fitting(usage(kmsapi.GenerateVerifyMac))),
}

// extensions are operations that AWS does not have. They go by a target prefix
// of their own.
var extensions = []*Operation{
	row("ExplainCustomKeyStore", (*call).explainCustomKeyStore, readOnly, permission("kms:DescribeCustomKeyStores")),
}

// Operations gives the table of the operations of AWS KMS that stand.
func Operations() []*Operation { return operations }

// Extensions gives the table of the operations that are Kastellan's own.
func Extensions() []*Operation { return extensions }

// none is the answer of operations without one.
var none = &kmsapi.Empty{}
