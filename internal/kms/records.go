package kms

import (
	"encoding/json"
	"fmt"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// The prefixes of the storage keys. Each is followed by account, Region and
// id, except that of reservations.
const (
	keyPrefix         = "key/"
	aliasPrefix       = "alias/"
	keyStorePrefix    = "keystore/"
	evidencePrefix    = "evidence/"
	materialPrefix    = "material/"
	reservationPrefix = "xks-key/"
)

func path(prefix, account, region, id string) string {
	return prefix + account + "/" + region + "/" + id
}

// reservationPath is the storage key that keeps a second KMS key in the same
// store from using an external key; its value is the KMS key's id.
func reservationPath(storeID, xksKeyID string) string {
	return reservationPrefix + storeID + "/" + xksKeyID
}

// keyRecord is a KMS key as stored.
type keyRecord struct {
	ID          string
	Account     string
	Region      string
	Created     time.Time
	Description string
	Enabled     bool
	Spec        kmsapi.KeySpec
	Usage       kmsapi.KeyUsageType
	Origin      kmsapi.OriginType
	Policy      string       // as given, byte for byte
	Tags        []kmsapi.Tag `json:",omitempty"`
	StoreID     string       `json:",omitempty"` // of the custom key store; empty for the soft store
	XksKeyID    string       `json:",omitempty"`

	// Materials are the key's materials in the order in which they became
	// current; those that wait for a rotation come last. A key whose material has never
	// been imported has none.
	Materials []keyMaterial
	PublicKey []byte `json:",omitempty"` // of an asymmetric key: a DER SubjectPublicKeyInfo

	Rotation    rotationRecord     `json:",omitzero"`
	MultiRegion *multiRegionRecord `json:",omitempty"` // nil for a single-Region key
	// Transition is Creating for a replica that has no material yet, and Updating while
	// the primary Region changes; empty otherwise.
	Transition kmsapi.KeyState `json:",omitempty"`

	// The one material of records that were written before keys could have several.
	OnlyMaterialID   string `json:"MaterialID,omitempty"`
	OnlyMaterialData []byte `json:"MaterialData,omitempty"`

	DeletionDate time.Time `json:",omitzero"`
	Deleting     bool      `json:",omitzero"` // part of it is gone: there is no way back
	// PendingWindow is the waiting period, in days, of a primary key that waits for its
	// replicas to be deleted.
	PendingWindow int `json:",omitempty"`
}

// upgrade brings an old record into the form of today. It is stored so with the next change.
func (k *keyRecord) upgrade() {
	if k.OnlyMaterialData != nil {
		k.Materials = []keyMaterial{{ID: k.OnlyMaterialID, Data: k.OnlyMaterialData}}
		k.OnlyMaterialID, k.OnlyMaterialData = "", nil
	}
}

func (k *keyRecord) path() string { return path(keyPrefix, k.Account, k.Region, k.ID) }
func (k *keyRecord) arn() string  { return kmsapi.KeyARN(k.Region, k.Account, k.ID) }

func (k *keyRecord) pendingDeletion() bool { return !k.DeletionDate.IsZero() }

// leaving tells that the key waits for its deletion, or for that of its replicas first.
func (k *keyRecord) leaving() bool { return k.pendingDeletion() || k.PendingWindow > 0 }

// deletionDue tells that the waiting period is over.
func (k *keyRecord) deletionDue(now time.Time) bool {
	return k.pendingDeletion() && !k.DeletionDate.After(now)
}

// newMaterial is what a key store is told of the key.
func (k *keyRecord) newMaterial() keystore.NewKey {
	return keystore.NewKey{ID: k.ID, ARN: k.arn(), XksKeyID: k.XksKeyID, Spec: k.Spec}
}

// aliasRecord is an alias as stored.
type aliasRecord struct {
	Name    string // with "alias/"
	Account string
	Region  string
	KeyID   string
	Created time.Time
	Updated time.Time
}

func (a *aliasRecord) path() string { return path(aliasPrefix, a.Account, a.Region, a.Name) }
func (a *aliasRecord) arn() string  { return kmsapi.AliasARN(a.Region, a.Account, a.Name) }

// keyStoreRecord is a custom key store as stored: its configuration, with
// secrets sealed, and the state of its connection.
type keyStoreRecord struct {
	ID      string
	Account string
	Region  string
	Name    string
	Type    kmsapi.CustomKeyStoreType
	Created time.Time
	HSM     *hsmRecord `json:",omitempty"`
	XKS     *xksRecord `json:",omitempty"`

	// Version counts changes of what a connection depends on.
	Version uint64

	State     kmsapi.ConnectionState
	ErrorCode kmsapi.ConnectionErrorCode `json:",omitempty"`
	// Generation counts the attempts to connect and disconnect: work done for
	// an earlier one finds that it is no longer wanted.
	Generation uint64
	// Owner and LeaseUntil say which process works on CONNECTING or DISCONNECTING.
	Owner      string    `json:",omitempty"`
	LeaseUntil time.Time `json:",omitzero"`
	// RequestID and Principal are those of the call that began the attempt.
	RequestID string `json:",omitempty"`
	Principal string `json:",omitempty"`
}

type hsmRecord struct {
	ClusterID   string
	TrustAnchor string
	Passwords   passwordsRecord
}

// passwordsRecord holds sealed passwords of the kmsuser.
type passwordsRecord struct {
	Prepared []byte   `json:",omitempty"` // written ahead of a rotation
	Current  []byte   // what KMS believes it to be
	Older    [][]byte `json:",omitempty"` // newest first; members that were away may have them
}

type xksRecord struct {
	Connectivity  kmsapi.XksProxyConnectivity
	URIEndpoint   string
	URIPath       string
	ServiceName   string `json:",omitempty"`
	ServiceOwner  string `json:",omitempty"`
	AccessKeyID   string
	Secret        []byte // sealed
	CredentialSet time.Time
}

func (r *keyStoreRecord) path() string { return path(keyStorePrefix, r.Account, r.Region, r.ID) }
func (r *keyStoreRecord) evidencePath() string {
	return path(evidencePrefix, r.Account, r.Region, r.ID)
}

// materialRecord names material that must be destroyed unless a key record
// claims it: it is written before a key store makes material and before a key's
// record is deleted, so that the death of the process leaves nothing unaccounted for.
type materialRecord struct {
	Account  string
	Region   string
	StoreID  string
	Key      keystore.Key
	NotUntil time.Time // work that is under way has until then
	Owner    string    // the process that is at it
}

func (m *materialRecord) path() string {
	return path(materialPrefix, m.Account, m.Region, m.Key.ID)
}

// load reads the record at p; it is nil when there is none.
func load[T any](r store.Reader, p string) (*T, error) {
	value, ok, err := r.Get(p)
	if err != nil || !ok {
		return nil, err
	}
	return decode[T](p, value)
}

func decode[T any](p string, value []byte) (*T, error) {
	rec := new(T)
	if err := json.Unmarshal(value, rec); err != nil {
		return nil, fmt.Errorf("reading the record %s: %w", p, err)
	}
	if old, ok := any(rec).(interface{ upgrade() }); ok {
		old.upgrade()
	}
	return rec, nil
}

func save(tx store.Tx, p string, rec any) error {
	value, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("writing the record %s: %w", p, err)
	}
	return tx.Put(p, value)
}
