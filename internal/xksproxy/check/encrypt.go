package check

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"kastellan.dev/internal/xksapi"
)

func encryptCases() []testCase {
	full := encryptBody([]byte("Hello, world"), exampleAAD)
	cases := []testCase{
		sizesCase("encrypt.round-trip", "What was encrypted decrypts", 12, 33),
		sizesCase("encrypt.one-byte", "A plaintext of one byte", 1, 0).should(),
		sizesCase("encrypt.block", "A plaintext of whole blocks", 32, 32),
		sizesCase("encrypt.max-plaintext", "The largest plaintext, 4300 bytes", xksapi.MaxPlaintext, 0),
		sizesCase("encrypt.max-aad", "The largest additional data, 8192 bytes", 32, xksapi.MaxAAD),
		sizesCase("encrypt.max-both", "The largest of both", xksapi.MaxPlaintext, xksapi.MaxAAD),
		absentAADCase("encrypt.aad-absent", "Additional data: absent, then empty", nil, []byte{}),
		absentAADCase("encrypt.aad-empty", "Additional data: empty, then absent", []byte{}, nil),
		freshIVCase(), integrityCase("encrypt.integrity-value", "The ciphertext integrity value is right", exampleAAD),
		integrityCase("encrypt.integrity-value.no-aad", "The ciphertext integrity value is right without additional data", nil), beyondCase(),
		errorCase("encrypt.unknown-key", "Encrypt with a key that is not there", "/keys/{unknown}/encrypt", full, xksapi.KeyNotFoundException),
		errorCase("encrypt.algorithm", "Another encryptionAlgorithm", encryptPath, full.with(object{"encryptionAlgorithm": "AES_CBC"}),
			xksapi.ValidationException, xksapi.UnsupportedOperationException),
		errorCase("encrypt.integrity-algorithm", "Another integrity value algorithm", encryptPath,
			full.with(object{"ciphertextDataIntegrityValueAlgorithm": "MD5"}), xksapi.ValidationException, xksapi.UnsupportedOperationException),
		errorCase("encrypt.not-base64", "A plaintext that is not base64", encryptPath, full.with(object{"plaintext": "not*base64"}), xksapi.ValidationException),
		errorCase("encrypt.url-base64", "A plaintext in the URL alphabet", encryptPath, full.with(object{"plaintext": "-_-_"}), xksapi.ValidationException).should(),
		errorCase("encrypt.wrong-type", "A plaintext that is a number", encryptPath, full.with(object{"plaintext": 17}), xksapi.ValidationException),
	}
	cases = append(cases,
		okCase("encrypt.optional-members", "Members that come with some requests only", encryptPath, full.with(object{
			"requestMetadata": metadata("Encrypt").with(object{
				"awsSourceVpc": "vpc-0123456789abcdef0", "awsSourceVpce": "vpce-0123456789abcdef0", "kmsViaService": "ebs",
			}),
		})),
		okCase("encrypt.principal", "A principal that is a service", encryptPath, full.with(object{
			"requestMetadata": metadata("Encrypt").with(object{"awsPrincipalArn": "ec2.amazonaws.com"}),
		})),
	)
	same := func(context.Context, *prober) (object, error) { return full, nil }
	for _, op := range []string{"GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"} {
		cases = append(cases, kmsOperationCase("encrypt.operation."+op, "Encrypt on behalf of "+op, op, encryptPath, same))
	}
	cases = append(cases, kmsOperationCase("encrypt.operation.unknown", "A kmsOperation that nobody knows is not invalid", "SomethingNew", encryptPath, same))
	return append(cases, missingCases("encrypt", encryptPath, full,
		[]string{"awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId"}, []string{"plaintext", "encryptionAlgorithm"})...)
}

func sizesCase(id, title string, plaintext, aad int) testCase {
	return testCase{
		id: id, title: title, level: Must,
		expected: "200; ciphertext as long as the plaintext, IV of 12 or 16 bytes, tag of 16, metadata of 20 at most; then 200 and the same plaintext",
		run: func(ctx context.Context, p *prober) (string, error) {
			data := random(aad)
			return p.roundTrip(ctx, random(plaintext), data, data)
		},
	}
}

func absentAADCase(id, title string, first, second []byte) testCase {
	return testCase{
		id: id, title: title, level: Should, expected: "absent and empty are the same",
		run: func(ctx context.Context, p *prober) (string, error) {
			return p.roundTrip(ctx, random(16), first, second)
		},
	}
}

func freshIVCase() testCase {
	return testCase{
		id: "encrypt.fresh-iv", title: "No initialization vector comes twice", level: Must, expected: "16 different pairs of IV and metadata",
		run: func(ctx context.Context, p *prober) (string, error) {
			seen := map[string]bool{}
			for range 16 {
				e, what, err := p.encrypted(ctx, p.o.KeyID, encryptBody([]byte("the same"), nil))
				if err != nil {
					return what, err
				}
				pair := string(slices.Concat(e.InitializationVector, e.CiphertextMetadata))
				if seen[pair] {
					return "the same twice", errNotMet
				}
				seen[pair] = true
			}
			return "16 different", nil
		},
	}
}

func integrityCase(id, title string, aad []byte) testCase {
	return testCase{
		id: id, title: title, level: Must,
		expected: "SHA-256 of additional data, metadata, IV, ciphertext and tag",
		run: func(ctx context.Context, p *prober) (string, error) {
			body := encryptBody([]byte("Hello, world"), aad).with(object{"ciphertextDataIntegrityValueAlgorithm": xksapi.AlgorithmSHA256})
			e, seen, err := p.encrypted(ctx, p.o.KeyID, body)
			if err != nil {
				return seen, err
			}
			want := xksapi.IntegrityValue(aad, e.CiphertextMetadata, e.InitializationVector, e.Ciphertext, e.AuthenticationTag)
			if !bytes.Equal(e.CiphertextDataIntegrityValue, want) {
				return fmt.Sprintf("%d bytes, not the expected ones", len(e.CiphertextDataIntegrityValue)), errNotMet
			}
			return seen, nil
		},
	}
}

func beyondCase() testCase {
	names := []xksapi.ErrorName{xksapi.UnsupportedOperationException, xksapi.ValidationException}
	return testCase{
		id: "encrypt.beyond-aad", title: "Additional data that no length can express, 65,536 bytes", level: Should, expected: expectation(names),
		run: func(ctx context.Context, p *prober) (string, error) {
			a, err := p.post(ctx, p.expand(encryptPath), encryptBody([]byte("x"), make([]byte, 1<<16)))
			if err != nil {
				return "", err
			}
			return a.wantError(names...)
		},
	}
}

// kmsOperationCase sends a request on behalf of an operation of KMS.
func kmsOperationCase(id, title, operation, path string, body func(context.Context, *prober) (object, error)) testCase {
	return testCase{
		id: id, title: title, level: Must, expected: "200",
		run: func(ctx context.Context, p *prober) (string, error) {
			o, err := body(ctx, p)
			if err != nil {
				return "", err
			}
			return p.served(ctx, path, o.with(object{"requestMetadata": metadata(operation)}))
		},
	}
}
