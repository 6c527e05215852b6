package hsm

import (
	"context"
	"errors"
	"fmt"

	"kastellan.dev/internal/pkcs11"
)

// WrappedKey is an AES-256 key as it leaves an HSM: wrapped under the cluster
// key, with what makes it the same key elsewhere. Nothing in it is secret to
// those who have no HSM with that cluster key.
type WrappedKey struct {
	Label           string // CKA_LABEL
	ID              []byte // CKA_ID; may be empty
	Encrypt         bool   // may encrypt and decrypt
	Wrap            bool   // may wrap and unwrap
	WrapWithTrusted bool   // may leave an HSM only under a trusted key
	Wrapped         []byte // a byte that names the mechanism, then its output

	// Known is a fixed text that the key has encrypted, bound to all of the above but Wrapped.
	// Whoever unwraps the key sees from it that nothing was exchanged. Empty
	// for keys that may not encrypt, which are known by label and id alone.
	Known []byte
}

func (w *WrappedKey) template() pkcs11.Template {
	return pkcs11.Template{
		Label: w.Label, ID: w.ID, Token: true, Encrypt: w.Encrypt, Wrap: w.Wrap, Extractable: true, WrapWithTrusted: w.WrapWithTrusted,
	}
}

// bond is what Known authenticates.
func (w *WrappedKey) bond() []byte {
	return fmt.Appendf(nil, "kastellan wrapped key %q %q %t %t %t", w.Label, w.ID, w.Encrypt, w.Wrap, w.WrapWithTrusted)
}

// wrap wraps a key under the cluster key. a is what the HSM says of it.
func (s *stay) wrap(ctx context.Context, key pkcs11.Object, a pkcs11.Attributes) (WrappedKey, error) {
	under := s.cluster.Load()
	if under == nil {
		return WrappedKey{}, fmt.Errorf("%w: %s", errNoCluster, s.id)
	}
	wrapped, err := s.token.WrapKey(ctx, under.handle, key.Handle)
	if err != nil {
		s.doubt(ctx, under, err)
		return WrappedKey{}, fmt.Errorf("wrapping on %s: %w", s.id, err)
	}
	return WrappedKey{
		Label: key.Label, ID: key.ID, Wrapped: wrapped, Encrypt: a.Encrypt, Wrap: a.Wrap, WrapWithTrusted: a.WrapWithTrusted,
	}, nil
}

// unwrap makes a key of what wrap gave.
func (s *stay) unwrap(ctx context.Context, w WrappedKey) (h pkcs11.Handle, err error) {
	under := s.cluster.Load()
	if under == nil {
		return h, fmt.Errorf("%w: %s", errNoCluster, s.id)
	}
	err = s.alone(ctx, func() (err error) {
		h, err = s.token.UnwrapKey(ctx, under.handle, w.Wrapped, w.template())
		return err
	})
	if err != nil {
		s.doubt(ctx, under, err)
		return h, fmt.Errorf("unwrapping on %s: %w", s.id, err)
	}
	return h, nil
}

// doubt looks whether the cluster key is still on the HSM after it could not be used, and forgets it if it is not: somebody
// has deleted it behind our back, and the HSM gets it again as one that never had it.
func (s *stay) doubt(ctx context.Context, under *clusterKey, failure error) {
	if !isStale(failure) && !hasRV(failure, pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID, pkcs11.CKR_UNWRAPPING_KEY_HANDLE_INVALID) {
		return
	}
	if _, err := s.token.Attributes(ctx, under.handle); isStale(err) && s.cluster.CompareAndSwap(under, nil) {
		s.notes.Error("the cluster key is gone from the HSM")
	}
}

// clone copies a key from one HSM to another, wrapped under the cluster key.
func clone(ctx context.Context, from *stay, key pkcs11.Object, to *stay) error {
	a, err := from.token.Attributes(ctx, key.Handle)
	if err != nil {
		return fmt.Errorf("reading attributes on %s: %w", from.id, err)
	}
	w, err := from.wrap(ctx, key, a)
	if err == nil {
		_, err = to.unwrap(ctx, w)
	}
	return err
}

// keyName is what keys are called; it need not be unique.
type keyName struct{ label, id string }

// inventory is what keys there are on an HSM, but for those that carry others.
type inventory map[keyName][]pkcs11.Handle

func (s *stay) inventory(ctx context.Context) (inventory, error) {
	objects, err := s.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the keys of %s: %w", s.id, err)
	}
	out := make(inventory)
	for _, o := range objects {
		if !IsOwn(o.Label, o.ID) {
			name := keyName{o.Label, string(o.ID)}
			out[name] = append(out[name], o.Handle)
		}
	}
	return out, nil
}

