package kms

import (
	"context"
	"fmt"
	"strings"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// creation bounds the making of a key: until then its material is not
// destroyed as abandoned.
const creation = 2 * time.Minute

func (c *call) createKey(ctx context.Context, in *kmsapi.CreateKeyRequest) (*kmsapi.CreateKeyResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	if len(in.Tags) > 0 {
		if err := c.authorize("kms:TagResource", "*"); err != nil {
			return nil, err
		}
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
	c.about("AWS::KMS::Key", k.ARN)
	return &kmsapi.CreateKeyResponse{KeyMetadata: c.s.metadata(k)}, nil
}

// newKey makes the record of the key that was asked for, without material.
func (c *call) newKey(in *kmsapi.CreateKeyRequest) (*keyRecord, error) {
	if err := checkKeySpec(in); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	policy := in.Policy
	if policy == "" {
		policy = defaultPolicy(c.caller.Region, c.caller.Account)
	} else if err := checkPolicy(policy); err != nil {
		return nil, err
	}
	rec := &keyRecord{
		ID: newUUID(), Account: c.caller.Account, Region: c.caller.Region,
		Created: c.s.now().UTC(), Description: in.Description, Enabled: true,
		Spec: kmsapi.SymmetricDefault, Usage: kmsapi.EncryptDecrypt, Origin: in.Origin,
		Policy: policy, Tags: in.Tags, StoreID: in.CustomKeyStoreID, XksKeyID: in.XksKeyID,
	}
	if rec.Origin == "" {
		rec.Origin = kmsapi.OriginAWSKMS
	}
	return rec, c.checkOrigin(rec)
}

// checkKeySpec admits symmetric encryption keys, which is what this version makes.
func checkKeySpec(in *kmsapi.CreateKeyRequest) error {
	spec := in.KeySpec
	if spec == "" {
		spec = kmsapi.KeySpec(in.CustomerMasterKeySpec)
	}
	if in.CustomerMasterKeySpec != "" && string(in.CustomerMasterKeySpec) != string(spec) {
		return invalid("KeySpec and CustomerMasterKeySpec name different key specs. Use KeySpec alone.")
	}
	symmetric := spec == "" || spec == kmsapi.SymmetricDefault
	if in.KeyUsage == "" && !symmetric {
		return invalid("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	}
	if symmetric && in.KeyUsage != "" && in.KeyUsage != kmsapi.EncryptDecrypt {
		return invalid("KeyUsage %s is not compatible with KeySpec %s", in.KeyUsage, kmsapi.SymmetricDefault)
	}
	if !symmetric {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Key spec %s is not supported yet: only symmetric encryption keys are.", spec)
	}
	if in.MultiRegion != nil && *in.MultiRegion {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Multi-Region keys are not supported yet.")
	}
	return nil
}

// checkOrigin tells whether origin, key store and external key id go together.
func (c *call) checkOrigin(rec *keyRecord) error {
	switch rec.Origin {
	case kmsapi.OriginExternal:
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Imported key material is not supported yet.")
	case kmsapi.OriginAWSCloudHSM, kmsapi.OriginExternalKeyStore:
		if rec.StoreID == "" {
			return invalid("CustomKeyStoreId is required for a key with the origin %s.", rec.Origin)
		}
	default:
		if rec.StoreID != "" {
			return invalid("CustomKeyStoreId is not valid for a key with the origin %s.", rec.Origin)
		}
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

func checkTags(tags []kmsapi.Tag) error {
	if len(tags) > 50 {
		return kmsapi.Errorf(kmsapi.TagInvalid, "Too many tags")
	}
	seen := make(map[string]bool, len(tags))
	for _, tag := range tags {
		if strings.HasPrefix(strings.ToLower(tag.TagKey), "aws:") {
			return kmsapi.Errorf(kmsapi.TagInvalid, "Tags beginning with aws: are reserved")
		}
		if seen[tag.TagKey] {
			return kmsapi.Errorf(kmsapi.TagInvalid, "Duplicate tag keys")
		}
		seen[tag.TagKey] = true
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
	err := s.update(ctx, func(tx store.Tx) error { return c.reserve(tx, rec, pending) })
	if err == nil {
		s.fault("create key: announced")
		err = c.fill(ctx, rec, pending)
	}
	if err != nil {
		s.abandon(pending) // also if it is unknown whether it was announced
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
	rec.MaterialID, rec.MaterialData = material.ID, material.Data
	return c.s.update(ctx, func(tx store.Tx) error { return claim(tx, rec, pending) })
}

func (c *call) makeMaterial(ctx context.Context, rec *keyRecord) (keystore.Material, error) {
	ks := c.s.soft
	if rec.StoreID != "" {
		conn := c.s.conns.reach(rec.StoreID)
		if conn == nil {
			return keystore.Material{}, notReached(kmsapi.CustomKeyStoreInvalidState, rec.StoreID)
		}
		ks = conn
	}
	c.note("customKeyStoreId", rec.StoreID)
	c.note("xksKeyId", rec.XksKeyID)
	ctx, cancel := context.WithTimeout(ctx, creation/2)
	defer cancel()
	return ks.CreateKey(ctx, c.onBehalf(), keystore.NewKey{ID: rec.ID, ARN: rec.arn(), XksKeyID: rec.XksKeyID})
}

// reserve announces the material and takes the external key's id.
func (c *call) reserve(tx store.Tx, rec *keyRecord, pending *materialRecord) error {
	if err := c.withinKeyQuota(); err != nil {
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

func (c *call) withinKeyQuota() error {
	if n := c.s.mirror.countKeys(c.caller.Account, c.caller.Region); n >= c.s.quotas.Keys {
		return kmsapi.Errorf(kmsapi.LimitExceeded, "The account has %d KMS keys in this Region, which is the limit.", n)
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
