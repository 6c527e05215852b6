package kmsapi

// AlgorithmSpec is how key material is wrapped for its import.
type AlgorithmSpec string

// The values of AlgorithmSpec.
const (
	WrapRSAESPkcs1          AlgorithmSpec = "RSAES_PKCS1_V1_5"
	WrapRSAESOaepSHA1       AlgorithmSpec = "RSAES_OAEP_SHA_1"
	WrapRSAESOaepSHA256     AlgorithmSpec = "RSAES_OAEP_SHA_256"
	WrapRSAAESKeyWrapSHA1   AlgorithmSpec = "RSA_AES_KEY_WRAP_SHA_1"
	WrapRSAAESKeyWrapSHA256 AlgorithmSpec = "RSA_AES_KEY_WRAP_SHA_256"
	WrapSM2PKE              AlgorithmSpec = "SM2PKE"
)

// Values lists the enumeration.
func (AlgorithmSpec) Values() []string {
	return []string{"RSAES_PKCS1_V1_5", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256", "SM2PKE"}
}

// WrappingKeySpec is the kind of key that key material is wrapped under for its import.
type WrappingKeySpec string

// The values of WrappingKeySpec.
const (
	WrappingRSA2048 WrappingKeySpec = "RSA_2048"
	WrappingRSA3072 WrappingKeySpec = "RSA_3072"
	WrappingRSA4096 WrappingKeySpec = "RSA_4096"
	WrappingSM2     WrappingKeySpec = "SM2"
)

// Values lists the enumeration.
func (WrappingKeySpec) Values() []string {
	return []string{"RSA_2048", "RSA_3072", "RSA_4096", "SM2"}
}

// ImportType tells whether imported key material is to be new to the key.
type ImportType string

// The values of ImportType.
const (
	NewKeyMaterial      ImportType = "NEW_KEY_MATERIAL"
	ExistingKeyMaterial ImportType = "EXISTING_KEY_MATERIAL"
)

// Values lists the enumeration.
func (ImportType) Values() []string {
	return []string{"NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL"}
}

// GetParametersForImportRequest is the input of GetParametersForImport.
type GetParametersForImportRequest struct {
	KeyID             string          `aws:"KeyId,required" len:"1,2048"`
	WrappingAlgorithm AlgorithmSpec   `aws:"WrappingAlgorithm,required"`
	WrappingKeySpec   WrappingKeySpec `aws:"WrappingKeySpec,required"`
}

// GetParametersForImportResponse is the output of GetParametersForImport.
type GetParametersForImportResponse struct {
	ImportToken       []byte `aws:"ImportToken"`
	KeyID             string `aws:"KeyId"`
	ParametersValidTo *Time  `aws:"ParametersValidTo"`
	PublicKey         []byte `aws:"PublicKey"`
}

// ImportKeyMaterialRequest is the input of ImportKeyMaterial.
type ImportKeyMaterialRequest struct {
	EncryptedKeyMaterial   []byte              `aws:"EncryptedKeyMaterial,required" len:"1,6144"`
	ImportToken            []byte              `aws:"ImportToken,required" len:"1,6144"`
	KeyID                  string              `aws:"KeyId,required" len:"1,2048"`
	ExpirationModel        ExpirationModelType `aws:"ExpirationModel"`
	ImportType             ImportType          `aws:"ImportType"`
	KeyMaterialDescription string              `aws:"KeyMaterialDescription" len:"0,256" pattern:"^[a-zA-Z0-9:/_\\s.-]+$"`
	KeyMaterialID          string              `aws:"KeyMaterialId" len:"64,64" pattern:"^[a-f0-9]+$"`
	ValidTo                *Time               `aws:"ValidTo"`
}

// ImportKeyMaterialResponse is the output of ImportKeyMaterial.
type ImportKeyMaterialResponse struct {
	KeyID         string `aws:"KeyId"`
	KeyMaterialID string `aws:"KeyMaterialId"`
}

// DeleteImportedKeyMaterialRequest is the input of DeleteImportedKeyMaterial.
type DeleteImportedKeyMaterialRequest struct {
	KeyID         string `aws:"KeyId,required" len:"1,2048"`
	KeyMaterialID string `aws:"KeyMaterialId" len:"64,64" pattern:"^[a-f0-9]+$"`
}

// DeleteImportedKeyMaterialResponse is the output of DeleteImportedKeyMaterial.
type DeleteImportedKeyMaterialResponse struct {
	KeyID         string `aws:"KeyId"`
	KeyMaterialID string `aws:"KeyMaterialId"`
}
