package hsm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"kastellan.dev/internal/pkcs11"
)

// Labels of keys that are not for users.
const (
	clusterKeyPrefix = "kastellan cluster key "
	probeLabel       = "kastellan probe"
)

// ClusterKeyLabel is the label of a cluster's cluster key on its HSMs, for who marks it trusted there.
func ClusterKeyLabel(clusterID string) string { return clusterKeyPrefix + clusterID }

// IsOwn tells keys that are not for users from those that are carried: the ones by which these are, and what has no name. SoftHSM2
// leaves such an object where making a key was broken off; every key that somebody can ask for has a label or an id.
func IsOwn(label string, id []byte) bool {
	return label == probeLabel || strings.HasPrefix(label, clusterKeyPrefix) || label == "" && len(id) == 0
}

func clusterKeyTemplate(label string) pkcs11.Template {
	return pkcs11.Template{Label: label, Token: true, Wrap: true, Extractable: true}
}

// ckkAES is CKK_AES.
const ckkAES = 0x1F

// clusterKeys finds the objects that are a cluster key on the member. There can be
// more than one when two processes restored it at the same time.
func (s *stay) clusterKeys(ctx context.Context) ([]pkcs11.Handle, error) {
	found, err := s.find(ctx, s.keyLabel, nil)
	if err != nil {
		return nil, fmt.Errorf("finding the cluster key: %w", err)
	}
	return found, nil
}

// adopt takes a cluster key that the member has into use, after checking that
// it can wrap keys and nothing else.
func (s *stay) adopt(ctx context.Context, h pkcs11.Handle) error {
	a, err := s.token.Attributes(ctx, h)
	if err != nil {
		return fmt.Errorf("reading the cluster key's attributes: %w", err)
	}
	length := a.ValueLen == 32 || a.ValueLen == 0 // SoftHSM2 does not tell it of a key that was unwrapped
	if !a.Wrap || !a.Unwrap || a.Encrypt || a.Decrypt || !a.Sensitive || a.KeyType != ckkAES || !length {
		return errUnfit
	}
	s.cluster.Store(&clusterKey{handle: h, trusted: a.Trusted})
	return nil
}

// makeClusterKey makes the cluster key in the member.
func (s *stay) makeClusterKey(ctx context.Context) error {
	var h pkcs11.Handle
	err := s.alone(ctx, func() (err error) {
		h, err = s.token.GenerateKey(ctx, clusterKeyTemplate(s.keyLabel))
		return err
	})
	if err != nil {
		return fmt.Errorf("generating the cluster key: %w", err)
	}
	return s.adopt(ctx, h)
}

// align makes the member's cluster key the donor's: carries it over if it is
// missing, and compares otherwise. With donor nil it takes what is there,
// which may be nothing.
func (s *stay) align(ctx context.Context, donor *stay) error {
	found, err := s.clusterKeys(ctx)
	if err != nil {
		return err
	}
	if len(found) == 0 && donor != nil {
		h, err := carry(ctx, donor, s)
		if err != nil {
			return err
		}
		found = []pkcs11.Handle{h}
	}
	if len(found) == 0 {
		return nil
	}
	from, key := s, found[0]
	if donor != nil {
		from, key = donor, donor.cluster.Load().handle
	}
	for i, h := range found {
		if donor == nil && i == 0 {
			continue
		}
		if err := compare(ctx, from, key, s, h); err != nil {
			return err
		}
	}
	return s.adopt(ctx, found[0])
}

// carry takes the donor's cluster key to another HSM, under an RSA key that the
// receiver made for this and whose private half never leaves it. It gets the label
// that the receiver knows the key by: that of its own cluster.
func carry(ctx context.Context, donor, to *stay) (pkcs11.Handle, error) {
	pair, err := to.token.MakeTransportKey(ctx)
	if err != nil {
		return pkcs11.Handle{}, fmt.Errorf("making a transport key: %w", err)
	}
	defer to.discard(ctx, pair.Private, pair.PublicHandle)
	wrapped, err := donor.token.WrapForTransport(ctx, pair.Public, donor.cluster.Load().handle)
	if err != nil {
		return pkcs11.Handle{}, fmt.Errorf("wrapping the cluster key on %s: %w", donor.id, err)
	}
	var h pkcs11.Handle
	err = to.alone(ctx, func() (err error) {
		h, err = to.token.UnwrapFromTransport(ctx, pair, wrapped, clusterKeyTemplate(to.keyLabel))
		return err
	})
	if err != nil {
		return pkcs11.Handle{}, fmt.Errorf("unwrapping the cluster key: %w", err)
	}
	return h, nil
}

