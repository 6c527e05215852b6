package check

import (
	"context"
	"slices"

	"kastellan.dev/internal/xksapi"
)

// tampering is a change to a decrypt request that must be found out.
type tampering struct {
	id, title string
	level     Level              // empty means Must
	names     []xksapi.ErrorName // nil means InvalidCiphertextException alone
	needs     needs
	change    func(e, other xksapi.EncryptResponse, body object) // other is of the same key
}

// needs says for which proxies a tampering makes sense.
type needs int

const (
	anything needs = iota
	someMetadata
	noMetadata // the specification speaks of changed metadata, and KMS sends none that it did not get
)

// rejected: what has a wrong length is invalid input or no ciphertext, and of ciphertext
// metadata the specification says only that a change must be found out.
var rejected = []xksapi.ErrorName{xksapi.InvalidCiphertextException, xksapi.ValidationException}

// changed changes one member of the request.
func changed(member string, value func(e xksapi.EncryptResponse) []byte) func(e, other xksapi.EncryptResponse, body object) {
	return func(e, _ xksapi.EncryptResponse, b object) { b[member] = value(e) }
}

const (
	inCiphertext = "ciphertext"
	inIV         = "initializationVector"
	inTag        = "authenticationTag"
	inAAD        = "additionalAuthenticatedData"
	inMetadata   = "ciphertextMetadata"
)

var tamperings = []tampering{
	{id: "ciphertext", title: "A changed ciphertext", change: changed(inCiphertext, func(e xksapi.EncryptResponse) []byte { return flipped(e.Ciphertext, -1) })},
	{id: "ciphertext-begin", title: "A ciphertext changed at its begin", change: changed(inCiphertext, func(e xksapi.EncryptResponse) []byte { return flipped(e.Ciphertext, 0) })},
	{id: "ciphertext-cut", title: "A ciphertext cut short", change: changed(inCiphertext, func(e xksapi.EncryptResponse) []byte { return e.Ciphertext[:len(e.Ciphertext)-1] })},
	{id: "ciphertext-longer", title: "A ciphertext with a byte more", change: changed(inCiphertext, func(e xksapi.EncryptResponse) []byte { return append(slices.Clip(e.Ciphertext), 0) })},
	{id: "ciphertext-empty", title: "An empty ciphertext", names: rejected, change: changed(inCiphertext, func(xksapi.EncryptResponse) []byte { return []byte{} })},
	{id: "ciphertext-of-another", title: "The ciphertext of another message", change: func(_, other xksapi.EncryptResponse, b object) { b[inCiphertext] = other.Ciphertext }},
	{id: "iv", title: "A changed initialization vector", change: changed(inIV, func(e xksapi.EncryptResponse) []byte { return flipped(e.InitializationVector, -1) })},
	{id: "iv-begin", title: "An initialization vector changed at its begin", change: changed(inIV, func(e xksapi.EncryptResponse) []byte { return flipped(e.InitializationVector, 0) })},
	{id: "iv-of-another", title: "The initialization vector of another message", change: func(_, other xksapi.EncryptResponse, b object) { b[inIV] = other.InitializationVector }},
	{id: "short-iv", title: "An initialization vector of 8 bytes", names: rejected, change: changed(inIV, func(e xksapi.EncryptResponse) []byte { return e.InitializationVector[:8] })},
	{id: "empty-iv", title: "An empty initialization vector", names: rejected, change: changed(inIV, func(xksapi.EncryptResponse) []byte { return []byte{} })},
	{id: "tag", title: "A changed tag", change: changed(inTag, func(e xksapi.EncryptResponse) []byte { return flipped(e.AuthenticationTag, -1) })},
	{id: "tag-begin", title: "A tag changed at its begin", change: changed(inTag, func(e xksapi.EncryptResponse) []byte { return flipped(e.AuthenticationTag, 0) })},
	{id: "tag-of-another", title: "The tag of another message", change: func(_, other xksapi.EncryptResponse, b object) { b[inTag] = other.AuthenticationTag }},
	{id: "short-tag", title: "A tag of 12 bytes", names: rejected, change: changed(inTag, func(e xksapi.EncryptResponse) []byte { return e.AuthenticationTag[:12] })},
	{id: "empty-tag", title: "An empty tag", names: rejected, change: changed(inTag, func(xksapi.EncryptResponse) []byte { return []byte{} })},
	{id: "aad", title: "Changed additional data", change: changed(inAAD, func(xksapi.EncryptResponse) []byte { return flipped(exampleAAD, -1) })},
	{id: "aad-begin", title: "Additional data changed at their begin", change: changed(inAAD, func(xksapi.EncryptResponse) []byte { return flipped(exampleAAD, 0) })},
	{id: "aad-longer", title: "Additional data with a byte more", change: changed(inAAD, func(xksapi.EncryptResponse) []byte { return append(slices.Clip(exampleAAD), 0) })},
	{id: "aad-absent", title: "Additional data left out", change: func(_, _ xksapi.EncryptResponse, b object) { delete(b, inAAD) }},
	{id: "metadata", title: "Changed ciphertext metadata", needs: someMetadata, names: rejected, change: changed(inMetadata, func(e xksapi.EncryptResponse) []byte { return flipped(e.CiphertextMetadata, -1) })},
	{id: "metadata-begin", title: "Ciphertext metadata changed at their begin", needs: someMetadata, names: rejected, change: changed(inMetadata, func(e xksapi.EncryptResponse) []byte { return flipped(e.CiphertextMetadata, 0) })},
	{id: "metadata-absent", title: "Ciphertext metadata left out", needs: someMetadata, names: rejected,
		change: func(_, _ xksapi.EncryptResponse, b object) { delete(b, inMetadata) }},
	{id: "metadata-moved", title: "Ciphertext metadata moved to the end of the additional data", needs: someMetadata, names: rejected,
		change: func(e, _ xksapi.EncryptResponse, b object) {
			delete(b, inMetadata)
			b[inAAD] = slices.Concat(exampleAAD, e.CiphertextMetadata)
		}},
	{id: "metadata-long", title: "Ciphertext metadata of 21 bytes", needs: someMetadata, names: rejected,
		change: changed(inMetadata, func(e xksapi.EncryptResponse) []byte {
			return append(slices.Clip(e.CiphertextMetadata), make([]byte, 21-len(e.CiphertextMetadata))...)
		})},
	{id: "metadata-added", title: "Ciphertext metadata where there were none", needs: noMetadata, level: Should, names: rejected,
		change: changed(inMetadata, func(xksapi.EncryptResponse) []byte { return []byte("added") })},
	{id: "metadata-from-aad", title: "The end of the additional data moved to the ciphertext metadata", needs: noMetadata, names: rejected,
		change: func(_, _ xksapi.EncryptResponse, b object) {
			b[inAAD], b[inMetadata] = exampleAAD[:len(exampleAAD)-5], exampleAAD[len(exampleAAD)-5:]
		}},
}

