package kms

import (
	"context"
	"slices"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

func (c *call) deleteImportedKeyMaterial(ctx context.Context, in *kmsapi.DeleteImportedKeyMaterialRequest) (*kmsapi.DeleteImportedKeyMaterialResponse, error) {
	if in.KeyMaterialID != "" {
		c.note("keyMaterialId", in.KeyMaterialID)
	}
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	var deleted string
	err = c.changeKey(ctx, k, func(tx store.Tx, rec *keyRecord) error {
		var err error
		deleted, err = c.s.remove(tx, rec, in.KeyMaterialID)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.s.forget(ctx, k, deleted)
	out := &kmsapi.DeleteImportedKeyMaterialResponse{KeyID: k.ARN}
	if k.spec.Symmetric() {
		out.KeyMaterialID = deleted
	}
	return out, nil
}

// remove destroys one of a key's imported materials, the current one if none is
// named, and gives its id: empty if there was nothing to destroy.
func (s *Service) remove(tx store.Tx, k *keyRecord, id string) (string, error) {
	m := k.currentMaterial()
	if id != "" {
		if m = k.materialByID(id); m == nil {
			return "", kmsapi.Errorf(kmsapi.NotFound, "%s has no key material with the id %s.", k.arn(), id)
		}
	}
	if m == nil {
		return "", nil
	}
	id = m.ID
	if m.Pending == "" || k.MultiRegion != nil && !k.primary() {
		m.forget()
		return id, s.settleImport(tx, k)
	}
	k.unlist(id)
	replicas, err := replicasOf(tx, k)
	if err != nil {
		return "", err
	}
	for _, replica := range replicas {
		replica.unlist(id)
		if err := save(tx, replica.path(), replica); err != nil {
			return "", err
		}
	}
	return id, nil
}

// unlist takes material that has never been current off the key's list.
func (k *keyRecord) unlist(id string) {
	k.Materials = slices.DeleteFunc(k.Materials, func(m keyMaterial) bool { return m.ID == id && m.Pending != "" })
}

// forget drops what the key store holds in memory of a key's material.
func (s *Service) forget(ctx context.Context, k *keyEntry, materialID string) {
	for i := range k.versions {
		if v := &k.versions[i]; v.materialID == materialID {
			if err := s.soft.DeleteKey(ctx, s.ownCall("DeleteImportedKeyMaterial"), v.key); err != nil {
				s.log.Error("key material could not be dropped from memory", "key", k.ARN, "error", err)
			}
		}
	}
}
