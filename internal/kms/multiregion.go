package kms

import (
	"context"
	"slices"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// multiRegionRecord says which keys are related. Every member's record has the same.
type multiRegionRecord struct {
	Primary  string   // its Region
	Replicas []string `json:",omitempty"` // their Regions, in the order of their creation
	// Next is the Region of the primary to be, while the members are Updating.
	Next string `json:",omitempty"`
}

func (k *keyRecord) primary() bool { return k.MultiRegion != nil && k.MultiRegion.Primary == k.Region }

// multiRegionConfiguration describes all members, from every member's view the same.
func (k *keyRecord) multiRegionConfiguration() *kmsapi.MultiRegionConfiguration {
	if k.MultiRegion == nil {
		return nil
	}
	member := func(region string) kmsapi.MultiRegionKey {
		return kmsapi.MultiRegionKey{Arn: kmsapi.KeyARN(region, k.Account, k.ID), Region: region}
	}
	primary := member(k.MultiRegion.Primary)
	out := &kmsapi.MultiRegionConfiguration{MultiRegionKeyType: kmsapi.ReplicaKey, PrimaryKey: &primary, ReplicaKeys: []kmsapi.MultiRegionKey{}}
	if k.primary() {
		out.MultiRegionKeyType = kmsapi.PrimaryKey
	}
	for _, region := range k.MultiRegion.Replicas {
		out.ReplicaKeys = append(out.ReplicaKeys, member(region))
	}
	return out
}

// primaryOf gives the primary key among related keys, and any other key itself.
func (s *Service) primaryOf(k *keyEntry) *keyEntry {
	if k.MultiRegion == nil || k.primary() {
		return k
	}
	if primary := s.mirror.key(k.MultiRegion.Primary, k.ID); primary != nil {
		return primary
	}
	return k
}

// relatives reads the records of all other members.
func relatives(r store.Reader, k *keyRecord) ([]*keyRecord, error) {
	if k.MultiRegion == nil {
		return nil, nil
	}
	var out []*keyRecord
	for _, region := range append([]string{k.MultiRegion.Primary}, k.MultiRegion.Replicas...) {
		if region == k.Region {
			continue
		}
		rec, err := load[keyRecord](r, path(keyPrefix, k.Account, region, k.ID))
		if err != nil {
			return nil, err
		}
		if rec != nil {
			out = append(out, rec)
		}
	}
	return out, nil
}

// replicasOf reads the records of a primary key's replicas.
func replicasOf(r store.Reader, k *keyRecord) ([]*keyRecord, error) {
	if !k.primary() {
		return nil, nil
	}
	return relatives(r, k)
}

// relate gives all members the same view of who is related.
func relate(tx store.Tx, k *keyRecord, now multiRegionRecord) error {
	others, err := relatives(tx, k)
	if err != nil {
		return err
	}
	k.MultiRegion = &now
	for _, member := range others {
		member.MultiRegion = &now
		if err := save(tx, member.path(), member); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) replicateKey(ctx context.Context, in *kmsapi.ReplicateKeyRequest) (*kmsapi.ReplicateKeyResponse, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	prospect := k.keyRecord
	prospect.Region, prospect.Tags = in.ReplicaRegion, nil
	if err := c.mayCreate(&prospect, in.Tags); err != nil {
		return nil, err
	}
	for range 2 { // as AWS counts it
		if err := c.s.rates.take(c.caller.Account, in.ReplicaRegion, "CreateKey"); err != nil {
			return nil, err
		}
	}
	replica, err := c.newReplica(in, k)
	if err != nil {
		return nil, err
	}
	err = c.changeKey(ctx, k, func(tx store.Tx, primary *keyRecord) error { return c.addReplica(tx, primary, replica) })
	if err != nil {
		return nil, err
	}
	entry, err := newKeyEntry(replica)
	if err != nil {
		return nil, err
	}
	c.about(keyResource(entry.Account, entry.ARN))
	return &kmsapi.ReplicateKeyResponse{ReplicaKeyMetadata: c.s.metadata(entry), ReplicaPolicy: replica.Policy, ReplicaTags: replica.Tags}, nil
}

// newReplica makes the record of a replica, without material.
func (c *call) newReplica(in *kmsapi.ReplicateKeyRequest, k *keyEntry) (*keyRecord, error) {
	if err := c.replicable(in.ReplicaRegion, k); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	document, err := c.policyOr(in.Policy, in.ReplicaRegion)
	if err != nil {
		return nil, err
	}
	replica := &keyRecord{
		ID: k.ID, Account: k.Account, Region: in.ReplicaRegion, Created: c.s.now().UTC(), Description: in.Description, Enabled: true,
		Spec: k.Spec, Usage: k.Usage, Origin: k.Origin, Policy: document, Tags: in.Tags, Transition: kmsapi.StateCreating,
	}
	return replica, c.mayUpdate(replica, in.BypassPolicyLockoutSafetyCheck)
}

// replicable tells whether a key can have a replica in a Region.
func (c *call) replicable(region string, k *keyEntry) error {
	switch {
	case kmsapi.PartitionOf(region) != kmsapi.PartitionOf(k.Region):
		return invalid("The Region %s is not in the partition of %s.", region, k.ARN)
	case !c.s.serves(region):
		return invalid("The Region %s is not served here.", region)
	case !k.spec.AllowedIn(region):
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "Keys of the key spec %s are not available in the Region %s.", k.Spec, region)
	}
	return c.withinKeyQuota(region)
}

// addReplica stores a replica and makes it known to the others.
func (c *call) addReplica(tx store.Tx, primary, replica *keyRecord) error {
	if replica.Region == primary.Region || slices.Contains(primary.MultiRegion.Replicas, replica.Region) {
		return kmsapi.Errorf(kmsapi.AlreadyExists, "A related multi-Region key exists in the Region %s already.", replica.Region)
	}
	now := *primary.MultiRegion
	now.Replicas = append(slices.Clone(now.Replicas), replica.Region)
	if err := relate(tx, primary, now); err != nil {
		return err
	}
	replica.MultiRegion = &now
	return save(tx, replica.path(), replica)
}

// fillReplica ends the creation of a replica: it gets all material of the
// primary key. Imported material is for the owner to import.
func (s *Service) fillReplica(tx store.Tx, replica *keyRecord) error {
	primary, err := load[keyRecord](tx, path(keyPrefix, replica.Account, replica.MultiRegion.Primary, replica.ID))
	if err != nil {
		return err
	}
	replica.Transition = ""
	if primary == nil {
		return nil
	}
	replica.PublicKey = primary.PublicKey
	replica.Materials = nil
	for i := range primary.Materials {
		m, err := s.copyMaterial(primary, &primary.Materials[i], replica)
		if err != nil {
			return err
		}
		replica.Materials = append(replica.Materials, m)
	}
	return nil
}

// copyMaterial gives a key's material to its replica.
func (s *Service) copyMaterial(from *keyRecord, m *keyMaterial, to *keyRecord) (keyMaterial, error) {
	out := *m
	if from.Origin == kmsapi.OriginExternal {
		out.forget()
		if out.Pending != "" {
			out.Pending = kmsapi.PendingMultiRegionImportAndRotation
		}
		return out, nil
	}
	made, err := s.soft.Copy(s.ctx, s.ownCall("SynchronizeMultiRegionKey"), from.keyOf(m), to.newMaterial())
	out.Data = made.Data
	return out, err
}

func (c *call) updatePrimaryRegion(ctx context.Context, in *kmsapi.UpdatePrimaryRegionRequest) (*kmsapi.Empty, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	if in.PrimaryRegion == k.Region {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s is the primary key already.", k.ARN)
	}
	if err := c.mayLead(k, in.PrimaryRegion); err != nil {
		return nil, err
	}
	if err := c.s.rates.take(c.caller.Account, in.PrimaryRegion, c.op.Quota); err != nil {
		return nil, err
	}
	return none, c.changeKey(ctx, k, func(tx store.Tx, primary *keyRecord) error { return c.beginMove(tx, primary, in.PrimaryRegion) })
}

// mayLead decides about the key that is to become the primary one.
func (c *call) mayLead(k *keyEntry, region string) error {
	q := question{permission: c.op.Permission, resource: kmsapi.KeyARN(region, k.Account, k.ID), region: region}
	if k.MultiRegion != nil {
		q.key = c.s.mirror.key(region, k.ID)
	}
	return c.ask(q)
}

// beginMove puts the primary and its successor into the state Updating. A move
// that has begun turns to the new Region.
func (c *call) beginMove(tx store.Tx, primary *keyRecord, region string) error {
	if primary.Transition == kmsapi.StateUpdating {
		if primary.MultiRegion.Next == region {
			return nil
		}
		if err := passOver(tx, primary); err != nil {
			return err
		}
	}
	at := path(keyPrefix, primary.Account, region, primary.ID)
	successor, err := load[keyRecord](tx, at)
	if err != nil {
		return err
	}
	if successor == nil || !slices.Contains(primary.MultiRegion.Replicas, region) {
		return keyNotFound(kmsapi.KeyARN(region, primary.Account, primary.ID))
	}
	if err := c.refused(successor); err != nil {
		return err
	}
	now := *primary.MultiRegion
	now.Next = region
	if err := relate(tx, primary, now); err != nil {
		return err
	}
	primary.Transition = kmsapi.StateUpdating
	if successor, err = load[keyRecord](tx, at); err != nil {
		return err
	}
	successor.Transition = kmsapi.StateUpdating
	return save(tx, at, successor)
}

// passOver lets the successor of a primary key that is moving stay a replica.
func passOver(tx store.Tx, primary *keyRecord) error {
	at := path(keyPrefix, primary.Account, primary.MultiRegion.Next, primary.ID)
	rec, err := load[keyRecord](tx, at)
	if err != nil || rec == nil {
		return err
	}
	rec.Transition = ""
	return save(tx, at, rec)
}

// endMove makes the successor the primary key. k is the primary that was.
func endMove(tx store.Tx, k *keyRecord) error {
	next := k.MultiRegion.Next
	replicas := slices.DeleteFunc(slices.Clone(k.MultiRegion.Replicas), func(r string) bool { return r == next })
	now := multiRegionRecord{Primary: next, Replicas: append(replicas, k.Region)}
	if err := relate(tx, k, now); err != nil {
		return err
	}
	at := path(keyPrefix, k.Account, next, k.ID)
	successor, err := load[keyRecord](tx, at)
	if err != nil {
		return err
	}
	if successor != nil {
		successor.Rotation, successor.Transition = k.Rotation, ""
		if err := save(tx, at, successor); err != nil {
			return err
		}
	}
	k.Rotation, k.Transition = rotationRecord{}, ""
	return nil
}

// leave takes a key that is deleted out of the relation. Material that waited for
// its import there waits no longer, and a primary key that has waited for its last
// replica begins to wait for its own deletion.
func (s *Service) leave(tx store.Tx, k *keyRecord, now time.Time) error {
	if k.MultiRegion == nil {
		return nil
	}
	rest := *k.MultiRegion
	rest.Replicas = slices.DeleteFunc(slices.Clone(rest.Replicas), func(r string) bool { return r == k.Region })
	if err := relate(tx, k, rest); err != nil || k.primary() {
		return err
	}
	primary, err := load[keyRecord](tx, path(keyPrefix, k.Account, rest.Primary, k.ID))
	if err != nil || primary == nil {
		return err
	}
	if err := s.settleImport(tx, primary); err != nil {
		return err
	}
	if primary.PendingWindow > 0 && len(rest.Replicas) == 0 {
		primary.DeletionDate = now.UTC().Add(days(primary.PendingWindow)).Truncate(time.Millisecond)
		primary.PendingWindow = 0
	}
	return save(tx, primary.path(), primary)
}
