package kms

import (
	"time"

	"kastellan.dev/internal/blob"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
)

// keyMaterial is one of a key's materials as stored.
type keyMaterial struct {
	ID   string `json:",omitempty"` // 64 hexadecimal digits; empty in custom key stores
	Data []byte `json:",omitempty"` // keystore.Material.Data; nil while imported material is not there

	// Pending is why the material is not current yet; empty for one that is or was.
	Pending kmsapi.KeyMaterialState `json:",omitempty"`
	// Rotated and By tell when and by what the material became current; zero for the first.
	Rotated time.Time           `json:",omitzero"`
	By      kmsapi.RotationType `json:",omitempty"`

	// Of imported material only.
	Expiration  kmsapi.ExpirationModelType `json:",omitempty"`
	ValidTo     time.Time                  `json:",omitzero"` // zero: does not expire
	Description string                     `json:",omitempty"`
}

// there tells whether the material can be used at a time.
func (m *keyMaterial) there(now time.Time) bool {
	return len(m.Data) > 0 && (m.ValidTo.IsZero() || now.Before(m.ValidTo))
}

// forget destroys the material itself; that there was one stays known.
func (m *keyMaterial) forget() {
	m.Data, m.Expiration, m.ValidTo = nil, "", time.Time{}
}

// currentMaterial gives the material that encrypts, nil if there has never been one.
func (k *keyRecord) currentMaterial() *keyMaterial {
	for i := len(k.Materials) - 1; i >= 0; i-- {
		if k.Materials[i].Pending == "" {
			return &k.Materials[i]
		}
	}
	return nil
}

// pendingMaterial gives the material that waits for a rotation, nil if none does.
func (k *keyRecord) pendingMaterial() *keyMaterial {
	if n := len(k.Materials); n > 0 && k.Materials[n-1].Pending != "" {
		return &k.Materials[n-1]
	}
	return nil
}

// materialByID gives the material of that id, nil if the key has none.
func (k *keyRecord) materialByID(id string) *keyMaterial {
	for i := range k.Materials {
		if k.Materials[i].ID == id {
			return &k.Materials[i]
		}
	}
	return nil
}

// complete tells whether all material is there that the key needs to be used:
// one that is missing makes ciphertexts unreadable, and the whole key PendingImport.
func (k *keyRecord) complete(now time.Time) bool {
	if k.currentMaterial() == nil {
		return false
	}
	for i := range k.Materials {
		if m := &k.Materials[i]; m.Pending == "" && !m.there(now) {
			return false
		}
	}
	return true
}

// stateOfMaterial is the part that a material plays.
func (k *keyRecord) stateOfMaterial(m *keyMaterial) kmsapi.KeyMaterialState {
	switch {
	case m.Pending != "":
		return m.Pending
	case m == k.currentMaterial():
		return kmsapi.Current
	default:
		return kmsapi.NonCurrent
	}
}

// keyOf names one of a key's materials to the key store.
func (k *keyRecord) keyOf(m *keyMaterial) keystore.Key {
	return keystore.Key{ID: k.ID, ARN: k.arn(), XksKeyID: k.XksKeyID, Data: m.Data}
}

// keyVersion is what using one of a key's materials needs.
type keyVersion struct {
	materialID string
	key        keystore.Key
	header     []byte // the start of every ciphertext
}

// newVersions prepares a key's materials for use; current is the one that encrypts.
func newVersions(k *keyRecord) (all []keyVersion, current *keyVersion, err error) {
	all = make([]keyVersion, len(k.Materials))
	for i := range k.Materials {
		m := &k.Materials[i]
		header, err := blob.AppendHeader(nil, blob.Header{Kind: blobKind(k.Origin), KeyID: k.ID, MaterialID: m.ID})
		if err != nil {
			return nil, nil, err
		}
		all[i] = keyVersion{materialID: m.ID, key: k.keyOf(m), header: header}
		if m.Pending == "" {
			current = &all[i]
		}
	}
	return all, current, nil
}

func blobKind(o kmsapi.OriginType) blob.Kind {
	switch o {
	case kmsapi.OriginAWSCloudHSM:
		return blob.HSM
	case kmsapi.OriginExternalKeyStore:
		return blob.XKS
	default:
		return blob.Soft
	}
}
