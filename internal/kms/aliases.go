package kms

import (
	"context"
	"strings"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// checkAliasName refuses names that nobody may give.
func checkAliasName(name string) error {
	rest, ok := strings.CutPrefix(name, "alias/")
	switch {
	case !ok:
		return invalid(`Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case rest == "":
		return kmsapi.Errorf(kmsapi.InvalidAliasName, "The alias has no name after the prefix alias/.")
	case strings.HasPrefix(rest, "aws/"):
		return kmsapi.Errorf(kmsapi.InvalidAliasName, "Names that begin with alias/aws/ are reserved.")
	}
	return nil
}

// aliasPermit decides about the alias half of an alias operation.
func (c *call) aliasPermit(name string) error {
	arn := kmsapi.AliasARN(c.caller.Region, c.caller.Account, name)
	if err := c.authorize(c.op.Permission, arn); err != nil {
		return err
	}
	c.about(aliasResource(c.caller.Account, arn))
	return nil
}

// aliasedPermit decides about the key that an alias belongs to so far.
func (c *call) aliasedPermit(rec *aliasRecord) error {
	k := c.s.mirror.key(rec.Region, rec.KeyID)
	if k == nil {
		return c.authorize(c.op.Permission, kmsapi.KeyARN(rec.Region, rec.Account, rec.KeyID))
	}
	return c.authorizeKey(k)
}

func (c *call) createAlias(ctx context.Context, in *kmsapi.CreateAliasRequest) (*kmsapi.Empty, error) {
	if err := checkAliasName(in.AliasName); err != nil {
		return nil, err
	}
	if err := c.aliasPermit(in.AliasName); err != nil {
		return nil, err
	}
	k, err := c.manage(in.TargetKeyID)
	if err != nil {
		return nil, err
	}
	now := c.s.now().UTC()
	rec := &aliasRecord{Name: in.AliasName, Account: c.caller.Account, Region: c.caller.Region, Created: now, Updated: now}
	return none, c.s.update(ctx, func(tx store.Tx) error {
		old, err := load[aliasRecord](tx, rec.path())
		if err != nil {
			return err
		}
		if old != nil {
			return kmsapi.Errorf(kmsapi.AlreadyExists, "An alias with the name %s already exists", rec.arn())
		}
		return c.point(tx, rec, k)
	})
}

func (c *call) updateAlias(ctx context.Context, in *kmsapi.UpdateAliasRequest) (*kmsapi.Empty, error) {
	if err := checkAliasName(in.AliasName); err != nil {
		return nil, err
	}
	if err := c.aliasPermit(in.AliasName); err != nil {
		return nil, err
	}
	k, err := c.manage(in.TargetKeyID)
	if err != nil {
		return nil, err
	}
	at := path(aliasPrefix, c.caller.Account, c.caller.Region, in.AliasName)
	return none, c.s.update(ctx, func(tx store.Tx) error {
		rec, err := load[aliasRecord](tx, at)
		if err != nil {
			return err
		}
		if rec == nil {
			return aliasNotFound(kmsapi.AliasARN(c.caller.Region, c.caller.Account, in.AliasName))
		}
		if err := c.aliasedPermit(rec); err != nil {
			return err
		}
		if err := interchangeable(tx, rec, k); err != nil {
			return err
		}
		rec.Updated = c.s.now().UTC()
		return c.point(tx, rec, k)
	})
}

// interchangeable refuses to move an alias between keys of different kinds:
// whoever uses the alias expects the same operations to work.
func interchangeable(r store.Reader, rec *aliasRecord, k *keyEntry) error {
	old, err := load[keyRecord](r, path(keyPrefix, rec.Account, rec.Region, rec.KeyID))
	if err != nil || old == nil {
		return err
	}
	spec := keyspec.Of(old.Spec)
	if spec == nil || spec.Symmetric() != k.spec.Symmetric() || spec.HMAC() != k.spec.HMAC() || old.Usage != k.Usage {
		return invalid("An alias can be moved only between KMS keys of the same type and key usage: %s is a %s key for %s, %s a %s key for %s.",
			old.arn(), old.Spec, old.Usage, k.ARN, k.Spec, k.Usage)
	}
	return nil
}

// point makes an alias that of key k, which must still be there and not be about to go.
func (c *call) point(tx store.Tx, rec *aliasRecord, k *keyEntry) error {
	key, err := load[keyRecord](tx, k.path())
	if err != nil {
		return err
	}
	if key == nil {
		return keyNotFound(k.ARN)
	}
	if _, err := c.nowOf(k, key); err != nil {
		return err
	}
	if key.leaving() {
		return kmsapi.Errorf(kmsapi.KMSInvalidState, "%s is pending deletion.", k.ARN)
	}
	if rec.KeyID != k.ID {
		if err := c.withinAliasQuota(k); err != nil {
			return err
		}
	}
	rec.KeyID = k.ID
	return save(tx, rec.path(), rec)
}

// withinAliasQuota counts what the mirror shows: the quota can be exceeded by the calls that run
// at one moment.
func (c *call) withinAliasQuota(k *keyEntry) error {
	if count := c.s.mirror.countAliases(k.Region, k.ID); count >= c.s.quotas.AliasesPerKey {
		return kmsapi.Errorf(kmsapi.LimitExceeded, "%s has %d aliases, which is the limit.", k.ARN, count)
	}
	return nil
}

func (c *call) deleteAlias(ctx context.Context, in *kmsapi.DeleteAliasRequest) (*kmsapi.Empty, error) {
	if err := checkAliasName(in.AliasName); err != nil {
		return nil, err
	}
	if err := c.aliasPermit(in.AliasName); err != nil {
		return nil, err
	}
	at := path(aliasPrefix, c.caller.Account, c.caller.Region, in.AliasName)
	key := ""
	err := c.s.update(ctx, func(tx store.Tx) error {
		rec, err := load[aliasRecord](tx, at)
		if err != nil {
			return err
		}
		if rec == nil {
			return aliasNotFound(kmsapi.AliasARN(c.caller.Region, c.caller.Account, in.AliasName))
		}
		if err := c.aliasedPermit(rec); err != nil {
			return err
		}
		key = kmsapi.KeyARN(rec.Region, rec.Account, rec.KeyID)
		return tx.Delete(at)
	})
	if key != "" {
		c.about(keyResource(c.caller.Account, key))
	}
	return none, err
}

// ownKey gives a key of the caller's account, for a list about which key policies do not decide.
func (c *call) ownKey(id string) (*keyEntry, error) {
	name, err := c.parse(id)
	if err != nil {
		return nil, err
	}
	if name.Account != c.caller.Account {
		return nil, c.hidden(c.op.Permission)
	}
	k, err := c.lookup(name)
	if err != nil {
		return nil, err
	}
	c.aboutKey(k)
	return k, nil
}

func (c *call) listAliases(_ context.Context, in *kmsapi.ListAliasesRequest) (*kmsapi.ListAliasesResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	s, err := spanOf(c.below(aliasPrefix), in.Limit, 50, 100, in.Marker)
	if err != nil {
		return nil, err
	}
	var found []*aliasRecord
	var next string
	if in.KeyID == "" {
		found, next = cut(c.s.mirror.aliasesIn(c.caller.Account, c.caller.Region, s.after, s.size+1), s)
	} else {
		k, err := c.ownKey(in.KeyID)
		if err != nil {
			return nil, err
		}
		found, next = page(c.s.mirror.aliasesOf(k.Region, k.ID), s)
	}
	out := &kmsapi.ListAliasesResponse{NextMarker: next, Truncated: next != ""}
	for _, a := range found {
		out.Aliases = append(out.Aliases, kmsapi.AliasListEntry{
			AliasName: a.Name, AliasArn: a.arn(), TargetKeyID: a.KeyID,
			CreationDate: kmsapi.At(a.Created), LastUpdatedDate: kmsapi.At(a.Updated),
		})
	}
	return out, nil
}
