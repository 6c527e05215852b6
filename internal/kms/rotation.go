package kms

import (
	"context"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

const (
	defaultRotationPeriod = 365 // days
	maxOnDemandRotations  = 25  // in the life of a key
	// rotationClearance is how close a due automatic rotation keeps one on demand away.
	rotationClearance = 20 * time.Minute
)

// rotationRecord is how a key's material is renewed. Of related multi-Region
// keys the primary has it.
type rotationRecord struct {
	PeriodDays int       `json:",omitempty"` // zero: no automatic rotation
	Next       time.Time `json:",omitzero"`  // the automatic rotation
	OnDemand   int       `json:",omitempty"` // rotations on demand so far
	Started    time.Time `json:",omitzero"`  // of a rotation on demand that is in progress
}

func (r *rotationRecord) period() time.Duration { return days(r.PeriodDays) }

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

func (c *call) enableKeyRotation(ctx context.Context, in *kmsapi.EnableKeyRotationRequest) (*kmsapi.Empty, error) {
	period := defaultRotationPeriod
	if in.RotationPeriodInDays != nil {
		period = int(*in.RotationPeriodInDays)
	}
	_, err := c.change(ctx, in.KeyID, func(k *keyRecord) error {
		k.Rotation.PeriodDays = period
		k.Rotation.Next = c.s.now().UTC().Add(k.Rotation.period()).Truncate(time.Millisecond)
		return nil
	})
	return none, err
}

func (c *call) disableKeyRotation(ctx context.Context, in *kmsapi.DisableKeyRotationRequest) (*kmsapi.Empty, error) {
	_, err := c.change(ctx, in.KeyID, func(k *keyRecord) error {
		k.Rotation.PeriodDays, k.Rotation.Next = 0, time.Time{}
		return nil
	})
	return none, err
}

func (c *call) getKeyRotationStatus(_ context.Context, in *kmsapi.GetKeyRotationStatusRequest) (*kmsapi.GetKeyRotationStatusResponse, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GetKeyRotationStatusResponse{KeyID: k.ID}
	rotation := c.s.primaryOf(k).Rotation
	if rotation.PeriodDays > 0 && !k.leaving() {
		period := int32(rotation.PeriodDays)
		out.KeyRotationEnabled, out.RotationPeriodInDays, out.NextRotationDate = true, &period, kmsapi.At(rotation.Next)
	}
	if !rotation.Started.IsZero() {
		out.OnDemandRotationStartDate = kmsapi.At(rotation.Started)
	}
	return out, nil
}

// rotateKeyOnDemand only begins the rotation, as on AWS; the sweeper does it.
func (c *call) rotateKeyOnDemand(ctx context.Context, in *kmsapi.RotateKeyOnDemandRequest) (*kmsapi.RotateKeyOnDemandResponse, error) {
	now := c.s.now().UTC().Truncate(time.Millisecond)
	k, err := c.change(ctx, in.KeyID, func(k *keyRecord) error {
		if err := k.rotatable(now); err != nil {
			return err
		}
		k.Rotation.OnDemand++
		k.Rotation.Started = now
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.shown = none // as AWS's record does
	return &kmsapi.RotateKeyOnDemandResponse{KeyID: k.ARN}, nil
}

// rotatable tells whether a rotation on demand may begin.
func (k *keyRecord) rotatable(now time.Time) error {
	switch {
	case !k.Rotation.Started.IsZero():
		return kmsapi.Errorf(kmsapi.Conflict, "A rotation of %s is in progress.", k.arn())
	case k.Rotation.PeriodDays > 0 && k.Rotation.Next.Sub(now) < rotationClearance:
		return kmsapi.Errorf(kmsapi.Conflict, "The automatic rotation of %s is due within the next 20 minutes.", k.arn())
	case k.Rotation.OnDemand >= maxOnDemandRotations:
		return kmsapi.Errorf(kmsapi.LimitExceeded,
			"The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: %s", k.arn())
	case k.Origin == kmsapi.OriginExternal && !k.promotable(now):
		return kmsapi.Errorf(kmsapi.KMSInvalidState, "No available key material pending rotation for the key: %s.", k.arn())
	}
	return nil
}

// rotationDue tells which rotation is to be done now; "" if none. A key that is
// disabled or about to be deleted keeps its material until it is enabled again.
func (k *keyRecord) rotationDue(now time.Time) kmsapi.RotationType {
	switch {
	case !k.Enabled || k.leaving() || k.Transition != "":
		return ""
	case !k.Rotation.Started.IsZero():
		return kmsapi.RotationOnDemand
	case k.Rotation.PeriodDays > 0 && !k.Rotation.Next.After(now):
		return kmsapi.RotationAutomatic
	}
	return ""
}

// rotate renews the material of a key, and of its replicas. Nothing happens when
// the imported material that was to become current has gone meanwhile.
func (s *Service) rotate(tx store.Tx, k *keyRecord, by kmsapi.RotationType, now time.Time) ([]happening, error) {
	replicas, err := replicasOf(tx, k)
	if err != nil {
		return nil, err
	}
	before := k.currentMaterial().ID
	if k.Origin == kmsapi.OriginExternal {
		if !k.promotable(now) {
			k.Rotation.Started = time.Time{}
			return nil, nil
		}
		for _, member := range append(replicas, k) {
			member.promote(by, now)
		}
	} else if err := s.renew(k, replicas, by, now); err != nil {
		return nil, err
	}
	if by == kmsapi.RotationOnDemand {
		k.Rotation.Started = time.Time{}
	} else {
		k.Rotation.Next = now.Add(k.Rotation.period())
	}
	for _, replica := range replicas {
		if err := save(tx, replica.path(), replica); err != nil {
			return nil, err
		}
	}
	return []happening{{"RotateKey", audit.Data{
		"keyId": k.ID, "rotationType": string(by), "keyOrigin": string(k.Origin),
		"previousKeyMaterialId": before, "currentKeyMaterialId": k.currentMaterial().ID,
	}}}, nil
}

// promotable tells whether imported material is there that a rotation can make current.
func (k *keyRecord) promotable(now time.Time) bool {
	m := k.pendingMaterial()
	return m != nil && m.Pending == kmsapi.PendingRotation && m.there(now)
}

// promote makes the material that was imported for a rotation the current one. All
// related keys do it, so that they go on understanding one another; one whose
// own copy has just expired is PendingImport then.
func (k *keyRecord) promote(by kmsapi.RotationType, now time.Time) {
	if m := k.pendingMaterial(); m != nil {
		m.Pending, m.Rotated, m.By = "", now, by
	}
}

// renew makes fresh material, the same for the key and its replicas. One that
// is still being created gets it with the rest.
func (s *Service) renew(k *keyRecord, replicas []*keyRecord, by kmsapi.RotationType, now time.Time) error {
	made, err := s.soft.CreateKey(s.ctx, s.ownCall("RotateKey"), k.newMaterial())
	if err != nil {
		return err
	}
	k.Materials = append(k.Materials, keyMaterial{ID: made.ID, Data: made.Data, Rotated: now, By: by})
	for _, replica := range replicas {
		if replica.Transition == kmsapi.StateCreating {
			continue
		}
		m, err := s.copyMaterial(k, &k.Materials[len(k.Materials)-1], replica)
		if err != nil {
			return err
		}
		replica.Materials = append(replica.Materials, m)
	}
	return nil
}

func (c *call) listKeyRotations(_ context.Context, in *kmsapi.ListKeyRotationsRequest) (*kmsapi.ListKeyRotationsResponse, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	s, err := spanOf(path(keyPrefix, k.Account, k.Region, ""), in.Limit, 100, 1000, in.Marker)
	if err != nil {
		return nil, err
	}
	everything := in.IncludeKeyMaterial == kmsapi.AllKeyMaterial
	var all []rotationEntry
	for i := range k.Materials {
		if m := &k.Materials[i]; everything || !m.Rotated.IsZero() {
			all = append(all, rotationEntry{k, m, i})
		}
	}
	entries, next := page(all, s)
	out := &kmsapi.ListKeyRotationsResponse{NextMarker: next, Truncated: next != ""}
	for _, e := range entries {
		out.Rotations = append(out.Rotations, e.describe(c.s.now()))
	}
	return out, nil
}
