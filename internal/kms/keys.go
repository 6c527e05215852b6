package kms

import (
	"context"
	"slices"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

func (c *call) describeKey(ctx context.Context, in *kmsapi.DescribeKeyRequest) (*kmsapi.DescribeKeyResponse, error) {
	if err := c.checkGrantTokens(ctx, in.GrantTokens); err != nil {
		return nil, err
	}
	k, err := c.use(in.KeyID)
	if err != nil {
		return nil, err
	}
	return &kmsapi.DescribeKeyResponse{KeyMetadata: c.s.metadata(k)}, nil
}

// metadata describes a key. Members are present as AWS has them.
func (s *Service) metadata(k *keyEntry) *kmsapi.KeyMetadata {
	state := s.stateOf(&k.keyRecord)
	multi := k.MultiRegion != nil
	m := &kmsapi.KeyMetadata{
		AWSAccountID:             k.Account,
		KeyID:                    k.ID,
		Arn:                      k.ARN,
		CreationDate:             kmsapi.At(k.Created),
		Enabled:                  state == kmsapi.StateEnabled,
		Description:              k.Description,
		KeyUsage:                 k.Usage,
		KeyState:                 state,
		Origin:                   k.Origin,
		KeyManager:               kmsapi.KeyManagerCustomer,
		CustomerMasterKeySpec:    kmsapi.CustomerMasterKeySpec(k.Spec),
		KeySpec:                  k.Spec,
		EncryptionAlgorithms:     k.spec.EncryptionAlgorithms(k.Usage),
		SigningAlgorithms:        k.spec.SigningAlgorithms(k.Usage),
		MacAlgorithms:            k.spec.MacAlgorithms(k.Usage),
		KeyAgreementAlgorithms:   k.spec.KeyAgreementAlgorithms(k.Usage),
		EncapsulationAlgorithms:  k.spec.EncapsulationAlgorithms(k.Usage),
		MultiRegion:              &multi,
		MultiRegionConfiguration: k.multiRegionConfiguration(),
		CustomKeyStoreID:         k.StoreID,
	}
	if k.pendingDeletion() {
		m.DeletionDate = kmsapi.At(k.DeletionDate)
	}
	if k.PendingWindow > 0 {
		days := int32(k.PendingWindow)
		m.PendingDeletionWindowInDays = &days
	}
	s.describeMaterial(k, m)
	if k.XksKeyID != "" {
		m.XksKeyConfiguration = &kmsapi.XksKeyConfigurationType{ID: k.XksKeyID}
	}
	if rec := s.mirror.keyStore(k.Account, k.Region, k.StoreID); rec != nil && rec.HSM != nil {
		m.CloudHsmClusterID = rec.HSM.ClusterID
	}
	return m
}

// describeMaterial adds what metadata tells of the current material, while it is there.
func (s *Service) describeMaterial(k *keyEntry, m *kmsapi.KeyMetadata) {
	current := k.currentMaterial()
	if current == nil || !current.there(s.now()) {
		return
	}
	if k.spec.Symmetric() {
		m.CurrentKeyMaterialID = current.ID
	}
	if k.Origin == kmsapi.OriginExternal {
		m.ExpirationModel = current.Expiration
		if !current.ValidTo.IsZero() {
			m.ValidTo = kmsapi.At(current.ValidTo)
		}
	}
}

func (c *call) listKeys(_ context.Context, in *kmsapi.ListKeysRequest) (*kmsapi.ListKeysResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	s, err := spanOf(c.below(keyPrefix), in.Limit, 100, 1000, in.Marker)
	if err != nil {
		return nil, err
	}
	keys, next := cut(c.s.mirror.keysOf(c.caller.Account, c.caller.Region, s.after, s.size+1), s)
	out := &kmsapi.ListKeysResponse{NextMarker: next, Truncated: next != ""}
	for _, k := range keys {
		out.Keys = append(out.Keys, kmsapi.KeyListEntry{KeyID: k.ID, KeyArn: k.ARN})
	}
	return out, nil
}

// change edits the record of a key that the call has been allowed to change,
// in a state that the operation's row allows also at the moment of the change.
func (c *call) change(ctx context.Context, id string, edit func(*keyRecord) error) (*keyEntry, error) {
	k, err := c.manage(id)
	if err != nil {
		return nil, err
	}
	return k, c.changeKey(ctx, k, func(_ store.Tx, rec *keyRecord) error { return edit(rec) })
}

// changeKey is change for a key that has been found, and for edits that read
// and write more than its record.
func (c *call) changeKey(ctx context.Context, k *keyEntry, edit func(store.Tx, *keyRecord) error) error {
	return c.s.update(ctx, func(tx store.Tx) error {
		rec, err := load[keyRecord](tx, k.path())
		if err != nil {
			return err
		}
		if rec == nil {
			return keyNotFound(k.ARN)
		}
		now, err := c.nowOf(k, rec)
		if err != nil {
			return err
		}
		if err := c.inState(now); err != nil {
			return err
		}
		if err := edit(tx, rec); err != nil {
			return err
		}
		return save(tx, k.path(), rec)
	})
}

// nowOf is what has become of a key at the moment of a change. It decides again if the key has
// another policy or other tags than when it was found: who has lost a permission meanwhile
// must not change the key, least of all its policy, to what it was.
func (c *call) nowOf(then *keyEntry, rec *keyRecord) (*keyEntry, error) {
	now, err := newKeyEntry(rec)
	if err != nil {
		return nil, err
	}
	now.use = then.use
	if now.Policy == then.Policy && slices.Equal(now.Tags, then.Tags) {
		return now, nil
	}
	return now, c.authorizeKey(now)
}

func (c *call) enableKey(ctx context.Context, in *kmsapi.EnableKeyRequest) (*kmsapi.Empty, error) {
	_, err := c.change(ctx, in.KeyID, func(k *keyRecord) error { k.Enabled = true; return nil })
	return none, err
}

func (c *call) disableKey(ctx context.Context, in *kmsapi.DisableKeyRequest) (*kmsapi.Empty, error) {
	_, err := c.change(ctx, in.KeyID, func(k *keyRecord) error { k.Enabled = false; return nil })
	return none, err
}

func (c *call) updateKeyDescription(ctx context.Context, in *kmsapi.UpdateKeyDescriptionRequest) (*kmsapi.Empty, error) {
	_, err := c.change(ctx, in.KeyID, func(k *keyRecord) error { k.Description = in.Description; return nil })
	return none, err
}

// The waiting period of a deletion, in days.
const (
	minWindow     = 7
	maxWindow     = 30
	defaultWindow = 30
)

func (c *call) scheduleKeyDeletion(ctx context.Context, in *kmsapi.ScheduleKeyDeletionRequest) (*kmsapi.ScheduleKeyDeletionResponse, error) {
	window := int32(defaultWindow)
	if in.PendingWindowInDays != nil {
		window = *in.PendingWindowInDays
	}
	if window < minWindow || window > maxWindow {
		return nil, invalid("PendingWindowInDays must be between %d and %d (inclusive).", minWindow, maxWindow)
	}
	out := &kmsapi.ScheduleKeyDeletionResponse{PendingWindowInDays: &window}
	k, err := c.change(ctx, in.KeyID, func(k *keyRecord) error {
		if k.primary() && len(k.MultiRegion.Replicas) > 0 {
			k.PendingWindow = int(window) // which begins when the last replica is gone
			out.KeyState = kmsapi.StatePendingReplicaDeletion
			return nil
		}
		k.DeletionDate = c.s.now().UTC().Add(days(int(window))).Truncate(time.Millisecond)
		out.KeyState, out.DeletionDate = kmsapi.StatePendingDeletion, kmsapi.At(k.DeletionDate)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.KeyID = k.ARN
	c.noteBacking(&k.keyRecord)
	return out, nil
}

func (c *call) cancelKeyDeletion(ctx context.Context, in *kmsapi.CancelKeyDeletionRequest) (*kmsapi.CancelKeyDeletionResponse, error) {
	k, err := c.change(ctx, in.KeyID, func(k *keyRecord) error {
		if k.Deleting {
			return keyNotFound(k.arn())
		}
		k.DeletionDate, k.PendingWindow = time.Time{}, 0
		k.Enabled = false
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.CancelKeyDeletionResponse{KeyID: k.ARN}, nil
}
