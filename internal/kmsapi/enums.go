package kmsapi

// CustomKeyStoreType is where a custom key store keeps its keys.
type CustomKeyStoreType string

// The types of custom key stores.
const (
	AWSCloudHSM      CustomKeyStoreType = "AWS_CLOUDHSM"
	ExternalKeyStore CustomKeyStoreType = "EXTERNAL_KEY_STORE"
)

// Values lists the enumeration.
func (CustomKeyStoreType) Values() []string {
	return []string{string(AWSCloudHSM), string(ExternalKeyStore)}
}

// ConnectionState is the state of a custom key store's connection.
type ConnectionState string

// The connection states.
const (
	Connected     ConnectionState = "CONNECTED"
	Connecting    ConnectionState = "CONNECTING"
	Failed        ConnectionState = "FAILED"
	Disconnected  ConnectionState = "DISCONNECTED"
	Disconnecting ConnectionState = "DISCONNECTING"
)

// Values lists the enumeration.
func (ConnectionState) Values() []string {
	return []string{string(Connected), string(Connecting), string(Failed), string(Disconnected), string(Disconnecting)}
}

// ConnectionErrorCode tells why a custom key store is FAILED.
type ConnectionErrorCode string

// The connection error codes: ten of AWS_CLOUDHSM stores, of which
// INVALID_CREDENTIALS, NETWORK_ERRORS and INTERNAL_ERROR also occur with
// EXTERNAL_KEY_STORE stores, and eight of EXTERNAL_KEY_STORE stores.
const (
	ClusterNotFound                           ConnectionErrorCode = "CLUSTER_NOT_FOUND"
	InsufficientCloudHSMHSMs                  ConnectionErrorCode = "INSUFFICIENT_CLOUDHSM_HSMS"
	InsufficientFreeAddressesInSubnet         ConnectionErrorCode = "INSUFFICIENT_FREE_ADDRESSES_IN_SUBNET"
	InternalError                             ConnectionErrorCode = "INTERNAL_ERROR"
	InvalidCredentials                        ConnectionErrorCode = "INVALID_CREDENTIALS"
	NetworkErrors                             ConnectionErrorCode = "NETWORK_ERRORS"
	SubnetNotFound                            ConnectionErrorCode = "SUBNET_NOT_FOUND"
	UserLockedOut                             ConnectionErrorCode = "USER_LOCKED_OUT"
	UserLoggedIn                              ConnectionErrorCode = "USER_LOGGED_IN"
	UserNotFound                              ConnectionErrorCode = "USER_NOT_FOUND"
	XksProxyAccessDenied                      ConnectionErrorCode = "XKS_PROXY_ACCESS_DENIED"
	XksProxyInvalidConfigurationCode          ConnectionErrorCode = "XKS_PROXY_INVALID_CONFIGURATION"
	XksProxyInvalidResponseCode               ConnectionErrorCode = "XKS_PROXY_INVALID_RESPONSE"
	XksProxyInvalidTLSConfiguration           ConnectionErrorCode = "XKS_PROXY_INVALID_TLS_CONFIGURATION"
	XksProxyNotReachable                      ConnectionErrorCode = "XKS_PROXY_NOT_REACHABLE"
	XksProxyTimedOut                          ConnectionErrorCode = "XKS_PROXY_TIMED_OUT"
	XksVPCEndpointServiceInvalidConfiguration ConnectionErrorCode = "XKS_VPC_ENDPOINT_SERVICE_INVALID_CONFIGURATION"
	XksVPCEndpointServiceNotFound             ConnectionErrorCode = "XKS_VPC_ENDPOINT_SERVICE_NOT_FOUND"
)

// Values lists the enumeration.
func (ConnectionErrorCode) Values() []string {
	return []string{
		string(ClusterNotFound), string(InsufficientCloudHSMHSMs), string(InsufficientFreeAddressesInSubnet),
		string(InternalError), string(InvalidCredentials), string(NetworkErrors), string(SubnetNotFound),
		string(UserLockedOut), string(UserLoggedIn), string(UserNotFound),
		string(XksProxyAccessDenied), string(XksProxyInvalidConfigurationCode), string(XksProxyInvalidResponseCode),
		string(XksProxyInvalidTLSConfiguration), string(XksProxyNotReachable), string(XksProxyTimedOut),
		string(XksVPCEndpointServiceInvalidConfiguration), string(XksVPCEndpointServiceNotFound),
	}
}

// XksProxyConnectivity is how a proxy is reached.
type XksProxyConnectivity string

// The kinds of connectivity.
const (
	PublicEndpoint     XksProxyConnectivity = "PUBLIC_ENDPOINT"
	VPCEndpointService XksProxyConnectivity = "VPC_ENDPOINT_SERVICE"
)

// Values lists the enumeration.
func (XksProxyConnectivity) Values() []string {
	return []string{string(PublicEndpoint), string(VPCEndpointService)}
}

// KeySpec is the kind of key material of a KMS key.
type KeySpec string

