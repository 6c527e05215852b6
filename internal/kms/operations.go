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
	InvalidARN bool   // a malformed ARN is InvalidArnException rather than NotFoundException
	Refused    refusals

	// New makes an empty request, a pointer to a structure of kmsapi.
	New func() any
	do  func(ctx context.Context, c *call, in any) (any, error)
}

// flag sets a property of a row.
type flag func(*Operation)

func readOnly(o *Operation)   { o.ReadOnly = true }
func aliases(o *Operation)    { o.Aliases = true }
func invalidARN(o *Operation) { o.InvalidARN = true }

func refuse(row refusals) flag { return func(o *Operation) { o.Refused = row } }

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
	row("CreateKey", (*call).createKey),
	row("Decrypt", (*call).decrypt, readOnly, aliases, refuse(cryptoStates)),
	row("DeleteAlias", (*call).deleteAlias),
	row("DeleteCustomKeyStore", (*call).deleteCustomKeyStore),
	row("DescribeCustomKeyStores", (*call).describeCustomKeyStores, readOnly),
	row("DescribeKey", (*call).describeKey, readOnly, aliases, invalidARN),
	row("DisableKey", (*call).disableKey, invalidARN, refuse(enableStates)),
	row("DisconnectCustomKeyStore", (*call).disconnectCustomKeyStore),
	row("EnableKey", (*call).enableKey, invalidARN, refuse(enableStates)),
	row("Encrypt", (*call).encrypt, readOnly, aliases, refuse(cryptoStates)),
	row("GenerateDataKey", (*call).generateDataKey, readOnly, aliases, refuse(cryptoStates)),
	row("GenerateDataKeyWithoutPlaintext", (*call).generateDataKeyWithoutPlaintext, readOnly, aliases, refuse(cryptoStates)),
	row("GenerateRandom", (*call).generateRandom, readOnly),
	row("GetKeyPolicy", (*call).getKeyPolicy, readOnly, invalidARN),
	row("ListAliases", (*call).listAliases, readOnly, invalidARN),
	row("ListKeys", (*call).listKeys, readOnly),
	row("PutKeyPolicy", (*call).putKeyPolicy, invalidARN),
	row("ReEncrypt", (*call).reEncrypt, readOnly, aliases, refuse(cryptoStates)),
	row("ScheduleKeyDeletion", (*call).scheduleKeyDeletion, invalidARN, refuse(scheduleStates)),
	row("UpdateAlias", (*call).updateAlias),
	row("UpdateCustomKeyStore", (*call).updateCustomKeyStore),
	row("UpdateKeyDescription", (*call).updateKeyDescription, invalidARN, refuse(describeStates)),
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
