package kmsapi

// ImportState tells whether imported key material is there.
type ImportState string

// The values of ImportState.
const (
	Imported      ImportState = "IMPORTED"
	PendingImport ImportState = "PENDING_IMPORT"
)

// Values lists the enumeration.
func (ImportState) Values() []string {
	return []string{"IMPORTED", "PENDING_IMPORT"}
}

// KeyMaterialState is the part that one key material plays in its key.
type KeyMaterialState string

// The values of KeyMaterialState.
const (
	NonCurrent                          KeyMaterialState = "NON_CURRENT"
	Current                             KeyMaterialState = "CURRENT"
	PendingRotation                     KeyMaterialState = "PENDING_ROTATION"
	PendingMultiRegionImportAndRotation KeyMaterialState = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
)

// Values lists the enumeration.
func (KeyMaterialState) Values() []string {
	return []string{"NON_CURRENT", "CURRENT", "PENDING_ROTATION", "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"}
}

// RotationType tells what made a key rotate.
type RotationType string

// The values of RotationType.
const (
	RotationAutomatic RotationType = "AUTOMATIC"
	RotationOnDemand  RotationType = "ON_DEMAND"
)

// Values lists the enumeration.
func (RotationType) Values() []string {
	return []string{"AUTOMATIC", "ON_DEMAND"}
}

// IncludeKeyMaterial tells what ListKeyRotations lists.
type IncludeKeyMaterial string

// The values of IncludeKeyMaterial.
const (
	AllKeyMaterial IncludeKeyMaterial = "ALL_KEY_MATERIAL"
	RotationsOnly  IncludeKeyMaterial = "ROTATIONS_ONLY"
)

// Values lists the enumeration.
func (IncludeKeyMaterial) Values() []string {
	return []string{"ALL_KEY_MATERIAL", "ROTATIONS_ONLY"}
}

// EnableKeyRotationRequest is the input of EnableKeyRotation.
type EnableKeyRotationRequest struct {
	KeyID                string `aws:"KeyId,required" len:"1,2048"`
	RotationPeriodInDays *int32 `aws:"RotationPeriodInDays" range:"90,2560"`
}

// DisableKeyRotationRequest is the input of DisableKeyRotation.
type DisableKeyRotationRequest struct {
	KeyID string `aws:"KeyId,required" len:"1,2048"`
}

// GetKeyRotationStatusRequest is the input of GetKeyRotationStatus.
type GetKeyRotationStatusRequest struct {
	KeyID string `aws:"KeyId,required" len:"1,2048"`
}

// GetKeyRotationStatusResponse is the output of GetKeyRotationStatus.
type GetKeyRotationStatusResponse struct {
	KeyID                     string `aws:"KeyId"`
	KeyRotationEnabled        bool   `aws:"KeyRotationEnabled,always"`
	NextRotationDate          *Time  `aws:"NextRotationDate"`
	OnDemandRotationStartDate *Time  `aws:"OnDemandRotationStartDate"`
	RotationPeriodInDays      *int32 `aws:"RotationPeriodInDays"`
}

// RotateKeyOnDemandRequest is the input of RotateKeyOnDemand.
type RotateKeyOnDemandRequest struct {
	KeyID string `aws:"KeyId,required" len:"1,2048"`
}

// RotateKeyOnDemandResponse is the output of RotateKeyOnDemand.
type RotateKeyOnDemandResponse struct {
	KeyID string `aws:"KeyId"`
}

// ListKeyRotationsRequest is the input of ListKeyRotations.
type ListKeyRotationsRequest struct {
	KeyID              string             `aws:"KeyId,required" len:"1,2048"`
	IncludeKeyMaterial IncludeKeyMaterial `aws:"IncludeKeyMaterial"`
	Limit              *int32             `aws:"Limit" range:"1,1000"`
	Marker             string             `aws:"Marker" len:"1,1024" pattern:"[\\u0020-\\u00FF]*"`
}

// ListKeyRotationsResponse is the output of ListKeyRotations.
type ListKeyRotationsResponse struct {
	NextMarker string               `aws:"NextMarker"`
	Rotations  []RotationsListEntry `aws:"Rotations,always"`
	Truncated  bool                 `aws:"Truncated,always"`
}

// RotationsListEntry is one key material of a KMS key and the rotation that made it current.
type RotationsListEntry struct {
	ExpirationModel        ExpirationModelType `aws:"ExpirationModel"`
	ImportState            ImportState         `aws:"ImportState"`
	KeyID                  string              `aws:"KeyId"`
	KeyMaterialDescription string              `aws:"KeyMaterialDescription"`
	KeyMaterialID          string              `aws:"KeyMaterialId"`
	KeyMaterialState       KeyMaterialState    `aws:"KeyMaterialState"`
	RotationDate           *Time               `aws:"RotationDate"`
	RotationType           RotationType        `aws:"RotationType"`
	ValidTo                *Time               `aws:"ValidTo"`
}