// The key specs.
const (
	SymmetricDefault KeySpec = "SYMMETRIC_DEFAULT" // AES-256 in GCM, the default
	HMAC224          KeySpec = "HMAC_224"
	HMAC256          KeySpec = "HMAC_256"
	HMAC384          KeySpec = "HMAC_384"
	HMAC512          KeySpec = "HMAC_512"
	RSA2048          KeySpec = "RSA_2048"
	RSA3072          KeySpec = "RSA_3072"
	RSA4096          KeySpec = "RSA_4096"
	ECCNistP256      KeySpec = "ECC_NIST_P256"
	ECCNistP384      KeySpec = "ECC_NIST_P384"
	ECCNistP521      KeySpec = "ECC_NIST_P521"
	ECCSecgP256k1    KeySpec = "ECC_SECG_P256K1"
	ECCNistEdwards   KeySpec = "ECC_NIST_EDWARDS25519"
	SM2              KeySpec = "SM2"
	MLDSA44          KeySpec = "ML_DSA_44"
	MLDSA65          KeySpec = "ML_DSA_65"
	MLDSA87          KeySpec = "ML_DSA_87"
	MLKEM512         KeySpec = "ML_KEM_512"
	MLKEM768         KeySpec = "ML_KEM_768"
	MLKEM1024        KeySpec = "ML_KEM_1024"
)

// Values lists the enumeration.
func (KeySpec) Values() []string {
	return []string{
		"SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "RSA_2048", "RSA_3072", "RSA_4096",
		"ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "SM2",
		"ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024",
	}
}

// CustomerMasterKeySpec is the deprecated twin of KeySpec; AWS no longer adds to it.
type CustomerMasterKeySpec string

// Values lists the enumeration.
func (CustomerMasterKeySpec) Values() []string {
	return []string{
		"SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "RSA_2048", "RSA_3072", "RSA_4096",
		"ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "SM2",
	}
}

// KeyUsageType is what a KMS key may be used for.
type KeyUsageType string

// The key usages.
const (
	EncryptDecrypt         KeyUsageType = "ENCRYPT_DECRYPT" // the only one of symmetric encryption keys
	SignVerify             KeyUsageType = "SIGN_VERIFY"
	GenerateVerifyMac      KeyUsageType = "GENERATE_VERIFY_MAC"
	KeyAgreement           KeyUsageType = "KEY_AGREEMENT"
	EncapsulateDecapsulate KeyUsageType = "ENCAPSULATE_DECAPSULATE"
)

// Values lists the enumeration.
func (KeyUsageType) Values() []string {
	return []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT", "ENCAPSULATE_DECAPSULATE"}
}

// OriginType is the source of a KMS key's material.
type OriginType string

// The origins.
const (
	OriginAWSKMS           OriginType = "AWS_KMS"
	OriginExternal         OriginType = "EXTERNAL"
	OriginAWSCloudHSM      OriginType = "AWS_CLOUDHSM"
	OriginExternalKeyStore OriginType = "EXTERNAL_KEY_STORE"
)

// Values lists the enumeration.
func (OriginType) Values() []string {
	return []string{"AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"}
}

// KeyState is the state of a KMS key as callers see it.
type KeyState string

// The key states.
const (
	StateCreating               KeyState = "Creating"
	StateEnabled                KeyState = "Enabled"
	StateDisabled               KeyState = "Disabled"
	StatePendingDeletion        KeyState = "PendingDeletion"
	StatePendingImport          KeyState = "PendingImport"
	StatePendingReplicaDeletion KeyState = "PendingReplicaDeletion"
	StateUnavailable            KeyState = "Unavailable"
	StateUpdating               KeyState = "Updating"
)

// Values lists the enumeration.
func (KeyState) Values() []string {
	return []string{"Creating", "Enabled", "Disabled", "PendingDeletion", "PendingImport", "PendingReplicaDeletion", "Unavailable", "Updating"}
}

// KeyManagerType tells who manages a KMS key.
type KeyManagerType string

// KeyManagerCustomer is the manager of every key that a caller creates.
const KeyManagerCustomer KeyManagerType = "CUSTOMER"

// Values lists the enumeration.
func (KeyManagerType) Values() []string { return []string{"AWS", "CUSTOMER"} }

// EncryptionAlgorithmSpec is an encryption algorithm.
type EncryptionAlgorithmSpec string

// The encryption algorithms.
const (
	AlgorithmSymmetricDefault EncryptionAlgorithmSpec = "SYMMETRIC_DEFAULT" // AES-256-GCM
	RSAESOaepSHA1             EncryptionAlgorithmSpec = "RSAES_OAEP_SHA_1"
	RSAESOaepSHA256           EncryptionAlgorithmSpec = "RSAES_OAEP_SHA_256"
	SM2PKE                    EncryptionAlgorithmSpec = "SM2PKE"
)

// Values lists the enumeration.
func (EncryptionAlgorithmSpec) Values() []string {
	return []string{"SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"}
}

// DataKeySpec is the length of a data key.
type DataKeySpec string

