package kms

import (
	"context"
	"fmt"

	"kastellan.dev/internal/kmsapi"
)

// Operation is one row of the table of operations.
type Operation struct {
	Name       string // as in X-Amz-Target
	Permission string // the IAM action
	ReadOnly   bool   // as AWS records it: cryptography counts as reading
	Aliases    bool   // KeyId may be an alias name or alias ARN
	Uses       bool   // it counts as a use of its keys: see lastusage.go
	InvalidARN bool   // a malformed ARN is InvalidArnException rather than NotFoundException
	Refused    refusals
	suits      condition // before the key's state counts; nil: the operation is one for every key
	fits       condition // after the key's state

	// New makes an empty request, a pointer to a structure of kmsapi.
	New func() any
	do  func(ctx context.Context, c *call, in any) (any, error)
}

// flag sets a property of a row.
type flag func(*Operation)

func readOnly(o *Operation)   { o.ReadOnly = true }
func aliases(o *Operation)    { o.Aliases = true }
func invalidARN(o *Operation) { o.InvalidARN = true }

// cryptographic is for the operations that use keys. They read, take aliases, and have a row of the matrix in common.
func cryptographic(o *Operation) {
	o.ReadOnly, o.Aliases, o.Uses, o.Refused = true, true, true, cryptoStates
}

func refuse(row refusals) flag { return func(o *Operation) { o.Refused = row } }

// forKeys is for operations that some kinds of keys do not have, whatever their state.
func forKeys(suits ...condition) flag { return func(o *Operation) { o.suits = all(suits...) } }

// fitting is for operations that a key must be made for.
func fitting(fits condition) flag { return func(o *Operation) { o.fits = fits } }

// permission is for the operations that are not allowed by their own name.
func permission(p string) flag { return func(o *Operation) { o.Permission = p } }

func row[Req, Resp any](name string, fn func(*call, context.Context, *Req) (*Resp, error), flags ...flag) *Operation {
	op := &Operation{
		Name:       name,
		Permission: "kms:" + name,
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
	row("CreateGrant", (*call).createGrant, invalidARN, refuse(grantStates)),
	row("CreateKey", (*call).createKey),
	row("Decapsulate", (*call).decapsulate, cryptographic, fitting(usage(kmsapi.EncapsulateDecapsulate))),
	row("Decrypt", (*call).decrypt, cryptographic, fitting(decrypts)),
	row("DeleteAlias", (*call).deleteAlias),
	row("DeleteCustomKeyStore", (*call).deleteCustomKeyStore),
	row("DeleteImportedKeyMaterial", (*call).deleteImportedKeyMaterial, invalidARN, refuse(deleteImportedStates), forKeys(imports)),
	row("DeriveSharedSecret", (*call).deriveSharedSecret, cryptographic, fitting(usage(kmsapi.KeyAgreement))),
	row("DescribeCustomKeyStores", (*call).describeCustomKeyStores, readOnly),
	row("DescribeKey", (*call).describeKey, readOnly, aliases, invalidARN),
	row("DisableKey", (*call).disableKey, invalidARN, refuse(enableStates)),
	row("DisableKeyRotation", (*call).disableKeyRotation, invalidARN, refuse(autoRotationStates), forKeys(rotates, generated, leads)),
	row("DisconnectCustomKeyStore", (*call).disconnectCustomKeyStore),
	row("EnableKey", (*call).enableKey, invalidARN, refuse(enableStates)),
	row("EnableKeyRotation", (*call).enableKeyRotation, invalidARN, refuse(autoRotationStates), forKeys(rotates, generated, leads)),
	row("Encapsulate", (*call).encapsulate, cryptographic, fitting(usage(kmsapi.EncapsulateDecapsulate))),
	row("Encrypt", (*call).encrypt, cryptographic, fitting(usage(kmsapi.EncryptDecrypt))),
	row("GenerateDataKey", (*call).generateDataKey, cryptographic, fitting(symmetric)),
	row("GenerateDataKeyPair", (*call).generateDataKeyPair, cryptographic, forKeys(outsideStores), fitting(symmetric)),
	row("GenerateDataKeyPairWithoutPlaintext", (*call).generateDataKeyPairWithoutPlaintext, cryptographic, forKeys(outsideStores), fitting(symmetric)),
	row("GenerateDataKeyWithoutPlaintext", (*call).generateDataKeyWithoutPlaintext, cryptographic, fitting(symmetric)),
	row("GenerateMac", (*call).generateMac, cryptographic, fitting(usage(kmsapi.GenerateVerifyMac))),
	row("GenerateRandom", (*call).generateRandom, readOnly),
	row("GetKeyLastUsage", (*call).getKeyLastUsage, readOnly, invalidARN),
	row("GetKeyPolicy", (*call).getKeyPolicy, readOnly, invalidARN),
	row("GetKeyRotationStatus", (*call).getKeyRotationStatus, readOnly, invalidARN, refuse(rotationStatusStates), forKeys(rotates)),
	row("GetParametersForImport", (*call).getParametersForImport, readOnly, invalidARN, refuse(importParameterStates), forKeys(imports)),
	row("GetPublicKey", (*call).getPublicKey, readOnly, aliases, invalidARN, refuse(publicKeyStates), forKeys(asymmetric)),
	row("ImportKeyMaterial", (*call).importKeyMaterial, invalidARN, refuse(importStates), forKeys(imports)),
	row("ListAliases", (*call).listAliases, readOnly, invalidARN),
	row("ListGrants", (*call).listGrants, readOnly, invalidARN),
	row("ListKeyPolicies", (*call).listKeyPolicies, readOnly, invalidARN),
	row("ListKeyRotations", (*call).listKeyRotations, readOnly, invalidARN, forKeys(rotates)),
	row("ListKeys", (*call).listKeys, readOnly),
	row("ListResourceTags", (*call).listResourceTags, readOnly, invalidARN),
	row("ListRetirableGrants", (*call).listRetirableGrants, readOnly),
	row("PutKeyPolicy", (*call).putKeyPolicy, invalidARN),
	row("ReEncrypt", (*call).reEncrypt, cryptographic),
	row("ReplicateKey", (*call).replicateKey, invalidARN, refuse(replicateStates), forKeys(isPrimary)),
	row("RetireGrant", (*call).retireGrant, invalidARN),
	row("RevokeGrant", (*call).revokeGrant, invalidARN),
	row("RotateKeyOnDemand", (*call).rotateKeyOnDemand, invalidARN, refuse(rotateStates), forKeys(rotates, leads)),
	row("ScheduleKeyDeletion", (*call).scheduleKeyDeletion, invalidARN, refuse(scheduleStates)),
	row("Sign", (*call).sign, cryptographic, fitting(usage(kmsapi.SignVerify))),
	row("TagResource", (*call).tagResource, invalidARN, refuse(describeStates)),
	row("UntagResource", (*call).untagResource, invalidARN, refuse(describeStates)),
	row("UpdateAlias", (*call).updateAlias),
	row("UpdateCustomKeyStore", (*call).updateCustomKeyStore),
	row("UpdateKeyDescription", (*call).updateKeyDescription, invalidARN, refuse(describeStates)),
	row("UpdatePrimaryRegion", (*call).updatePrimaryRegion, invalidARN, refuse(primaryStates), forKeys(isPrimary)),
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
