package pkcs11

import (
	"context"
	"errors"
	"fmt"

	"kastellan.dev/internal/secret"
)

// Sizes of AES-GCM in bytes.
const (
	gcmIVSize  = 12
	gcmTagSize = 16
)

// maxRandom is the largest n of Random: far above what anybody asks for.
const maxRandom = 64 << 10

// backend carries questions to the module, into a child process or within
// this one.
type backend interface {
	// call asks. It reads the question's blobs only until it returns.
	call(ctx context.Context, question *message) (answer message, err error)
	close() error
}

// token implements Token: it turns methods into messages.
type token struct {
	backend backend
}

func (t *token) Info(ctx context.Context) (TokenInfo, error) {
	answer, err := t.ask(ctx, &message{code: opInfo})
	if err != nil {
		return TokenInfo{}, err
	}
	return infoOf(&answer), nil
}

func (t *token) Login(ctx context.Context, pin secret.Text) error {
	return t.tell(ctx, opLogin, pin)
}

func (t *token) Logout(ctx context.Context) error {
	return t.tell(ctx, opLogout)
}

func (t *token) SetPIN(ctx context.Context, old, new secret.Text) error {
	return t.tell(ctx, opSetPIN, old, new)
}

// tell asks a question that has PINs and no answer.
func (t *token) tell(ctx context.Context, op code, pins ...secret.Text) error {
	question := message{code: op}
	defer question.wipe()
	for _, pin := range pins {
		question.blobs = append(question.blobs, []byte(pin.Reveal()))
	}
	_, err := t.ask(ctx, &question)
	return err
}

func (t *token) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 0 || n > maxRandom {
		return nil, fmt.Errorf("pkcs11: %d random bytes are not to be had at once", n)
	}
	if n == 0 {
		return []byte{}, nil
	}
	answer, err := t.ask(ctx, &message{code: opRandom, numbers: []uint64{uint64(n)}})
	if err != nil {
		return nil, err
	}
	if len(answer.blob(0)) != n {
		return nil, errFrame
	}
	return answer.blob(0), nil
}

func (t *token) GenerateKey(ctx context.Context, template Template) (Handle, error) {
	op := opGenerateKey
	if !template.Token {
		op = opGenerateSession
	}
	return t.makeObject(ctx, &message{code: op, numbers: []uint64{template.flags()}, blobs: [][]byte{[]byte(template.Label), template.ID}})
}

// makeObject asks a question whose answer is one object.
func (t *token) makeObject(ctx context.Context, question *message) (Handle, error) {
	answer, err := t.ask(ctx, question)
	if err != nil {
		return Handle{}, err
	}
	if len(answer.numbers) != 1 {
		return Handle{}, errFrame
	}
	return Handle{Epoch: answer.epoch, Object: answer.numbers[0]}, nil
}

func (t *token) FindKeys(ctx context.Context, label string, id []byte) ([]Handle, error) {
	withID := uint64(0)
	if id != nil {
		withID = 1
	}
	answer, err := t.ask(ctx, &message{code: opFind, numbers: []uint64{withID}, blobs: [][]byte{[]byte(label), id}})
	if err != nil {
		return nil, err
	}
	handles := make([]Handle, len(answer.numbers))
	for i, object := range answer.numbers {
		handles[i] = Handle{Epoch: answer.epoch, Object: object}
	}
	return handles, nil
}

func (t *token) ListKeys(ctx context.Context) ([]Object, error) {
	answer, err := t.ask(ctx, &message{code: opList})
	if err != nil {
		return nil, err
	}
	if len(answer.blobs) != 2*len(answer.numbers) {
		return nil, errFrame
	}
	objects := make([]Object, len(answer.numbers))
	for i, object := range answer.numbers {
		objects[i] = Object{
			Handle: Handle{Epoch: answer.epoch, Object: object},
			Label:  string(answer.blobs[2*i]),
			ID:     answer.blobs[2*i+1],
		}
	}
	return objects, nil
}

func (t *token) Attributes(ctx context.Context, key Handle) (Attributes, error) {
	answer, err := t.use(ctx, key, &message{code: opAttributes, numbers: []uint64{key.Object}})
	if err != nil {
		return Attributes{}, err
	}
	return attributesOf(&answer), nil
}

// use asks a question about key.
func (t *token) use(ctx context.Context, key Handle, question *message) (message, error) {
	if key.Epoch == 0 {
		return message{}, ErrLost
	}
	question.epoch = key.Epoch
	return t.ask(ctx, question)
}

