package kms

import (
	"context"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keywrap"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

const (
	// tokenLife is how long the parameters for an import are valid.
	tokenLife = 24 * time.Hour
	// maxMaterialDays is the longest time, in days, for which material that expires can be imported.
	maxMaterialDays = 365
)

func (c *call) getParametersForImport(ctx context.Context, in *kmsapi.GetParametersForImportRequest) (*kmsapi.GetParametersForImportResponse, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	if !k.spec.Wraps(in.WrappingAlgorithm, in.WrappingKeySpec, k.Region) {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation,
			"Key material of the key spec %s cannot be wrapped by %s under a key of the spec %s in the Region %s.",
			k.Spec, in.WrappingAlgorithm, in.WrappingKeySpec, k.Region)
	}
	wrapping, err := c.s.wrapping.Get(ctx, in.WrappingKeySpec)
	if err != nil {
		return nil, err
	}
	until := c.s.now().UTC().Add(tokenLife).Truncate(time.Millisecond)
	token := keywrap.Token{KeyARN: k.ARN, Algorithm: in.WrappingAlgorithm, NotAfter: until, Key: wrapping}
	sealed, err := token.Seal(c.s.sealer)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GetParametersForImportResponse{
		KeyID: k.ARN, ImportToken: sealed, PublicKey: wrapping.PublicKey(), ParametersValidTo: kmsapi.At(until),
	}, nil
}

// arrival is imported key material on its way into a key.
type arrival struct {
	keystore.Material
	kind        kmsapi.ImportType // empty: as the key's history suggests
	wantedID    string
	expiration  kmsapi.ExpirationModelType
	validTo     time.Time
	description string
}

func (c *call) importKeyMaterial(ctx context.Context, in *kmsapi.ImportKeyMaterialRequest) (*kmsapi.ImportKeyMaterialResponse, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	a, err := c.arrivalOf(in, k)
	if err != nil {
		return nil, err
	}
	if a.Material, err = c.unwrap(ctx, in, k); err != nil {
		return nil, err
	}
	if err := c.changeKey(ctx, k, func(tx store.Tx, rec *keyRecord) error { return c.s.arrive(tx, rec, a) }); err != nil {
		return nil, err
	}
	c.note("keyMaterialId", a.ID)
	out := &kmsapi.ImportKeyMaterialResponse{KeyID: k.ARN}
	if k.spec.Symmetric() {
		out.KeyMaterialID = a.ID
	}
	return out, nil
}

