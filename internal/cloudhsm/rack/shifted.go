package rack

import (
	"context"
	"errors"
	"sync/atomic"

	"kastellan.dev/internal/pkcs11"
)

// shifted is a token whose handles have other epochs outside: later ones by a fixed number. A
// token that is opened anew counts its epochs from one, and a user who logs in again meets
// objects that still have their numbers; with a number that grows each time, handles from
// before come out as older than any, and are refused with ErrLost as they must be.
type shifted struct {
	pkcs11.Token
	by  uint32
	top atomic.Uint32 // the latest epoch that was told
}

// highest is the latest epoch that handles outside have.
func (t *shifted) highest() uint32 { return t.by + t.top.Load() }

// out makes a handle of the token one for outside.
func (t *shifted) out(h pkcs11.Handle) pkcs11.Handle {
	if h.Epoch == 0 {
		return h
	}
	for top := t.top.Load(); h.Epoch > top && !t.top.CompareAndSwap(top, h.Epoch); top = t.top.Load() {
	}
	h.Epoch += t.by
	return h
}

// in undoes out. A handle from before becomes the zero Handle, which names nothing.
func (t *shifted) in(h pkcs11.Handle) pkcs11.Handle {
	if h.Epoch <= t.by {
		return pkcs11.Handle{}
	}
	h.Epoch -= t.by
	return h
}

func (t *shifted) GenerateKey(ctx context.Context, template pkcs11.Template) (pkcs11.Handle, error) {
	h, err := t.Token.GenerateKey(ctx, template)
	return t.out(h), err
}

func (t *shifted) FindKeys(ctx context.Context, label string, id []byte) ([]pkcs11.Handle, error) {
	handles, err := t.Token.FindKeys(ctx, label, id)
	for i := range handles {
		handles[i] = t.out(handles[i])
	}
	return handles, err
}

func (t *shifted) ListKeys(ctx context.Context) ([]pkcs11.Object, error) {
	objects, err := t.Token.ListKeys(ctx)
	for i := range objects {
		objects[i].Handle = t.out(objects[i].Handle)
	}
	return objects, err
}

func (t *shifted) Attributes(ctx context.Context, key pkcs11.Handle) (pkcs11.Attributes, error) {
	return t.Token.Attributes(ctx, t.in(key))
}

func (t *shifted) Destroy(ctx context.Context, key pkcs11.Handle) error {
	return t.Token.Destroy(ctx, t.in(key))
}

func (t *shifted) EncryptGCM(ctx context.Context, key pkcs11.Handle, plaintext, aad []byte) (pkcs11.GCM, error) {
	return t.Token.EncryptGCM(ctx, t.in(key), plaintext, aad)
}

func (t *shifted) DecryptGCM(ctx context.Context, key pkcs11.Handle, in pkcs11.GCM, aad []byte) ([]byte, error) {
	return t.Token.DecryptGCM(ctx, t.in(key), in, aad)
}

func (t *shifted) WrapKey(ctx context.Context, wrapping, key pkcs11.Handle) ([]byte, error) {
	return t.Token.WrapKey(ctx, t.in(wrapping), t.in(key))
}

func (t *shifted) UnwrapKey(ctx context.Context, wrapping pkcs11.Handle, wrapped []byte, template pkcs11.Template) (pkcs11.Handle, error) {
	h, err := t.Token.UnwrapKey(ctx, t.in(wrapping), wrapped, template)
	return t.out(h), err
}

func (t *shifted) MakeTransportKey(ctx context.Context) (pkcs11.TransportKey, error) {
	pair, err := t.Token.MakeTransportKey(ctx)
	pair.Private, pair.PublicHandle = t.out(pair.Private), t.out(pair.PublicHandle)
	return pair, err
}

func (t *shifted) WrapForTransport(ctx context.Context, to pkcs11.TransportPublic, key pkcs11.Handle) ([]byte, error) {
	return t.Token.WrapForTransport(ctx, to, t.in(key))
}

func (t *shifted) UnwrapFromTransport(ctx context.Context, pair pkcs11.TransportKey, wrapped []byte, template pkcs11.Template) (pkcs11.Handle, error) {
	pair.Private, pair.PublicHandle = t.in(pair.Private), t.in(pair.PublicHandle)
	h, err := t.Token.UnwrapFromTransport(ctx, pair, wrapped, template)
	return t.out(h), err
}

// errNoSigning: the token is not what pkcs11.Open gives.
var errNoSigning = errors.New("rack: the token makes no keys for signatures")

func (t *shifted) MakeSigningKey(ctx context.Context, label string) (pkcs11.SigningKey, error) {
	token, ok := t.Token.(pkcs11.SigningToken)
	if !ok {
		return pkcs11.SigningKey{}, errNoSigning
	}
	key, err := token.MakeSigningKey(ctx, label)
	key.Private = t.out(key.Private)
	return key, err
}

func (t *shifted) FindSigningKeys(ctx context.Context, label string) ([]pkcs11.SigningKey, error) {
	token, ok := t.Token.(pkcs11.SigningToken)
	if !ok {
		return nil, errNoSigning
	}
	keys, err := token.FindSigningKeys(ctx, label)
	for i := range keys {
		keys[i].Private = t.out(keys[i].Private)
	}
	return keys, err
}

func (t *shifted) Sign(ctx context.Context, key pkcs11.SigningKey, digest []byte) ([]byte, error) {
	token, ok := t.Token.(pkcs11.SigningToken)
	if !ok {
		return nil, errNoSigning
	}
	key.Private = t.in(key.Private)
	return token.Sign(ctx, key, digest)
}
