package kms

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/store"
)

// creation bounds the making of a key: until then its material is not
// destroyed as abandoned.
const creation = 2 * time.Minute

func (c *call) createKey(ctx context.Context, in *kmsapi.CreateKeyRequest) (*kmsapi.CreateKeyResponse, error) {
	if err := c.mayCreate(c.prospect(in), in.Tags); err != nil {
		return nil, err
	}
	rec, err := c.newKey(in)
	if err != nil {
		return nil, err
	}
	if err := c.makeKey(ctx, rec); err != nil {
		return nil, err
	}
	k, err := newKeyEntry(rec)
	if err != nil {
		return nil, err
	}
	c.about(keyResource(k.Account, k.ARN))
	return &kmsapi.CreateKeyResponse{KeyMetadata: c.s.metadata(k)}, nil
}

// prospect is the key that is asked for, as far as conditions can be about it.
func (c *call) prospect(in *kmsapi.CreateKeyRequest) *keyRecord {
	k := &keyRecord{
		Account: c.caller.Account, Region: c.caller.Region, Usage: cmp.Or(in.KeyUsage, kmsapi.EncryptDecrypt), Origin: cmp.Or(in.Origin, kmsapi.OriginAWSKMS),
		Spec: cmp.Or(in.KeySpec, kmsapi.KeySpec(in.CustomerMasterKeySpec), kmsapi.SymmetricDefault),
	}
	if in.MultiRegion != nil && *in.MultiRegion {
		k.MultiRegion = &multiRegionRecord{Primary: k.Region}
	}
	return k
}

// mayCreate decides whether the caller may create a key, and with tags.
func (c *call) mayCreate(rec *keyRecord, tags []kmsapi.Tag) error {
	q := question{permission: createKey, resource: "*", key: &keyEntry{keyRecord: *rec}, toBeMade: true, region: rec.Region}
	if err := c.ask(q); err != nil || len(tags) == 0 {
		return err
	}
	q.permission, q.resource = tagResource, kmsapi.KeyARN(rec.Region, rec.Account, "*")
	if o := c.decide(q); o.Decision != policy.Allow {
		return accessDenied(&c.caller, q.permission, "", o) // AWS names no resource: the key has no ARN yet
	}
	return nil
}

// newKey makes the record of the key that was asked for, without material.
func (c *call) newKey(in *kmsapi.CreateKeyRequest) (*keyRecord, error) {
	spec, err := c.keySpec(in)
	if err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	document, err := c.policyOr(in.Policy, c.caller.Region)
	if err != nil {
		return nil, err
	}
	rec := &keyRecord{
		ID: audit.NewUUID(), Account: c.caller.Account, Region: c.caller.Region,
		Created: c.s.now().UTC(), Description: in.Description, Enabled: true,
		Spec: spec.Name, Usage: in.KeyUsage, Origin: in.Origin,
		Policy: document, Tags: in.Tags, StoreID: in.CustomKeyStoreID, XksKeyID: in.XksKeyID,
	}
	if rec.Usage == "" {
		rec.Usage = kmsapi.EncryptDecrypt
	}
	if rec.Origin == "" {
		rec.Origin = kmsapi.OriginAWSKMS
	}
	if in.MultiRegion != nil && *in.MultiRegion {
		rec.ID = "mrk-" + randomHex(16)
		rec.MultiRegion = &multiRegionRecord{Primary: rec.Region}
	}
	if err := c.mayUpdate(rec, in.BypassPolicyLockoutSafetyCheck); err != nil {
		return nil, err
	}
	return rec, c.checkOrigin(rec, spec)
}

// keySpec is the key spec that was asked for, if it goes with the usage and is to be had in the Region.
func (c *call) keySpec(in *kmsapi.CreateKeyRequest) (*keyspec.Spec, error) {
	name := in.KeySpec
	if name == "" {
		name = kmsapi.KeySpec(in.CustomerMasterKeySpec)
	}
	if in.CustomerMasterKeySpec != "" && string(in.CustomerMasterKeySpec) != string(name) {
		return nil, invalid("KeySpec and CustomerMasterKeySpec name different key specs. Use KeySpec alone.")
	}
	if name == "" {
		name = kmsapi.SymmetricDefault
	}
	spec := keyspec.Of(name)
	switch {
	case spec == nil || !spec.AllowedIn(c.caller.Region):
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "Keys of the key spec %s are not available in the Region %s.", name, c.caller.Region)
	case in.KeyUsage == "" && !spec.Symmetric():
		return nil, invalid("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	case in.KeyUsage != "" && !spec.Allows(in.KeyUsage):
		return nil, invalid("KeyUsage %s is not compatible with KeySpec %s", in.KeyUsage, name)
	}
	return spec, nil
}