// everyoneHas tells whether a key is in all inventories.
func everyoneHas(all []inventory, name keyName) bool {
	for _, mine := range all {
		if len(mine[name]) == 0 {
			return false
		}
	}
	return true
}

// anyPortable tells whether one of the keys may leave the HSM.
func (s *stay) anyPortable(ctx context.Context, keys []pkcs11.Handle) (bool, error) {
	for _, h := range keys {
		a, err := s.token.Attributes(ctx, h)
		if err != nil && !isStale(err) {
			return false, fmt.Errorf("reading attributes on %s: %w", s.id, err)
		}
		if err == nil && a.Extractable {
			return true, nil
		}
	}
	return false, nil
}

// sealEach wraps every key that may leave the HSM, and hands it to use, which
// ends the work if it fails. Keys that are destroyed meanwhile are passed over, and only those: it fails if the HSM
// refused a key that it has.
func (s *stay) sealEach(ctx context.Context, use func(WrappedKey) error) error {
	all, err := s.inventory(ctx)
	if err != nil {
		return err
	}
	var stale []keyName
	for name, handles := range all {
		for _, h := range handles {
			key, portable, err := s.seal(ctx, pkcs11.Object{Handle: h, Label: name.label, ID: []byte(name.id)})
			switch {
			case isStale(err):
				stale = append(stale, name)
			case err != nil:
				return fmt.Errorf("the key %q: %w", name.label, err)
			case !portable:
				s.notes.Warn("a key may not leave its HSM and is not copied", "key", name.label)
			default:
				if err := use(key); err != nil {
					return fmt.Errorf("the key %q: %w", name.label, err)
				}
			}
		}
	}
	return s.mustBeGone(ctx, stale)
}

// mustBeGone fails if one of the keys is still on the HSM.
func (s *stay) mustBeGone(ctx context.Context, names []keyName) error {
	if len(names) == 0 {
		return nil
	}
	left, err := s.inventory(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if len(left[name]) > 0 {
			return fmt.Errorf("%s does not know the key %q that it lists", s.id, name.label)
		}
	}
	return nil
}

// seal wraps one key and adds the known answer.
func (s *stay) seal(ctx context.Context, key pkcs11.Object) (w WrappedKey, portable bool, err error) {
	a, err := s.token.Attributes(ctx, key.Handle)
	if err != nil || !a.Extractable {
		return w, false, err
	}
	if a.KeyType != ckkAES {
		return w, false, errNotAES
	}
	if w, err = s.wrap(ctx, key, a); err != nil || !w.Encrypt {
		return w, true, err
	}
	sealed, err := s.token.EncryptGCM(ctx, key.Handle, knownText, w.bond())
	if err != nil {
		return w, true, fmt.Errorf("making the known answer on %s: %w", s.id, err)
	}
	known, ok := appendBody(nil, sealed)
	if !ok {
		return w, true, errBody
	}
	w.Known = known
	return w, true, nil
}

// admit makes a key of what seal gave, unless the HSM has it, and destroys it again if it
// does not give the known answer. have is brought up to date.
func (s *stay) admit(ctx context.Context, w WrappedKey, have inventory) (made bool, err error) {
	if IsOwn(w.Label, w.ID) {
		return false, errReserved
	}
	name := keyName{w.Label, string(w.ID)}
	for _, h := range have[name] {
		switch err := s.recognise(ctx, h, &w); {
		case err == nil:
			return false, nil
		case !errors.Is(err, errNotSameKey):
			return false, err
		}
	}
	h, err := s.unwrap(ctx, w)
	if err != nil {
		return false, err
	}
	if err := s.recognise(ctx, h, &w); err != nil {
		s.discard(context.WithoutCancel(ctx), h)
		return false, err
	}
	have[name] = append(have[name], h)
	return true, nil
}

// recognise fails with errNotSameKey unless a key is the one that was wrapped.
func (s *stay) recognise(ctx context.Context, h pkcs11.Handle, w *WrappedKey) error {
	if !w.Encrypt {
		return nil
	}
	sealed, ok := parseBody(w.Known)
	if !ok {
		return errNotSameKey
	}
	text, err := s.token.DecryptGCM(ctx, h, sealed, w.bond())
	switch {
	case err == nil && string(text) == string(knownText):
		return nil
	case err == nil:
		return errNotSameKey
	case isLost(err), isBusy(err), ctx.Err() != nil:
		return fmt.Errorf("testing the key on %s: %w", s.id, err)
	default:
		return fmt.Errorf("%w: %w", errNotSameKey, err)
	}
}