// compare fails with errDiverged unless two cluster keys are the same: a key for this
// one test goes from one member to the other under them, and what the one
// encrypts with it the other has to decrypt.
func compare(ctx context.Context, a *stay, keyA pkcs11.Handle, b *stay, keyB pkcs11.Handle) error {
	probe := pkcs11.Template{Label: probeLabel, Encrypt: true, Extractable: true}
	onA, err := a.token.GenerateKey(ctx, probe)
	if err != nil {
		return fmt.Errorf("making a probe on %s: %w", a.id, err)
	}
	defer a.discard(ctx, onA)
	wrapped, err := a.token.WrapKey(ctx, keyA, onA)
	if err != nil {
		return fmt.Errorf("wrapping a probe on %s: %w", a.id, err)
	}
	onB, err := b.token.UnwrapKey(ctx, keyB, wrapped, probe)
	if err != nil {
		return diverged(a, b, fmt.Errorf("unwrapping a probe on %s: %w", b.id, err))
	}
	defer b.discard(ctx, onB)
	sealed, err := a.token.EncryptGCM(ctx, onA, knownText, nil)
	if err != nil {
		return fmt.Errorf("encrypting with a probe on %s: %w", a.id, err)
	}
	if _, err = b.token.DecryptGCM(ctx, onB, sealed, nil); err != nil {
		return diverged(a, b, fmt.Errorf("decrypting with a probe on %s: %w", b.id, err))
	}
	return nil
}

// diverged turns a return value about wrong bytes into errDiverged.
func diverged(a, b *stay, err error) error {
	if !pkcs11.MaybeAuthentication(err) && !hasRV(err, pkcs11.CKR_WRAPPED_KEY_INVALID, pkcs11.CKR_WRAPPED_KEY_LEN_RANGE,
		pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED) {
		return err
	}
	return fmt.Errorf("%w: %s and %s: %w", errDiverged, a.id, b.id, err)
}

// unite gives all members the same cluster key and tells which have it. If none
// has one, the first makes it, but only when complete says that no
// member is away which might have it. A member that fails is left out; that two members
// differ is an error.
func unite(ctx context.Context, stays []*stay, complete bool, done func(s *stay, what string, err error)) (united []*stay, err error) {
	var donor *stay
	for _, s := range stays {
		if err := s.align(ctx, nil); err != nil {
			done(s, "", err)
			if isDivergence(err) {
				return nil, err
			}
			continue
		}
		united = append(united, s)
		if donor == nil && s.cluster.Load() != nil {
			donor = s
		}
	}
	if donor == nil {
		if !complete || len(united) != len(stays) || len(united) == 0 {
			return united, nil
		}
		donor = united[0]
		err := donor.makeClusterKey(ctx)
		done(donor, "made", err)
		if err != nil {
			return united, err
		}
	}
	return follow(ctx, united, donor, done)
}

// follow aligns all others with the donor.
func follow(ctx context.Context, stays []*stay, donor *stay, done func(s *stay, what string, err error)) (united []*stay, err error) {
	for _, s := range stays {
		if s != donor {
			had := s.cluster.Load() != nil
			err := s.align(ctx, donor)
			done(s, map[bool]string{true: "the same", false: "received"}[had], err)
			if isDivergence(err) {
				return nil, err
			}
			if err != nil {
				continue
			}
		}
		united = append(united, s)
	}
	return united, nil
}

// isDivergence tells errors that no retry mends and that nobody may overlook.
func isDivergence(err error) bool { return errors.Is(err, errDiverged) || errors.Is(err, errUnfit) }
