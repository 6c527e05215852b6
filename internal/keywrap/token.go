package keywrap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"kastellan.dev/internal/kmsapi"
)

// MaxTokenSize is the longest import token that the KMS API carries, in bytes.
const MaxTokenSize = 6144

const (
	tokenPurpose    = "import token"
	tokenVersion    = 1
	tokenHeaderSize = 1 + 1 + 1 + 8
)

// What stands for what in a token. Numbers are never used again for anything else.
var (
	tokenAlgorithms = []kmsapi.AlgorithmSpec{
		1: kmsapi.WrapRSAESOaepSHA1,
		2: kmsapi.WrapRSAESOaepSHA256,
		3: kmsapi.WrapRSAAESKeyWrapSHA1,
		4: kmsapi.WrapRSAAESKeyWrapSHA256,
		5: kmsapi.WrapSM2PKE,
	}
	tokenSpecs = []kmsapi.WrappingKeySpec{
		1: kmsapi.WrappingRSA2048,
		2: kmsapi.WrappingRSA3072,
		3: kmsapi.WrappingRSA4096,
		4: kmsapi.WrappingSM2,
	}
)

// Sealer seals tokens, as rootkey.Sealer says.
type Sealer interface {
	// Seal encrypts and authenticates plaintext for one purpose and context.
	Seal(purpose, context string, plaintext []byte) ([]byte, error)

	// Open undoes Seal, for the same purpose and context only.
	Open(purpose, context string, sealed []byte) ([]byte, error)
}

// Token is what ImportKeyMaterial has to know of the GetParametersForImport before it.
type Token struct {
	KeyARN    string               // of the KMS key that the material is for
	Algorithm kmsapi.AlgorithmSpec // one that is [Allowed] with Key
	Key       *PrivateKey
	NotAfter  time.Time // a token carries it to the millisecond
}

// Seal gives the token as its caller gets it: opaque, and at most [MaxTokenSize] bytes.
func (t *Token) Seal(sealer Sealer) ([]byte, error) {
	if t.KeyARN == "" || t.Key == nil {
		return nil, errors.New("sealing an import token: it has no KMS key or no wrapping key")
	}
	if err := Allowed(t.Algorithm, t.Key.Spec()); err != nil {
		return nil, fmt.Errorf("sealing an import token: %w", err)
	}
	pkcs8, err := t.Key.Marshal()
	if err != nil {
		return nil, fmt.Errorf("sealing an import token: %w", err)
	}
	defer clear(pkcs8)
	plaintext := make([]byte, 0, tokenHeaderSize+len(pkcs8))
	plaintext = append(plaintext, tokenVersion, number(tokenAlgorithms, t.Algorithm), number(tokenSpecs, t.Key.Spec()))
	plaintext = binary.BigEndian.AppendUint64(plaintext, uint64(t.NotAfter.UnixMilli()))
	plaintext = append(plaintext, pkcs8...)
	defer clear(plaintext)
	sealed, err := sealer.Seal(tokenPurpose, t.KeyARN, plaintext)
	if err != nil {
		return nil, fmt.Errorf("sealing an import token: %w", err)
	}
	if len(sealed) > MaxTokenSize {
		return nil, fmt.Errorf("sealing an import token: it has %d bytes, more than %d", len(sealed), MaxTokenSize)
	}
	return sealed, nil
}

func number[T comparable](all []T, value T) byte { return byte(slices.Index(all, value)) }

// OpenToken undoes [Token.Seal]. A token that was changed, or was made for another KMS
// key than keyARN, is an InvalidImportTokenException; one whose NotAfter is before now
// an ExpiredImportTokenException.
func OpenToken(sealer Sealer, sealed []byte, keyARN string, now time.Time) (*Token, error) {
	if len(sealed) == 0 || len(sealed) > MaxTokenSize {
		return nil, invalidToken(fmt.Errorf("it has %d bytes", len(sealed)))
	}
	plaintext, err := sealer.Open(tokenPurpose, keyARN, sealed)
	if err != nil {
		return nil, invalidToken(err)
	}
	defer clear(plaintext)
	t, err := parseToken(plaintext)
	if err != nil {
		return nil, invalidToken(err)
	}
	if now.After(t.NotAfter) {
		return nil, kmsapi.Errorf(kmsapi.ExpiredImportToken,
			"The import token has expired. Call GetParametersForImport for a new token and public key, and encrypt the key material with that key.")
	}
	t.KeyARN = keyARN
	return t, nil
}

func invalidToken(cause error) error {
	return kmsapi.Errorf(kmsapi.InvalidImportToken, "The import token is invalid, or it was issued for another KMS key.").Because(cause)
}

// parseToken reads what was sealed, all but the ARN.
func parseToken(b []byte) (*Token, error) {
	if len(b) < tokenHeaderSize || b[0] != tokenVersion {
		return nil, errors.New("what was sealed is no import token of a version that is known")
	}
	alg, spec := int(b[1]), int(b[2])
	if alg >= len(tokenAlgorithms) || spec >= len(tokenSpecs) {
		return nil, errors.New("the import token names a wrapping algorithm or key that is not known")
	}
	t := &Token{Algorithm: tokenAlgorithms[alg], NotAfter: time.UnixMilli(int64(binary.BigEndian.Uint64(b[3:]))).UTC()}
	if err := Allowed(t.Algorithm, tokenSpecs[spec]); err != nil {
		return nil, err
	}
	var err error
	t.Key, err = Parse(tokenSpecs[spec], b[tokenHeaderSize:])
	return t, err
}
