package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
)

const (
	// copies is on how many members a key must be before it is acknowledged.
	copies = 2
	// attempts is how often a key is begun, each time in another member, as long as
	// nothing is left of the attempt before.
	attempts = 2
	// undoTimeout bounds the destruction of a key that could not be made.
	undoTimeout = 10 * time.Second
)

// CreateKey implements keystore.Store.
func (c *Connection) CreateKey(ctx context.Context, _ keystore.Call, key keystore.NewKey) (keystore.Material, error) {
	if !c.enter() {
		return keystore.Material{}, notConnected()
	}
	defer c.leave()
	if err := ctx.Err(); err != nil {
		return keystore.Material{}, fmt.Errorf("creating a key: %w", err)
	}
	c.awaitMembers(ctx, false)
	var failures []error
	start := int(c.next.Add(1))
	for attempt := range attempts {
		logins := c.others(nil)
		if !inTwoZones(logins) {
			return keystore.Material{}, tooFewHSMs().Because(errors.Join(failures...))
		}
		source, err := c.source(logins, start+attempt)
		if err != nil {
			return keystore.Material{}, err
		}
		c.fates.decree(key.ARN, unmade)
		data, holders, err := c.makeKey(ctx, key, source, logins)
		if err == nil {
			c.made(key.ARN, holders)
			return keystore.Material{Data: data}, nil
		}
		failures = append(failures, err)
		if undone := c.undo(ctx, key, logins); !undone || ctx.Err() != nil {
			break
		}
	}
	err := errors.Join(failures...)
	if !inTwoZones(c.others(nil)) {
		return keystore.Material{}, tooFewHSMs().Because(err)
	}
	return keystore.Material{}, err
}

// made lets a key be copied to the members that do not have it, some of which may have joined meanwhile.
func (c *Connection) made(label string, holders []*member) {
	c.fates.spare(label)
	for _, m := range c.members() {
		if !slices.Contains(holders, m) {
			m.lag()
		}
	}
}

func inTwoZones(logins []*login) bool {
	zones := make(map[string]bool)
	for _, l := range logins {
		zones[l.decl.AvailabilityZone] = true
	}
	return len(zones) >= 2
}

// source chooses the member that generates a key: one that can pass it on.
func (c *Connection) source(logins []*login, start int) (*login, error) {
	for i := range logins {
		l := logins[(start+i)%len(logins)]
		if c.cluster.Replication == cloudhsm.ReplicationModule || l.cluster.Load() != nil {
			return l, nil
		}
	}
	return nil, badConfiguration(c.cluster, "Its HSMs have no cluster key yet. Connect the custom key store again while all of its HSMs are active.")
}

// makeKey generates a key in one member, and gets it to the others. It tells who has it.
func (c *Connection) makeKey(ctx context.Context, key keystore.NewKey, source *login, logins []*login) (data []byte, holders []*member, err error) {
	var h pkcs11.Handle
	err = source.alone(ctx, func() (err error) {
		h, err = source.token.GenerateKey(ctx, keyTemplate(key.ARN, key.ID, trustedBy(logins)))
		return err
	})
	if err != nil {
		c.suspect(source, err)
		return nil, nil, fmt.Errorf("generating a key on %s: %w", source.decl.ID, err)
	}
	m := material{label: key.ARN, id: key.ID, clusterID: c.cluster.ID}
	sealed, err := source.token.EncryptGCM(ctx, h, knownText, []byte(m.label))
	if err != nil {
		c.suspect(source, err)
		return nil, nil, fmt.Errorf("making the known answer on %s: %w", source.decl.ID, err)
	}
	known, ok := appendBody(nil, sealed)
	if !ok {
		return nil, nil, errBody
	}
	m.known = known
	if holders, err = c.spread(ctx, source, h, m, logins); err != nil {
		return nil, nil, err
	}
	source.handles.Store(key.ID, h)
	data, err = m.encode()
	return data, holders, err
}

// trustedBy tells whether all members may pass on a key that only leaves
// under trusted keys.
func trustedBy(logins []*login) bool {
	for _, l := range logins {
		if k := l.cluster.Load(); k == nil || !k.trusted {
			return false
		}
	}
	return true
}