func (t *token) Destroy(ctx context.Context, key Handle) error {
	_, err := t.use(ctx, key, &message{code: opDestroy, numbers: []uint64{key.Object}})
	return err
}

func (t *token) EncryptGCM(ctx context.Context, key Handle, plaintext, aad []byte) (GCM, error) {
	answer, err := t.use(ctx, key, &message{code: opEncrypt, numbers: []uint64{key.Object}, blobs: [][]byte{plaintext, aad}})
	if err != nil {
		return GCM{}, err
	}
	iv, sealed := answer.blob(0), answer.blob(1)
	if !validIV(iv) || len(sealed) != len(plaintext)+gcmTagSize {
		return GCM{}, errFrame
	}
	n := len(plaintext)
	return GCM{IV: iv, Ciphertext: sealed[:n:n], Tag: sealed[n:]}, nil
}

func validIV(iv []byte) bool { return len(iv) == gcmIVSize || len(iv) == 16 }

func (t *token) DecryptGCM(ctx context.Context, key Handle, in GCM, aad []byte) ([]byte, error) {
	if !validIV(in.IV) || len(in.Tag) != gcmTagSize {
		return nil, &Error{Function: "C_Decrypt", RV: CKR_ENCRYPTED_DATA_LEN_RANGE}
	}
	sealed := make([]byte, 0, len(in.Ciphertext)+gcmTagSize)
	sealed = append(append(sealed, in.Ciphertext...), in.Tag...)
	answer, err := t.use(ctx, key, &message{code: opDecrypt, numbers: []uint64{key.Object}, blobs: [][]byte{in.IV, sealed, aad}})
	if err != nil {
		return nil, err
	}
	if len(answer.blob(0)) != len(in.Ciphertext) {
		return nil, errFrame
	}
	return answer.blob(0), nil
}

func (t *token) WrapKey(ctx context.Context, wrapping, key Handle) ([]byte, error) {
	if wrapping.Epoch != key.Epoch {
		return nil, ErrLost
	}
	answer, err := t.use(ctx, key, &message{code: opWrap, numbers: []uint64{wrapping.Object, key.Object}})
	return answer.blob(0), err
}

func (t *token) UnwrapKey(ctx context.Context, wrapping Handle, wrapped []byte, template Template) (Handle, error) {
	op := opUnwrap
	if !template.Token {
		op = opUnwrapSession
	}
	return t.unwrap(ctx, op, wrapping, wrapped, template)
}

func (t *token) unwrap(ctx context.Context, op code, with Handle, wrapped []byte, template Template) (Handle, error) {
	if with.Epoch == 0 {
		return Handle{}, ErrLost
	}
	if len(wrapped) == 0 {
		return Handle{}, errors.New("pkcs11: there is no wrapped key")
	}
	return t.makeObject(ctx, &message{
		code:    op,
		epoch:   with.Epoch,
		numbers: []uint64{with.Object, template.flags()},
		blobs:   [][]byte{wrapped, []byte(template.Label), template.ID},
	})
}

func (t *token) MakeTransportKey(ctx context.Context) (TransportKey, error) {
	answer, err := t.ask(ctx, &message{code: opMakeTransport})
	if err != nil {
		return TransportKey{}, err
	}
	if len(answer.numbers) != 3 || len(answer.blobs) != 2 {
		return TransportKey{}, errFrame
	}
	return TransportKey{
		Public:       TransportPublic{Modulus: answer.blobs[0], Exponent: answer.blobs[1], SHA1Only: answer.numbers[2] != 0},
		Private:      Handle{Epoch: answer.epoch, Object: answer.numbers[0]},
		PublicHandle: Handle{Epoch: answer.epoch, Object: answer.numbers[1]},
	}, nil
}

func (t *token) WrapForTransport(ctx context.Context, to TransportPublic, key Handle) ([]byte, error) {
	answer, err := t.use(ctx, key, &message{
		code:    opWrapTransport,
		numbers: []uint64{key.Object, bits(to.SHA1Only)},
		blobs:   [][]byte{to.Modulus, to.Exponent},
	})
	return answer.blob(0), err
}

func (t *token) UnwrapFromTransport(ctx context.Context, pair TransportKey, wrapped []byte, template Template) (Handle, error) {
	return t.unwrap(ctx, opUnwrapTransport, pair.Private, wrapped, template)
}

func (t *token) Close() error { return t.backend.close() }
