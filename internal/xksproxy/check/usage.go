package check

import (
	"context"
	"slices"

	"kastellan.dev/internal/xksapi"
)

// usageCases need keys that the options name; each is skipped without its key.
func usageCases() []testCase {
	body := encryptBody([]byte("Hello, world"), nil)
	integrity := body.with(object{"ciphertextDataIntegrityValueAlgorithm": xksapi.AlgorithmSHA256})
	forged := decryptBody(xksapi.EncryptResponse{
		Ciphertext: make([]byte, 12), InitializationVector: make([]byte, 12), AuthenticationTag: make([]byte, 16),
	}, nil)
	disabled := func(o Options) string { return o.DisabledKeyID }
	encryptOnly := func(o Options) string { return o.EncryptOnlyKeyID }
	decryptOnly := func(o Options) string { return o.DecryptOnlyKeyID }
	impotent := func(o Options) string { return o.ImpotentKeyID }
	denied := func(o Options) string { return o.DeniedKeyID }
	return []testCase{
		{
			id: "usage.disabled.metadata", title: "GetKeyMetadata tells that a key is disabled", level: Must, expected: "200; keyStatus DISABLED; or 400 InvalidStateException",
			run: func(ctx context.Context, p *prober) (string, error) {
				seen, err := p.describes(ctx, p.o.DisabledKeyID, func(m xksapi.MetadataResponse) bool { return m.KeyStatus == xksapi.KeyDisabled })
				if seen == "400 "+string(xksapi.InvalidStateException) {
					err = nil
				}
				return seen, err
			},
		},
		keyErrorCase("usage.disabled.encrypt", "A disabled key does not encrypt", disabled, "encrypt", body, xksapi.InvalidStateException),
		keyErrorCase("usage.disabled.decrypt", "A disabled key does not decrypt", disabled, "decrypt", forged, xksapi.InvalidStateException),
		{
			id: "usage.encrypt-only.metadata", title: "GetKeyMetadata tells that a key may only encrypt", level: Must, expected: "200; keyUsage without DECRYPT",
			run: func(ctx context.Context, p *prober) (string, error) {
				return p.describes(ctx, p.o.EncryptOnlyKeyID, func(m xksapi.MetadataResponse) bool {
					return slices.Contains(m.KeyUsage, xksapi.UsageEncrypt) && !slices.Contains(m.KeyUsage, xksapi.UsageDecrypt)
				})
			},
		},
		{
			id: "usage.encrypt-only.encrypt", title: "A key that may only encrypt does", level: Must, expected: "200",
			run: func(ctx context.Context, p *prober) (string, error) {
				if p.o.EncryptOnlyKeyID == "" {
					return "", noKey
				}
				_, seen, err := p.encrypted(ctx, p.o.EncryptOnlyKeyID, body)
				return seen, err
			},
		},
		keyErrorCase("usage.encrypt-only.decrypt", "A key that may only encrypt does not decrypt", encryptOnly, "decrypt", forged, xksapi.InvalidKeyUsageException),
		keyErrorCase("usage.encrypt-only.integrity", "The integrity value needs a key that may decrypt", encryptOnly, "encrypt", integrity, xksapi.InvalidKeyUsageException),
		keyErrorCase("usage.decrypt-only.encrypt", "A key that may only decrypt does not encrypt", decryptOnly, "encrypt", body, xksapi.InvalidKeyUsageException),
		keyErrorCase("usage.decrypt-only.decrypt", "A key that may only decrypt refuses a forgery for what it is", decryptOnly, "decrypt", forged, xksapi.InvalidCiphertextException),
		keyErrorCase("usage.impotent.encrypt", "A key that may do neither does not encrypt", impotent, "encrypt", body, xksapi.InvalidKeyUsageException),
		keyErrorCase("usage.impotent.integrity", "Nor does it with an integrity value", impotent, "encrypt", integrity, xksapi.InvalidKeyUsageException),
		keyErrorCase("usage.impotent.decrypt", "Nor does it decrypt", impotent, "decrypt", forged, xksapi.InvalidKeyUsageException),
		keyErrorCase("rules.denied.metadata", "A denied key is not described", denied, "metadata", object{"requestMetadata": metadata("CreateKey")}, xksapi.AccessDeniedException),
		keyErrorCase("rules.denied.encrypt", "A denied key does not encrypt", denied, "encrypt", body, xksapi.AccessDeniedException),
		keyErrorCase("rules.denied.decrypt", "A denied key does not decrypt", denied, "decrypt", forged, xksapi.AccessDeniedException),
	}
}

const noKey = skipped("the options name no such key")

func (p *prober) describes(ctx context.Context, key string, right func(xksapi.MetadataResponse) bool) (string, error) {
	if key == "" {
		return "", noKey
	}
	m, seen, err := p.keyMetadata(ctx, key)
	if err == nil && !right(m) {
		err = errNotMet
	}
	return seen, err
}

func keyErrorCase(id, title string, key func(Options) string, operation string, body object, names ...xksapi.ErrorName) testCase {
	return testCase{
		id: id, title: title, level: Must, expected: expectation(names),
		run: func(ctx context.Context, p *prober) (string, error) {
			if key(p.o) == "" {
				return "", noKey
			}
			a, err := p.post(ctx, keyPath(key(p.o), operation), body)
			if err != nil {
				return "", err
			}
			return a.wantError(names...)
		},
	}
}