// spread gets a key to the other members, and sees that it is the same there. It
// tells who has the key, and fails when too few of those still belong to the cluster.
func (c *Connection) spread(ctx context.Context, source *login, h pkcs11.Handle, m material, logins []*login) (holders []*member, err error) {
	holders = []*member{source.member}
	var failures []error
	for _, l := range logins {
		if l == source {
			continue
		}
		err := c.hand(ctx, source, h, m, l)
		if err == nil {
			holders = append(holders, l.member)
			continue
		}
		failures = append(failures, fmt.Errorf("%s: %w", l.decl.ID, err))
		c.suspect(l, err)
		c.suspect(source, nil) // it may be the one that has lost the cluster key
	}
	holders = slices.DeleteFunc(holders, func(m *member) bool { return !c.isMember(m) })
	if len(holders) < copies {
		return nil, fmt.Errorf("the key is on %d HSM only: %w", len(holders), errors.Join(failures...))
	}
	return holders, nil
}

// hand gets a key to one member, by ourselves or by the vendor's replication.
func (c *Connection) hand(ctx context.Context, source *login, h pkcs11.Handle, m material, to *login) error {
	ctx, cancel := context.WithTimeout(ctx, c.kind.cfg.Step)
	defer cancel()
	if c.cluster.Replication == cloudhsm.ReplicationModule {
		if err := appear(ctx, to, m); err != nil {
			return err
		}
	} else if err := clone(ctx, &source.stay, pkcs11.Object{Handle: h, Label: m.label, ID: []byte(m.id)}, &to.stay); err != nil {
		return err
	}
	_, err := to.locate(ctx, m)
	return err
}

// suspect has the supervisor look at a member that failed while a key was made.
func (c *Connection) suspect(l *login, err error) {
	if isLost(err) || l.cluster.Load() == nil {
		l.kick()
	}
}

// undo destroys what there is of a key that could not be made, as far as the
// members can be reached, and tells whether nothing is left. What stays is an
// orphan that DeleteKey will look for. Logins at members that have left
// meanwhile count: were they to come back with an orphan, it would pass for the key.
func (c *Connection) undo(ctx context.Context, key keystore.NewKey, logins []*login) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	c.fates.decree(key.ARN, undone)
	err := c.destroy(ctx, key.ID, key.ARN, key.ID)
	for _, l := range logins {
		if !c.isMember(l.member) {
			err = errors.Join(err, l.destroyAll(ctx, key.ARN, []byte(key.ID)))
		}
	}
	if err != nil {
		c.kind.cfg.Log.Warn("a key that could not be made is destroyed later", "key", key.ARN, "error", err)
		return false
	}
	c.fates.spare(key.ARN)
	return true
}

// DeleteKey implements keystore.Store. It fails as long as a member cannot be
// reached that may have the key, so that it is called again.
func (c *Connection) DeleteKey(ctx context.Context, _ keystore.Call, key keystore.Key) error {
	label, id, err := namesOf(key)
	if err != nil {
		return err
	}
	if !c.enter() {
		return notConnected()
	}
	defer c.leave()
	c.awaitMembers(ctx, false)
	c.fates.decree(label, deleted)
	return c.destroy(ctx, key.ID, label, id)
}

// destroy destroys all objects with the label and id on all members. The key's fate
// keeps others from copying it meanwhile. That an HSM failed which has left the cluster is
// no failure, and one that joined finds the key deleted.
func (c *Connection) destroy(ctx context.Context, keyID, label, id string) error {
	var failures []error
	for _, m := range c.members() {
		if err := c.destroyOn(ctx, m, keyID, label, id); err != nil && c.isMember(m) {
			failures = append(failures, fmt.Errorf("%s: %w", m.decl.ID, err))
		}
	}
	if len(failures) > 0 {
		return kmsapi.Errorf(kmsapi.KMSInvalidState, "The key material could not be destroyed on all HSMs of the CloudHSM cluster.").Because(errors.Join(failures...))
	}
	return nil
}

func (c *Connection) destroyOn(ctx context.Context, m *member, keyID, label, id string) error {
	l := m.serving.Load()
	if l == nil {
		return errors.New("it is not in service")
	}
	err := l.destroyAll(ctx, label, []byte(id))
	if err != nil {
		c.suspect(l, err)
	}
	l.handles.Delete(keyID)
	return err
}