// The data key specs.
const (
	DataKeyAES256 DataKeySpec = "AES_256"
	DataKeyAES128 DataKeySpec = "AES_128"
)

// Values lists the enumeration.
func (DataKeySpec) Values() []string { return []string{"AES_256", "AES_128"} }

// KeyEncryptionMechanism is how an answer is encrypted for a Nitro recipient.
type KeyEncryptionMechanism string

// Values lists the enumeration.
func (KeyEncryptionMechanism) Values() []string { return []string{"RSAES_OAEP_SHA_256"} }

// DryRunModifierType changes what a dry run checks.
type DryRunModifierType string

// IgnoreCiphertext lets a dry run of Decrypt or ReEncrypt go without a ciphertext.
const IgnoreCiphertext DryRunModifierType = "IGNORE_CIPHERTEXT"

// Values lists the enumeration.
func (DryRunModifierType) Values() []string { return []string{"IGNORE_CIPHERTEXT"} }

// SigningAlgorithmSpec is a signature algorithm.
type SigningAlgorithmSpec string

// The signature algorithms.
const (
	RSASSAPssSHA256   SigningAlgorithmSpec = "RSASSA_PSS_SHA_256"
	RSASSAPssSHA384   SigningAlgorithmSpec = "RSASSA_PSS_SHA_384"
	RSASSAPssSHA512   SigningAlgorithmSpec = "RSASSA_PSS_SHA_512"
	RSASSAPkcs1SHA256 SigningAlgorithmSpec = "RSASSA_PKCS1_V1_5_SHA_256"
	RSASSAPkcs1SHA384 SigningAlgorithmSpec = "RSASSA_PKCS1_V1_5_SHA_384"
	RSASSAPkcs1SHA512 SigningAlgorithmSpec = "RSASSA_PKCS1_V1_5_SHA_512"
	ECDSASHA256       SigningAlgorithmSpec = "ECDSA_SHA_256"
	ECDSASHA384       SigningAlgorithmSpec = "ECDSA_SHA_384"
	ECDSASHA512       SigningAlgorithmSpec = "ECDSA_SHA_512"
	SM2DSA            SigningAlgorithmSpec = "SM2DSA"
	MLDSAShake256     SigningAlgorithmSpec = "ML_DSA_SHAKE_256"
	Ed25519SHA512     SigningAlgorithmSpec = "ED25519_SHA_512"
	Ed25519phSHA512   SigningAlgorithmSpec = "ED25519_PH_SHA_512"
)

// Values lists the enumeration.
func (SigningAlgorithmSpec) Values() []string {
	return []string{
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
		"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		"ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512", "SM2DSA", "ML_DSA_SHAKE_256", "ED25519_SHA_512", "ED25519_PH_SHA_512",
	}
}

// MacAlgorithmSpec is an HMAC algorithm.
type MacAlgorithmSpec string

// The HMAC algorithms.
const (
	HMACSHA224 MacAlgorithmSpec = "HMAC_SHA_224"
	HMACSHA256 MacAlgorithmSpec = "HMAC_SHA_256"
	HMACSHA384 MacAlgorithmSpec = "HMAC_SHA_384"
	HMACSHA512 MacAlgorithmSpec = "HMAC_SHA_512"
)

// Values lists the enumeration.
func (MacAlgorithmSpec) Values() []string {
	return []string{"HMAC_SHA_224", "HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512"}
}

// KeyAgreementAlgorithmSpec is how a shared secret is derived.
type KeyAgreementAlgorithmSpec string

// ECDH is the one key agreement algorithm.
const ECDH KeyAgreementAlgorithmSpec = "ECDH"

// Values lists the enumeration.
func (KeyAgreementAlgorithmSpec) Values() []string { return []string{"ECDH"} }

// EncapsulationAlgorithmSpec is a key encapsulation mechanism.
type EncapsulationAlgorithmSpec string

// MLKEM is the one key encapsulation mechanism.
const MLKEM EncapsulationAlgorithmSpec = "ML_KEM"

// Values lists the enumeration.
func (EncapsulationAlgorithmSpec) Values() []string { return []string{"ML_KEM"} }

// ExpirationModelType tells whether imported key material expires.
type ExpirationModelType string

// The expiration models.
const (
	KeyMaterialExpires       ExpirationModelType = "KEY_MATERIAL_EXPIRES" // the default
	KeyMaterialDoesNotExpire ExpirationModelType = "KEY_MATERIAL_DOES_NOT_EXPIRE"
)

// Values lists the enumeration.
func (ExpirationModelType) Values() []string {
	return []string{"KEY_MATERIAL_EXPIRES", "KEY_MATERIAL_DOES_NOT_EXPIRE"}
}

// MultiRegionKeyType is the part that a key plays among related multi-Region keys.
type MultiRegionKeyType string

// The parts of related multi-Region keys.
const (
	PrimaryKey MultiRegionKeyType = "PRIMARY"
	ReplicaKey MultiRegionKeyType = "REPLICA"
)

// Values lists the enumeration.
func (MultiRegionKeyType) Values() []string { return []string{"PRIMARY", "REPLICA"} }
