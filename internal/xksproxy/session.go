package xksproxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/xksapi"
)

// keyFresh is how long what a token said about a key is believed.
const keyFresh = time.Minute

// session is one login on a token, made or in the making, with what was found
// during it. done is closed when token and err are set.
type session struct {
	done  chan struct{}
	token pkcs11.Token
	err   error
	ended time.Time // when done was closed

	mu   sync.Mutex
	keys map[string]foundKey
}

type foundKey struct {
	handle pkcs11.Handle
	info   KeyInfo
	at     time.Time
}

func newSession() *session {
	return &session{done: make(chan struct{}), keys: map[string]foundKey{}}
}

// find gives the one key with the label, from memory if it was asked for lately.
func (s *session) find(ctx context.Context, label string) (foundKey, error) {
	s.mu.Lock()
	k, ok := s.keys[label]
	s.mu.Unlock()
	if ok && time.Since(k.at) < keyFresh {
		return k, nil
	}
	k, err := s.ask(ctx, label)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.keys, label)
		return foundKey{}, err
	}
	s.keys[label] = k
	return k, nil
}

func (s *session) ask(ctx context.Context, label string) (foundKey, error) {
	handles, err := s.token.FindKeys(ctx, label, nil)
	if err != nil {
		return foundKey{}, err
	}
	switch len(handles) {
	case 1:
	case 0:
		return foundKey{}, errNoKey
	default:
		return foundKey{}, Errorf(xksapi.InternalException, "the key's label is ambiguous").
			Because(fmt.Errorf("%d keys have the label %q", len(handles), label))
	}
	a, err := s.token.Attributes(ctx, handles[0])
	if err != nil {
		return foundKey{}, err
	}
	return foundKey{handle: handles[0], info: infoOf(a), at: time.Now()}, nil
}

func infoOf(a pkcs11.Attributes) KeyInfo {
	const ckkAES = 0x1F
	info := KeyInfo{Spec: fmt.Sprintf("CKK_0x%X", a.KeyType), Enabled: true, Encrypt: a.Encrypt, Decrypt: a.Decrypt}
	if a.KeyType == ckkAES {
		info.Spec = fmt.Sprintf("AES_%d", a.ValueLen*8)
	}
	return info
}
