package pkcs11

import "context"

// Inspector is a Token that can be asked what only those want to know who judge a
// module. What Open gives is one.
type Inspector interface {
	Token
	// ReadsValue tells whether the module gives out the key's bytes, which it
	// must not. They do not leave the module's process; the error says how it refused.
	ReadsValue(ctx context.Context, key Handle) (bool, error)
	// WrapsWith fails if the module does not wrap key under wrapping with that one
	// mechanism (CKM_), without parameters. The result is thrown away.
	WrapsWith(ctx context.Context, mechanism uint, wrapping, key Handle) error
}

func (t *token) ReadsValue(ctx context.Context, key Handle) (bool, error) {
	answer, err := t.use(ctx, key, &message{code: opReadValue, numbers: []uint64{key.Object}})
	return err == nil && answer.number(0) > 0, err
}

func (t *token) WrapsWith(ctx context.Context, mechanism uint, wrapping, key Handle) error {
	if wrapping.Epoch != key.Epoch {
		return ErrLost
	}
	_, err := t.use(ctx, key, &message{code: opWrapWith, numbers: []uint64{wrapping.Object, key.Object, uint64(mechanism)}})
	return err
}
