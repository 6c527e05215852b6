package kms

import (
	"fmt"
	"time"

	"kastellan.dev/internal/kmsapi"
)

// rotationEntry is one of a key's materials in a list.
type rotationEntry struct {
	key   *keyEntry
	m     *keyMaterial
	index int
}

// path orders the entries: oldest first.
func (e rotationEntry) path() string { return fmt.Sprintf("%s/%06d", e.key.path(), e.index) }

func (e rotationEntry) describe(now time.Time) kmsapi.RotationsListEntry {
	out := kmsapi.RotationsListEntry{
		KeyID: e.key.ID, KeyMaterialID: e.m.ID, KeyMaterialState: e.key.stateOfMaterial(e.m), RotationType: e.m.By,
	}
	if !e.m.Rotated.IsZero() {
		out.RotationDate = kmsapi.At(e.m.Rotated)
	}
	if e.key.Origin != kmsapi.OriginExternal {
		return out
	}
	out.ImportState, out.KeyMaterialDescription = kmsapi.PendingImport, e.m.Description
	if e.m.there(now) {
		out.ImportState, out.ExpirationModel = kmsapi.Imported, e.m.Expiration
		if !e.m.ValidTo.IsZero() {
			out.ValidTo = kmsapi.At(e.m.ValidTo)
		}
	}
	return out
}