// flipped changes one bit of the byte at a place; -1 is the last.
func flipped(b []byte, at int) []byte {
	out := slices.Clone(b)
	out[(at+len(out))%len(out)] ^= 1
	return out
}

func (t tampering) testCase() testCase {
	names := t.names
	if names == nil {
		names = []xksapi.ErrorName{xksapi.InvalidCiphertextException}
	}
	c := testCase{id: "decrypt.tampered." + t.id, title: t.title, level: Must, expected: expectation(names)}
	if t.level != "" {
		c.level = t.level
	}
	c.run = func(ctx context.Context, p *prober) (string, error) {
		e, seen, err := p.encrypted(ctx, p.o.KeyID, encryptBody([]byte("Hello, world"), exampleAAD))
		if err != nil {
			return seen, err
		}
		if err := t.fits(e); err != nil {
			return "", err
		}
		other, seen, err := p.encrypted(ctx, p.o.KeyID, encryptBody([]byte("Hello, moon!"), exampleAAD))
		if err != nil {
			return seen, err
		}
		body := decryptBody(e, exampleAAD)
		t.change(e, other, body)
		a, err := p.post(ctx, p.expand(decryptPath), body)
		if err != nil {
			return "", err
		}
		return a.wantError(names...)
	}
	return c
}

func (t tampering) fits(e xksapi.EncryptResponse) error {
	switch has := len(e.CiphertextMetadata) > 0; {
	case t.needs == someMetadata && !has:
		return skipped("the proxy gives no ciphertext metadata")
	case t.needs == noMetadata && has:
		return skipped("the proxy gives ciphertext metadata")
	}
	return nil
}

func decryptCases() []testCase {
	var cases []testCase
	for _, t := range tamperings {
		cases = append(cases, t.testCase())
	}
	full := decryptBody(xksapi.EncryptResponse{
		Ciphertext: make([]byte, 12), InitializationVector: make([]byte, 12), AuthenticationTag: make([]byte, 16),
	}, exampleAAD)
	genuine := func(ctx context.Context, p *prober) (object, error) {
		e, _, err := p.encrypted(ctx, p.o.KeyID, encryptBody([]byte("Hello, world"), exampleAAD))
		return decryptBody(e, exampleAAD), err
	}
	cases = append(cases,
		errorCase("decrypt.unknown-key", "Decrypt with a key that is not there", "/keys/{unknown}/decrypt", full, xksapi.KeyNotFoundException),
		errorCase("decrypt.forged", "A ciphertext that the key never made", decryptPath, full, xksapi.InvalidCiphertextException),
		errorCase("decrypt.algorithm", "Another encryptionAlgorithm", decryptPath, full.with(object{"encryptionAlgorithm": "AES_CBC"}),
			xksapi.ValidationException, xksapi.UnsupportedOperationException),
		errorCase("decrypt.not-base64", "A ciphertext that is not base64", decryptPath, full.with(object{inCiphertext: "not*base64"}), rejected...),
		repeatCase(), otherKeyCase(),
		kmsOperationCase("decrypt.operation.ReEncrypt", "Decrypt on behalf of ReEncrypt", "ReEncrypt", decryptPath, genuine),
		kmsOperationCase("decrypt.operation.unknown", "A kmsOperation that nobody knows is not invalid", "SomethingNew", decryptPath, genuine),
	)
	return append(cases, missingCases("decrypt", decryptPath, full, []string{"awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId"},
		[]string{inCiphertext, inIV, inTag, "encryptionAlgorithm"})...)
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

// otherKeyCase is no MUST: two ids may stand for one key.
func otherKeyCase() testCase {
	names := []xksapi.ErrorName{xksapi.InvalidCiphertextException}
	return testCase{
		id: "decrypt.other-key", title: "A ciphertext of another key", level: Should, expected: expectation(names),
		run: func(ctx context.Context, p *prober) (string, error) {
			if p.o.DecryptOnlyKeyID == "" {
				return "", noKey
			}
			e, seen, err := p.encrypted(ctx, p.o.KeyID, encryptBody([]byte("Hello, world"), exampleAAD))
			if err != nil {
				return seen, err
			}
			a, err := p.post(ctx, keyPath(p.o.DecryptOnlyKeyID, "decrypt"), decryptBody(e, exampleAAD))
			if err != nil {
				return "", err
			}
			return a.wantError(names...)
		},
	}
}
