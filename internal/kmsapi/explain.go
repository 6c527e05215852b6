package kmsapi

// ExplainCustomKeyStoreRequest is the input of ExplainCustomKeyStore, an
// operation that AWS does not have: its target is Kastellan.ExplainCustomKeyStore.
type ExplainCustomKeyStoreRequest struct {
	CustomKeyStoreID string `aws:"CustomKeyStoreId,required" len:"1,64"`
}

// ExplainCustomKeyStoreResponse tells what is known of a key store's connection.
type ExplainCustomKeyStoreResponse struct {
	CustomKeyStoreID    string              `aws:"CustomKeyStoreId"`
	CustomKeyStoreName  string              `aws:"CustomKeyStoreName"`
	CustomKeyStoreType  CustomKeyStoreType  `aws:"CustomKeyStoreType"`
	ConnectionState     ConnectionState     `aws:"ConnectionState"`
	ConnectionErrorCode ConnectionErrorCode `aws:"ConnectionErrorCode"`
	Evidence            string              `aws:"Evidence"` // JSON: keystore.Evidence of the last attempt
	Health              string              `aws:"Health"`   // JSON: what the connection says of itself now
}
