package check

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"kastellan.dev/internal/xksapi"
)

const (
	encryptPath = "/keys/{key}/encrypt"
	decryptPath = "/keys/{key}/decrypt"
)

var exampleAAD = []byte("project=nile,department=marketing")

func encryptBody(plaintext, aad []byte) object {
	o := object{"requestMetadata": metadata("Encrypt"), "plaintext": plaintext, "encryptionAlgorithm": xksapi.AlgorithmAESGCM}
	if aad != nil {
		o["additionalAuthenticatedData"] = aad
	}
	return o
}

func decryptBody(e xksapi.EncryptResponse, aad []byte) object {
	o := object{
		"requestMetadata": metadata("Decrypt"), "encryptionAlgorithm": xksapi.AlgorithmAESGCM,
		"ciphertext": e.Ciphertext, "initializationVector": e.InitializationVector, "authenticationTag": e.AuthenticationTag,
	}
	if len(e.CiphertextMetadata) > 0 {
		o["ciphertextMetadata"] = e.CiphertextMetadata
	}
	if aad != nil {
		o["additionalAuthenticatedData"] = aad
	}
	return o
}

// encrypted encrypts body and checks the form of what comes.
func (p *prober) encrypted(ctx context.Context, key string, body object) (e xksapi.EncryptResponse, seen string, err error) {
	a, err := p.post(ctx, keyPath(key, "encrypt"), body)
	if err != nil {
		return e, "", err
	}
	if seen, err = a.wantOK(&e); err != nil {
		return e, seen, err
	}
	plaintext, _ := body["plaintext"].([]byte)
	switch {
	case len(e.Ciphertext) != len(plaintext):
		err = fmt.Errorf("%d bytes of plaintext gave %d of ciphertext", len(plaintext), len(e.Ciphertext))
	case len(e.InitializationVector) != 12 && len(e.InitializationVector) != 16:
		err = fmt.Errorf("the initialization vector has %d bytes", len(e.InitializationVector))
	case len(e.AuthenticationTag) != xksapi.TagSize:
		err = fmt.Errorf("the tag has %d bytes", len(e.AuthenticationTag))
	case len(e.CiphertextMetadata) > xksapi.MaxCiphertextMetadata:
		err = fmt.Errorf("the metadata have %d bytes", len(e.CiphertextMetadata))
	}
	return e, seen, err
}

func (p *prober) decrypted(ctx context.Context, key string, body object, want []byte) (seen string, err error) {
	a, err := p.post(ctx, keyPath(key, "decrypt"), body)
	if err != nil {
		return "", err
	}
	var d xksapi.DecryptResponse
	if seen, err = a.wantOK(&d); err != nil {
		return seen, err
	}
	if !bytes.Equal(d.Plaintext, want) || d.Plaintext == nil {
		return "another plaintext", errNotMet
	}
	return seen, nil
}