// checkOrigin tells whether origin, key spec, key store and external key id go together.
func (c *call) checkOrigin(rec *keyRecord, spec *keyspec.Spec) error {
	inStore := rec.Origin == kmsapi.OriginAWSCloudHSM || rec.Origin == kmsapi.OriginExternalKeyStore
	switch {
	case rec.Origin == kmsapi.OriginExternal && !spec.Importable():
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Key material of the key spec %s cannot be imported.", rec.Spec)
	case inStore && rec.StoreID == "":
		return invalid("CustomKeyStoreId is required for a key with the origin %s.", rec.Origin)
	case !inStore && rec.StoreID != "":
		return invalid("CustomKeyStoreId is not valid for a key with the origin %s.", rec.Origin)
	case inStore && !spec.Symmetric():
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Custom key stores hold symmetric encryption keys only, not keys of the key spec %s.", rec.Spec)
	case inStore && rec.MultiRegion != nil:
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Multi-Region keys cannot be in a custom key store.")
	}
	external := rec.Origin == kmsapi.OriginExternalKeyStore
	if external != (rec.XksKeyID != "") {
		if external {
			return invalid("XksKeyId is required for a key with the origin %s.", rec.Origin)
		}
		return invalid("XksKeyId is not valid for a key with the origin %s.", rec.Origin)
	}
	if rec.StoreID == "" {
		return nil
	}
	ks, err := c.keyStore(rec.StoreID)
	if err != nil {
		return err
	}
	if string(ks.Type) != string(rec.Origin) {
		return invalid("The origin %s does not match the type %s of the custom key store.", rec.Origin, ks.Type)
	}
	if ks.State != kmsapi.Connected {
		return keyStoreState(ks, "CONNECTED")
	}
	return nil
}

// makeKey makes the material and stores the record. Whatever happens on
// the way, a material record accounts for what may have been made.
func (c *call) makeKey(ctx context.Context, rec *keyRecord) error {
	s := c.s
	pending := &materialRecord{
		Account: rec.Account, Region: rec.Region, StoreID: rec.StoreID, Owner: s.node, NotUntil: s.now().UTC().Add(creation),
		Key: keystore.Key{ID: rec.ID, ARN: rec.arn(), XksKeyID: rec.XksKeyID},
	}
	if rec.Origin == kmsapi.OriginExternal { // there is nothing to make
		return s.update(ctx, func(tx store.Tx) error {
			if err := c.withinKeyQuota(rec.Region); err != nil {
				return err
			}
			return save(tx, rec.path(), rec)
		})
	}
	err := s.update(ctx, func(tx store.Tx) error { return c.reserve(tx, rec, pending) })
	if err == nil {
		s.fault("create key: announced")
		err = c.fill(ctx, rec, pending)
	}
	if err != nil {
		s.abandon(pending, c.caller.RequestID) // also if it is unknown whether it was announced
		return err
	}
	s.fault("create key: stored")
	return nil
}

// fill makes the material of an announced key and stores the key's record.
func (c *call) fill(ctx context.Context, rec *keyRecord, pending *materialRecord) error {
	material, err := c.makeMaterial(ctx, rec)
	if err != nil {
		return err
	}
	c.s.fault("create key: material made")
	rec.Materials, rec.PublicKey = []keyMaterial{{ID: material.ID, Data: material.Data}}, material.PublicKey
	return c.s.update(ctx, func(tx store.Tx) error { return claim(tx, rec, pending) })
}

func (c *call) makeMaterial(ctx context.Context, rec *keyRecord) (keystore.Material, error) {
	if err := c.mayReach(); err != nil {
		return keystore.Material{}, err
	}
	var ks keystore.Store = c.s.soft
	if rec.StoreID != "" {
		conn := c.s.conns.reach(rec.StoreID)
		if conn == nil {
			return keystore.Material{}, notReached(kmsapi.CustomKeyStoreInvalidState, rec.StoreID)
		}
		ks = conn
	}
	c.noteBacking(rec)
	ctx, cancel := context.WithTimeout(ctx, creation/2)
	defer cancel()
	return ks.CreateKey(ctx, c.onBehalf(), rec.newMaterial())
}

// reserve announces the material and takes the external key's id.
func (c *call) reserve(tx store.Tx, rec *keyRecord, pending *materialRecord) error {
	if err := c.withinKeyQuota(rec.Region); err != nil {
		return err
	}
	if rec.XksKeyID != "" {
		at := reservationPath(rec.StoreID, rec.XksKeyID)
		if _, taken, err := tx.Get(at); err != nil {
			return err
		} else if taken {
			return kmsapi.Errorf(kmsapi.XksKeyAlreadyInUse, "Another KMS key in this custom key store uses the external key %s.", rec.XksKeyID)
		}
		if err := tx.Put(at, []byte(rec.ID)); err != nil {
			return err
		}
	}
	return save(tx, pending.path(), pending)
}

func (c *call) withinKeyQuota(region string) error {
	if n := c.s.mirror.countKeys(c.caller.Account, region); n >= c.s.quotas.Keys {
		return kmsapi.Errorf(kmsapi.LimitExceeded, "The account has %d KMS keys in the Region %s, which is the limit.", n, region)
	}
	return nil
}

// claim stores the key's record in place of the announcement, unless the
// key store went away meanwhile.
func claim(tx store.Tx, rec *keyRecord, pending *materialRecord) error {
	if announced, err := load[materialRecord](tx, pending.path()); err != nil {
		return err
	} else if announced == nil || announced.Owner != pending.Owner {
		return fmt.Errorf("the making of key %s took too long", rec.ID)
	}
	if rec.StoreID != "" {
		ks, err := load[keyStoreRecord](tx, path(keyStorePrefix, rec.Account, rec.Region, rec.StoreID))
		if err != nil {
			return err
		}
		if ks == nil {
			return keyStoreNotFound()
		}
		if ks.State != kmsapi.Connected {
			return keyStoreState(ks, "CONNECTED")
		}
	}
	if err := tx.Delete(pending.path()); err != nil {
		return err
	}
	return save(tx, rec.path(), rec)
}
