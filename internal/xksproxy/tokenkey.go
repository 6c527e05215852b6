package xksproxy

import (
	"context"
	"encoding/binary"
	"errors"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/xksapi"
)

// tokenKey is a key of a token ring. Its versions are objects with labels of
// their own; the ciphertext metadata of all but the first says which:
//
//	byte  0       0x02: direct key
//	      1..4    version, big-endian, from 2
//
// The first version has no metadata, and metadata of any other form are taken for
// the first version's: they are authenticated, so that ciphertexts of another
// proxy that follows the specification's layout stay readable.
type tokenKey struct {
	ring   *tokenRing
	labels []string
	info   KeyInfo
}

const (
	formDirect         = 0x02
	directMetadataSize = 1 + 4
)

func (k *tokenKey) Info() KeyInfo { return k.info }

func (k *tokenKey) Encrypt(ctx context.Context, plaintext, aad []byte) (Sealed, error) {
	metadata := directMetadata(len(k.labels))
	framed, err := xksapi.GCMAAD(aad, metadata)
	if err != nil {
		return Sealed{}, err
	}
	var out pkcs11.GCM
	err = k.ring.do(ctx, func(ctx context.Context, m *member, s *session) error {
		found, err := s.find(ctx, k.labels[len(k.labels)-1])
		if err != nil {
			return err
		}
		out, err = s.token.EncryptGCM(ctx, found.handle, plaintext, framed)
		return named(err)
	})
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{IV: out.IV, Ciphertext: out.Ciphertext, Tag: out.Tag, Metadata: metadata}, nil
}

func (k *tokenKey) Decrypt(ctx context.Context, in Sealed, aad []byte) ([]byte, error) {
	version := directVersion(in.Metadata)
	if version > len(k.labels) {
		return nil, errCiphertext
	}
	framed, err := xksapi.GCMAAD(aad, in.Metadata)
	if err != nil {
		return nil, errCiphertext
	}
	var plaintext []byte
	err = k.ring.do(ctx, func(ctx context.Context, m *member, s *session) error {
		found, err := s.find(ctx, k.labels[version-1])
		if err != nil {
			return err
		}
		sealed := pkcs11.GCM{IV: in.IV, Ciphertext: in.Ciphertext, Tag: in.Tag}
		plaintext, err = s.token.DecryptGCM(ctx, found.handle, sealed, framed)
		return m.judge(ctx, s, err)
	})
	return plaintext, err
}

// judge tells a ciphertext that is wrong from a token that is broken, where the
// token's answer leaves that open: one that still works was right to refuse.
func (m *member) judge(ctx context.Context, s *session, err error) error {
	switch {
	case pkcs11.IsAuthentication(err):
		return errCiphertext.Because(err)
	case pkcs11.MaybeAuthentication(err):
		if test := m.test(ctx, s); test == nil || errors.Is(test, errNoHealthKey) {
			return errCiphertext.Because(err)
		}
	}
	return named(err)
}

// named gives the return values of a cryptographic call their names in the XKS Proxy API.
func named(err error) error {
	if errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED}) {
		return errUsage.Because(err)
	}
	return err
}

func directMetadata(version int) []byte {
	if version == 1 {
		return nil
	}
	return binary.BigEndian.AppendUint32([]byte{formDirect}, uint32(version))
}

func directVersion(metadata []byte) int {
	if len(metadata) != directMetadataSize || metadata[0] != formDirect {
		return 1
	}
	if v := binary.BigEndian.Uint32(metadata[1:]); v >= 2 && v <= maxVersions {
		return int(v)
	}
	return 1
}

// maxVersions is how many versions of a key the configuration may name.
const maxVersions = 1000
