package xksproxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy/keyfile"
)

// fileRing is the ring of a key file, or of the same thing in memory.
type fileRing struct {
	name string
	keys *keyfile.File
}

func (r *fileRing) Vendor() string { return vendor }

func (r *fileRing) Close() error { return nil }

func (r *fileRing) Lookup(_ context.Context, labels []string) (Key, error) {
	key, err := r.keys.Key(labels[len(labels)-1])
	if err != nil {
		return nil, errNoKey.Because(err)
	}
	return fileKey{key}, nil
}

func (r *fileRing) Health(context.Context) []Member {
	started := time.Now()
	m := Member{ID: r.name, Model: "sealed key file", Status: xksapi.Active}
	if err := r.probe(); err != nil {
		m.Status, m.Detail = xksapi.Unavailable, err.Error()
	}
	m.Took = time.Since(started)
	return []Member{m}
}

func (r *fileRing) probe() error {
	plaintext := make([]byte, 32)
	rand.Read(plaintext)
	iv, ciphertext, tag, metadata, err := r.keys.Health().Seal(plaintext, nil)
	if err != nil {
		return err
	}
	back, err := r.keys.Health().Open(iv, ciphertext, tag, metadata, nil)
	if err != nil {
		return err
	}
	if !bytes.Equal(back, plaintext) {
		return errors.New("the test decryption gave another plaintext")
	}
	return nil
}

type fileKey struct{ key *keyfile.Key }

func (k fileKey) Info() KeyInfo {
	return KeyInfo{Spec: xksapi.KeySpecAES256, Enabled: k.key.Enabled, Encrypt: k.key.Encrypt, Decrypt: k.key.Decrypt}
}

func (k fileKey) Encrypt(_ context.Context, plaintext, aad []byte) (Sealed, error) {
	iv, ciphertext, tag, metadata, err := k.key.Newest().Seal(plaintext, aad)
	return Sealed{IV: iv, Ciphertext: ciphertext, Tag: tag, Metadata: metadata}, err
}

func (k fileKey) Decrypt(_ context.Context, in Sealed, aad []byte) ([]byte, error) {
	number, ok := keyfile.VersionOf(in.Metadata)
	if !ok {
		return nil, errCiphertext
	}
	version, ok := k.key.Version(number)
	if !ok {
		return nil, errCiphertext
	}
	plaintext, err := version.Open(in.IV, in.Ciphertext, in.Tag, in.Metadata, aad)
	if errors.Is(err, keyfile.ErrCiphertext) {
		return nil, errCiphertext
	}
	return plaintext, err
}