// arrivalOf checks what the request says of the material.
func (c *call) arrivalOf(in *kmsapi.ImportKeyMaterialRequest, k *keyEntry) (arrival, error) {
	a := arrival{kind: in.ImportType, wantedID: in.KeyMaterialID, expiration: in.ExpirationModel, description: in.KeyMaterialDescription}
	if a.expiration == "" {
		a.expiration = kmsapi.KeyMaterialExpires
	}
	if !k.spec.Symmetric() && (a.kind != "" || a.wantedID != "" || a.description != "") {
		return a, invalid("ImportType, KeyMaterialId and KeyMaterialDescription are valid only for symmetric encryption keys.")
	}
	if a.wantedID != "" && a.kind == kmsapi.NewKeyMaterial {
		return a, invalid("KeyMaterialId is valid only with the ImportType EXISTING_KEY_MATERIAL.")
	}
	if a.expiration == kmsapi.KeyMaterialDoesNotExpire {
		if in.ValidTo != nil {
			return a, invalid("A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE")
		}
		return a, nil
	}
	if in.ValidTo == nil {
		return a, invalid("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
	}
	now := c.s.now()
	a.validTo = in.ValidTo.UTC().Truncate(time.Millisecond)
	if !a.validTo.After(now) || a.validTo.After(now.Add(days(maxMaterialDays))) {
		return a, invalid("The validTo date must be in the future, and not more than %d days away.", maxMaterialDays)
	}
	return a, nil
}

// unwrap opens the token and, with what it holds, the material.
func (c *call) unwrap(ctx context.Context, in *kmsapi.ImportKeyMaterialRequest, k *keyEntry) (keystore.Material, error) {
	if err := c.mayTouch(k); err != nil {
		return keystore.Material{}, err
	}
	token, err := keywrap.OpenToken(c.s.sealer, in.ImportToken, k.ARN, c.s.now())
	if err != nil {
		return keystore.Material{}, err
	}
	material, err := token.Key.Unwrap(token.Algorithm, in.EncryptedKeyMaterial)
	if err != nil {
		return keystore.Material{}, kmsapi.Errorf(kmsapi.InvalidCiphertext, "").Because(err)
	}
	defer clear(material)
	return c.s.soft.Import(ctx, c.onBehalf(), k.newMaterial(), material)
}

// arrive puts imported material into its key.
func (s *Service) arrive(tx store.Tx, k *keyRecord, a arrival) error {
	waiting := !k.complete(s.now())
	m, err := s.placeFor(tx, k, a)
	if err != nil {
		return err
	}
	m.Data, m.Expiration, m.ValidTo = a.Data, a.expiration, a.validTo
	if a.description != "" {
		m.Description = a.description
	}
	if len(a.PublicKey) > 0 {
		k.PublicKey = a.PublicKey
	}
	if waiting && k.complete(s.now()) {
		k.Enabled = true
	}
	return s.settleImport(tx, k)
}

// placeFor finds the place among the key's materials that is the arriving one's.
func (s *Service) placeFor(tx store.Tx, k *keyRecord, a arrival) (*keyMaterial, error) {
	kind := a.kind
	if kind == "" {
		kind = kmsapi.NewKeyMaterial
		if len(k.Materials) > 0 {
			kind = kmsapi.ExistingKeyMaterial
		}
	}
	if a.wantedID != "" && (kind == kmsapi.NewKeyMaterial || a.wantedID != a.ID) {
		return nil, kmsapi.Errorf(kmsapi.IncorrectKeyMaterial, "The key material is not the one with the id %s.", a.wantedID)
	}
	known := k.materialByID(a.ID)
	if kind == kmsapi.ExistingKeyMaterial {
		if known == nil {
			return nil, kmsapi.Errorf(kmsapi.IncorrectKeyMaterial, "The key material has not been imported into %s before.", k.arn())
		}
		return known, nil
	}
	if known != nil && known.Pending == "" {
		return nil, kmsapi.Errorf(kmsapi.IncorrectKeyMaterial, "The key material (id: %s) has been imported into %s before: its ImportType is EXISTING_KEY_MATERIAL.", a.ID, k.arn())
	}
	if known != nil {
		return known, nil
	}
	return s.newPlace(tx, k, a.ID)
}

// newPlace adds a material to the key: the first is current at once, another
// one waits for a rotation, in the replicas too.
func (s *Service) newPlace(tx store.Tx, k *keyRecord, id string) (*keyMaterial, error) {
	if len(k.Materials) == 0 {
		k.Materials = []keyMaterial{{ID: id}}
		return &k.Materials[0], nil
	}
	if k.MultiRegion != nil && !k.primary() {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "New key material is imported into the primary key in %s first.", k.MultiRegion.Primary)
	}
	if other := k.pendingMaterial(); other != nil {
		return nil, kmsapi.Errorf(kmsapi.KMSInvalidState,
			"New key material (id: %s) cannot be imported into KMS key %s, because another key material (id: %s) is pending rotation.", id, k.ID, other.ID)
	}
	replicas, err := replicasOf(tx, k)
	if err != nil {
		return nil, err
	}
	for _, replica := range replicas {
		replica.Materials = append(replica.Materials, keyMaterial{ID: id, Pending: kmsapi.PendingMultiRegionImportAndRotation})
		if err := save(tx, replica.path(), replica); err != nil {
			return nil, err
		}
	}
	k.Materials = append(k.Materials, keyMaterial{ID: id, Pending: kmsapi.PendingMultiRegionImportAndRotation})
	return &k.Materials[len(k.Materials)-1], nil
}

// settleImport makes material that has now been imported everywhere ready for the rotation.
func (s *Service) settleImport(tx store.Tx, k *keyRecord) error {
	pending := k.pendingMaterial()
	if pending == nil {
		return nil
	}
	others, err := relatives(tx, k)
	if err != nil {
		return err
	}
	state := kmsapi.PendingRotation
	for _, member := range append(others, k) {
		if m := member.pendingMaterial(); m == nil || !m.there(s.now()) {
			state = kmsapi.PendingMultiRegionImportAndRotation
		}
	}
	pending.Pending = state
	for _, member := range others {
		if m := member.pendingMaterial(); m != nil && m.Pending != state {
			m.Pending = state
			if err := save(tx, member.path(), member); err != nil {
				return err
			}
		}
	}
	return nil
}