// roundTrip encrypts and decrypts; the additional data of both may be written differently.
func (p *prober) roundTrip(ctx context.Context, plaintext, aad, aadBack []byte) (seen string, err error) {
	e, seen, err := p.encrypted(ctx, p.o.KeyID, encryptBody(plaintext, aad))
	if err != nil {
		return seen, err
	}
	return p.decrypted(ctx, p.o.KeyID, decryptBody(e, aadBack), plaintext)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func encryptCases() []testCase {
	full := encryptBody([]byte("Hello, world"), exampleAAD)
	cases := []testCase{
		sizesCase("encrypt.round-trip", "What was encrypted decrypts", 12, 33),
		sizesCase("encrypt.one-byte", "A plaintext of one byte", 1, 0),
		sizesCase("encrypt.block", "A plaintext of whole blocks", 32, 32),
		sizesCase("encrypt.max-plaintext", "The largest plaintext, 4300 bytes", xksapi.MaxPlaintext, 0),
		sizesCase("encrypt.max-aad", "The largest additional data, 8192 bytes", 32, xksapi.MaxAAD),
		sizesCase("encrypt.max-both", "The largest of both", xksapi.MaxPlaintext, xksapi.MaxAAD),
		absentAADCase("encrypt.aad-absent", "Additional data: absent, then empty", nil, []byte{}),
		absentAADCase("encrypt.aad-empty", "Additional data: empty, then absent", []byte{}, nil),
		freshIVCase(), integrityCase(), beyondCase(),
		errorCase("encrypt.unknown-key", "Encrypt with a key that is not there", "/keys/{unknown}/encrypt", full, xksapi.KeyNotFoundException),
		errorCase("encrypt.algorithm", "Another encryptionAlgorithm", encryptPath, full.with(object{"encryptionAlgorithm": "AES_CBC"}),
			xksapi.ValidationException, xksapi.UnsupportedOperationException),
		errorCase("encrypt.integrity-algorithm", "Another integrity value algorithm", encryptPath,
			full.with(object{"ciphertextDataIntegrityValueAlgorithm": "MD5"}), xksapi.ValidationException, xksapi.UnsupportedOperationException),
		errorCase("encrypt.not-base64", "A plaintext that is not base64", encryptPath, full.with(object{"plaintext": "not*base64"}), xksapi.ValidationException),
		errorCase("encrypt.url-base64", "A plaintext in the URL alphabet", encryptPath, full.with(object{"plaintext": "-_-_"}), xksapi.ValidationException),
		errorCase("encrypt.wrong-type", "A plaintext that is a number", encryptPath, full.with(object{"plaintext": 17}), xksapi.ValidationException),
	}
	for _, op := range []string{"GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"} {
		cases = append(cases, okCase("encrypt.operation."+op, "Encrypt on behalf of "+op, encryptPath, full.with(object{"requestMetadata": metadata(op)})))
	}
	cases = append(cases, unknownOperationCase("encrypt", encryptPath, func(context.Context, *prober) (object, error) { return full, nil }))
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
		id: id, title: title, level: Must, expected: "absent and empty are the same",
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

func integrityCase() testCase {
	return testCase{
		id: "encrypt.integrity-value", title: "The ciphertext integrity value is right", level: Must,
		expected: "SHA-256 of additional data, metadata, IV, ciphertext and tag",
		run: func(ctx context.Context, p *prober) (string, error) {
			body := encryptBody([]byte("Hello, world"), exampleAAD).with(object{"ciphertextDataIntegrityValueAlgorithm": xksapi.AlgorithmSHA256})
			e, seen, err := p.encrypted(ctx, p.o.KeyID, body)
			if err != nil {
				return seen, err
			}
			want := xksapi.IntegrityValue(exampleAAD, e.CiphertextMetadata, e.InitializationVector, e.Ciphertext, e.AuthenticationTag)
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
		id: "encrypt.beyond-aad", title: "Additional data that no length can express, 65,536 bytes", level: Must, expected: expectation(names),
		run: func(ctx context.Context, p *prober) (string, error) {
			a, err := p.post(ctx, p.expand(encryptPath), encryptBody([]byte("x"), make([]byte, 1<<16)))
			if err != nil {
				return "", err
			}
			return a.wantError(names...)
		},
	}
}

func unknownOperationCase(group, path string, body func(context.Context, *prober) (object, error)) testCase {
	return testCase{
		id: group + ".operation.unknown", title: "A kmsOperation that nobody knows is not invalid", level: Must, expected: "200 or 403 AccessDeniedException",
		run: func(ctx context.Context, p *prober) (string, error) {
			o, err := body(ctx, p)
			if err != nil {
				return "", err
			}
			a, err := p.post(ctx, p.expand(path), o.with(object{"requestMetadata": metadata("SomethingNew")}))
			if err != nil {
				return "", err
			}
			if a.status == 200 {
				return a.String(), nil
			}
			return a.wantError(xksapi.AccessDeniedException)
		},
	}
}

// tampering is a change to a decrypt request that must be found out.
type tampering struct {
	id, title string
	change    func(e xksapi.EncryptResponse, body object)
	names     []xksapi.ErrorName // nil means InvalidCiphertextException alone
}

var tamperings = []tampering{
	{id: "ciphertext", title: "A changed ciphertext", change: func(e xksapi.EncryptResponse, b object) { b["ciphertext"] = flipped(e.Ciphertext) }},
	{id: "iv", title: "A changed initialization vector", change: func(e xksapi.EncryptResponse, b object) {
		b["initializationVector"] = flipped(e.InitializationVector)
	}},
	{id: "tag", title: "A changed tag", change: func(e xksapi.EncryptResponse, b object) { b["authenticationTag"] = flipped(e.AuthenticationTag) }},
	{id: "aad", title: "Changed additional data", change: func(_ xksapi.EncryptResponse, b object) {
		b["additionalAuthenticatedData"] = flipped(exampleAAD)
	}},
	{id: "aad-absent", title: "Additional data left out", change: func(_ xksapi.EncryptResponse, b object) {
		delete(b, "additionalAuthenticatedData")
	}},
	{id: "metadata", title: "Changed or added ciphertext metadata", change: func(e xksapi.EncryptResponse, b object) {
		if len(e.CiphertextMetadata) == 0 {
			b["ciphertextMetadata"] = []byte("added")
			return
		}
		b["ciphertextMetadata"] = flipped(e.CiphertextMetadata)
	}},
	{id: "metadata-moved", title: "Metadata moved to the end of the additional data", change: func(e xksapi.EncryptResponse, b object) {
		moved := e.CiphertextMetadata
		if len(moved) == 0 { // then the other way round
			b["additionalAuthenticatedData"], moved = exampleAAD[:len(exampleAAD)-5], exampleAAD[len(exampleAAD)-5:]
			b["ciphertextMetadata"] = moved
			return
		}
		delete(b, "ciphertextMetadata")
		b["additionalAuthenticatedData"] = slices.Concat(exampleAAD, moved)
	}},
	{id: "short-tag", title: "A tag of 12 bytes", names: invalidLength,
		change: func(e xksapi.EncryptResponse, b object) { b["authenticationTag"] = e.AuthenticationTag[:12] }},
	{id: "short-iv", title: "An initialization vector of 8 bytes", names: invalidLength,
		change: func(e xksapi.EncryptResponse, b object) { b["initializationVector"] = e.InitializationVector[:8] }},
	{id: "empty-iv", title: "An empty initialization vector", names: invalidLength,
		change: func(_ xksapi.EncryptResponse, b object) { b["initializationVector"] = []byte{} }},
	{id: "long-metadata", title: "Ciphertext metadata of 21 bytes", names: invalidLength,
		change: func(_ xksapi.EncryptResponse, b object) { b["ciphertextMetadata"] = make([]byte, 21) }},
}

// invalidLength: the specification lets both readings stand.
var invalidLength = []xksapi.ErrorName{xksapi.InvalidCiphertextException, xksapi.ValidationException}

func flipped(b []byte) []byte {
	out := slices.Clone(b)
	out[len(out)-1] ^= 1
	return out
}

func decryptCases() []testCase {
	var cases []testCase
	for _, t := range tamperings {
		cases = append(cases, t.testCase())
	}
	full := decryptBody(xksapi.EncryptResponse{
		Ciphertext: make([]byte, 12), InitializationVector: make([]byte, 12), AuthenticationTag: make([]byte, 16),
	}, exampleAAD)
	cases = append(cases,
		errorCase("decrypt.unknown-key", "Decrypt with a key that is not there", "/keys/{unknown}/decrypt", full, xksapi.KeyNotFoundException),
		errorCase("decrypt.forged", "A ciphertext that the key never made", decryptPath, full, xksapi.InvalidCiphertextException),
		errorCase("decrypt.algorithm", "Another encryptionAlgorithm", decryptPath, full.with(object{"encryptionAlgorithm": "AES_CBC"}),
			xksapi.ValidationException, xksapi.UnsupportedOperationException),
		repeatCase(),
		unknownOperationCase("decrypt", decryptPath, func(ctx context.Context, p *prober) (object, error) {
			e, _, err := p.encrypted(ctx, p.o.KeyID, encryptBody([]byte("Hello, world"), exampleAAD))
			return decryptBody(e, exampleAAD), err
		}),
	)
	return append(cases, missingCases("decrypt", decryptPath, full, []string{"awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId"},
		[]string{"ciphertext", "initializationVector", "authenticationTag", "encryptionAlgorithm"})...)
}

func (t tampering) testCase() testCase {
	names := t.names
	if names == nil {
		names = []xksapi.ErrorName{xksapi.InvalidCiphertextException}
	}
	return testCase{
		id: "decrypt.tampered." + t.id, title: t.title, level: Must, expected: expectation(names),
		run: func(ctx context.Context, p *prober) (string, error) {
			e, seen, err := p.encrypted(ctx, p.o.KeyID, encryptBody([]byte("Hello, world"), exampleAAD))
			if err != nil {
				return seen, err
			}
			body := decryptBody(e, exampleAAD)
			t.change(e, body)
			a, err := p.post(ctx, p.expand(decryptPath), body)
			if err != nil {
				return "", err
			}
			return a.wantError(names...)
		},
	}
}

// repeatCase: KMS repeats a call after a network timeout.
func repeatCase() testCase {
	return testCase{
		id: "decrypt.repeated", title: "A ciphertext decrypts as often as one likes", level: Must, expected: "200 and the same plaintext, three times",
		run: func(ctx context.Context, p *prober) (string, error) {
			plaintext := random(32)
			e, seen, err := p.encrypted(ctx, p.o.KeyID, encryptBody(plaintext, nil))
			for range 3 {
				if err != nil {
					return seen, err
				}
				seen, err = p.decrypted(ctx, p.o.KeyID, decryptBody(e, nil), plaintext)
			}
			return seen, err
		},
	}
}
