package pkcs11

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// SigningToken is a Token that also signs with RSA keys of its own. What Open gives is one.
// The keys are RSA-2048 key pairs; their private halves are sensitive, never leave the token, and
// can do nothing else than sign.
type SigningToken interface {
	Token
	// MakeSigningKey makes a key pair that both halves of have the label. It needs a login.
	MakeSigningKey(ctx context.Context, label string) (SigningKey, error)
	// FindSigningKeys gives the key pairs with the label. Without a login it fails with CKR_USER_NOT_LOGGED_IN.
	FindSigningKeys(ctx context.Context, label string) ([]SigningKey, error)
	// Sign signs a SHA-256 digest of 32 bytes with RSASSA-PKCS1-v1_5.
	Sign(ctx context.Context, key SigningKey, digest []byte) ([]byte, error)
}

// SigningKey is a key pair for signatures.
type SigningKey struct {
	Private Handle
	Public  *rsa.PublicKey
}

func (t *token) MakeSigningKey(ctx context.Context, label string) (SigningKey, error) {
	answer, err := t.ask(ctx, &message{code: opMakeSigning, blobs: [][]byte{[]byte(label)}})
	if err != nil {
		return SigningKey{}, err
	}
	keys, err := signingKeys(&answer)
	if err == nil && len(keys) != 1 {
		err = errFrame
	}
	if err != nil {
		return SigningKey{}, err
	}
	return keys[0], nil
}

func (t *token) FindSigningKeys(ctx context.Context, label string) ([]SigningKey, error) {
	answer, err := t.ask(ctx, &message{code: opFindSigning, blobs: [][]byte{[]byte(label)}})
	if err != nil {
		return nil, err
	}
	return signingKeys(&answer)
}

// signingKeys reads the keys of an answer. A public exponent that the token does not tell is 65537.
func signingKeys(m *message) ([]SigningKey, error) {
	if len(m.blobs) != 2*len(m.numbers) {
		return nil, errFrame
	}
	keys := make([]SigningKey, len(m.numbers))
	for i, object := range m.numbers {
		exponent := new(big.Int).SetBytes(m.blobs[2*i+1])
		if len(m.blobs[2*i+1]) == 0 {
			exponent.SetInt64(65537)
		}
		if exponent.BitLen() > 31 {
			return nil, errors.New("pkcs11: a signing key has an exponent of more than 31 bits")
		}
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(m.blobs[2*i]), E: int(exponent.Int64())}
		keys[i] = SigningKey{Private: Handle{Epoch: m.epoch, Object: object}, Public: public}
	}
	return keys, nil
}

func (t *token) Sign(ctx context.Context, key SigningKey, digest []byte) ([]byte, error) {
	if len(digest) != crypto.SHA256.Size() {
		return nil, fmt.Errorf("pkcs11: a digest of %d bytes is not one of SHA-256", len(digest))
	}
	answer, err := t.use(ctx, key.Private, &message{code: opSign, numbers: []uint64{key.Private.Object}, blobs: [][]byte{digest}})
	if err != nil {
		return nil, err
	}
	if len(answer.blob(0)) != key.Public.Size() {
		return nil, errFrame
	}
	return answer.blob(0), nil
}

// NewSigner makes a crypto.Signer of a key. It signs digests of SHA-256 with RSASSA-PKCS1-v1_5,
// refuses everything else, and lasts as long as ctx and the key's handle.
func NewSigner(ctx context.Context, t SigningToken, key SigningKey) crypto.Signer {
	return &signer{ctx: ctx, token: t, key: key}
}

// signer carries a context because crypto.Signer has no place for one.
type signer struct {
	ctx   context.Context
	token SigningToken
	key   SigningKey
}

// Public implements crypto.Signer: an *rsa.PublicKey.
func (s *signer) Public() crypto.PublicKey { return s.key.Public }

// Sign implements crypto.Signer. The token has its own randomness.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, isPSS := opts.(*rsa.PSSOptions); isPSS || opts.HashFunc() != crypto.SHA256 {
		return nil, errors.New("pkcs11: the key signs with RSASSA-PKCS1-v1_5 and SHA-256 only")
	}
	return s.token.Sign(s.ctx, s.key, digest)
}
