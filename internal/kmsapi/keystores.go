package kmsapi

import "kastellan.dev/internal/secret"

// XksProxyAuthenticationCredential is what KMS signs its requests to a proxy with.
type XksProxyAuthenticationCredential struct {
	AccessKeyID        string      `aws:"AccessKeyId,required,sensitive" len:"20,30" pattern:"^[A-Z2-7]+$"`
	RawSecretAccessKey secret.Text `aws:"RawSecretAccessKey,required,sensitive" len:"43,64" pattern:"^[a-zA-Z0-9\\/+=]+$"`
}

// CreateCustomKeyStoreRequest is the input of CreateCustomKeyStore.
type CreateCustomKeyStoreRequest struct {
	CustomKeyStoreName               string                            `aws:"CustomKeyStoreName,required" len:"1,256"`
	CloudHsmClusterID                string                            `aws:"CloudHsmClusterId" len:"19,24" pattern:"cluster-[2-7a-zA-Z]{11,16}"`
	TrustAnchorCertificate           string                            `aws:"TrustAnchorCertificate" len:"1,5000"`
	KeyStorePassword                 secret.Text                       `aws:"KeyStorePassword,sensitive" len:"7,32"`
	CustomKeyStoreType               CustomKeyStoreType                `aws:"CustomKeyStoreType"`
	XksProxyURIEndpoint              string                            `aws:"XksProxyUriEndpoint" len:"10,128" pattern:"^https://[a-zA-Z0-9.-]+$"`
	XksProxyURIPath                  string                            `aws:"XksProxyUriPath" len:"10,128" pattern:"^(/[a-zA-Z0-9\\/_-]+/kms/xks/v\\d{1,2})$|^(/kms/xks/v\\d{1,2})$"`
	XksProxyVpcEndpointServiceName   string                            `aws:"XksProxyVpcEndpointServiceName" len:"20,64" pattern:"^(com|eu)\\.amazonaws\\.vpce\\.([a-z]+-){2,3}\\d+\\.vpce-svc-[0-9a-z]+$"`
	XksProxyVpcEndpointServiceOwner  string                            `aws:"XksProxyVpcEndpointServiceOwner" len:"12,12" pattern:"[0-9]+"`
	XksProxyAuthenticationCredential *XksProxyAuthenticationCredential `aws:"XksProxyAuthenticationCredential"`
	XksProxyConnectivity             XksProxyConnectivity              `aws:"XksProxyConnectivity"`
}

// CreateCustomKeyStoreResponse is the output of CreateCustomKeyStore.
type CreateCustomKeyStoreResponse struct {
	CustomKeyStoreID string `aws:"CustomKeyStoreId"`
}

// ConnectCustomKeyStoreRequest is the input of ConnectCustomKeyStore.
type ConnectCustomKeyStoreRequest struct {
	CustomKeyStoreID string `aws:"CustomKeyStoreId,required" len:"1,64"`
}

// ConnectCustomKeyStoreResponse is the output of ConnectCustomKeyStore: {}.
type ConnectCustomKeyStoreResponse struct{}

// DisconnectCustomKeyStoreRequest is the input of DisconnectCustomKeyStore.
type DisconnectCustomKeyStoreRequest struct {
	CustomKeyStoreID string `aws:"CustomKeyStoreId,required" len:"1,64"`
}

// DisconnectCustomKeyStoreResponse is the output of DisconnectCustomKeyStore: {}.
type DisconnectCustomKeyStoreResponse struct{}

// DeleteCustomKeyStoreRequest is the input of DeleteCustomKeyStore.
type DeleteCustomKeyStoreRequest struct {
	CustomKeyStoreID string `aws:"CustomKeyStoreId,required" len:"1,64"`
}

// DeleteCustomKeyStoreResponse is the output of DeleteCustomKeyStore: {}.
type DeleteCustomKeyStoreResponse struct{}

// UpdateCustomKeyStoreRequest is the input of UpdateCustomKeyStore. Absent
// members leave the store's values as they are.
type UpdateCustomKeyStoreRequest struct {
	CustomKeyStoreID                 string                            `aws:"CustomKeyStoreId,required" len:"1,64"`
	NewCustomKeyStoreName            string                            `aws:"NewCustomKeyStoreName" len:"1,256"`
	KeyStorePassword                 secret.Text                       `aws:"KeyStorePassword,sensitive" len:"7,32"`
	CloudHsmClusterID                string                            `aws:"CloudHsmClusterId" len:"19,24" pattern:"cluster-[2-7a-zA-Z]{11,16}"`
	XksProxyURIEndpoint              string                            `aws:"XksProxyUriEndpoint" len:"10,128" pattern:"^https://[a-zA-Z0-9.-]+$"`
	XksProxyURIPath                  string                            `aws:"XksProxyUriPath" len:"10,128" pattern:"^(/[a-zA-Z0-9\\/_-]+/kms/xks/v\\d{1,2})$|^(/kms/xks/v\\d{1,2})$"`
	XksProxyVpcEndpointServiceName   string                            `aws:"XksProxyVpcEndpointServiceName,empty" len:"20,64" pattern:"^(com|eu)\\.amazonaws\\.vpce\\.([a-z]+-){2,3}\\d+\\.vpce-svc-[0-9a-z]+$"`
	XksProxyVpcEndpointServiceOwner  string                            `aws:"XksProxyVpcEndpointServiceOwner" len:"12,12" pattern:"[0-9]+"`
	XksProxyAuthenticationCredential *XksProxyAuthenticationCredential `aws:"XksProxyAuthenticationCredential"`
	XksProxyConnectivity             XksProxyConnectivity              `aws:"XksProxyConnectivity"`
}

// UpdateCustomKeyStoreResponse is the output of UpdateCustomKeyStore: {}.
type UpdateCustomKeyStoreResponse struct{}

// DescribeCustomKeyStoresRequest is the input of DescribeCustomKeyStores.
type DescribeCustomKeyStoresRequest struct {
	CustomKeyStoreID   string `aws:"CustomKeyStoreId" len:"1,64"`
	CustomKeyStoreName string `aws:"CustomKeyStoreName" len:"1,256"`
	Limit              *int32 `aws:"Limit" range:"1,1000"`
	Marker             string `aws:"Marker" len:"1,1024" pattern:"[\\u0020-\\u00FF]*"`
}

// DescribeCustomKeyStoresResponse is the output of DescribeCustomKeyStores.
type DescribeCustomKeyStoresResponse struct {
	CustomKeyStores []CustomKeyStoresListEntry `aws:"CustomKeyStores,always"`
	NextMarker      string                     `aws:"NextMarker"`
	Truncated       bool                       `aws:"Truncated,always"`
}

// CustomKeyStoresListEntry describes one custom key store.
type CustomKeyStoresListEntry struct {
	CustomKeyStoreID       string                     `aws:"CustomKeyStoreId"`
	CustomKeyStoreName     string                     `aws:"CustomKeyStoreName"`
	CloudHsmClusterID      string                     `aws:"CloudHsmClusterId"`
	TrustAnchorCertificate string                     `aws:"TrustAnchorCertificate"`
	ConnectionState        ConnectionState            `aws:"ConnectionState"`
	ConnectionErrorCode    ConnectionErrorCode        `aws:"ConnectionErrorCode"`
	CreationDate           *Time                      `aws:"CreationDate"`
	CustomKeyStoreType     CustomKeyStoreType         `aws:"CustomKeyStoreType"`
	XksProxyConfiguration  *XksProxyConfigurationType `aws:"XksProxyConfiguration"`
}

// XksProxyConfigurationType describes the proxy of an external key store.
type XksProxyConfigurationType struct {
	Connectivity            XksProxyConnectivity `aws:"Connectivity"`
	AccessKeyID             string               `aws:"AccessKeyId,sensitive"`
	URIEndpoint             string               `aws:"UriEndpoint"`
	URIPath                 string               `aws:"UriPath"`
	VpcEndpointServiceName  string               `aws:"VpcEndpointServiceName"`
	VpcEndpointServiceOwner string               `aws:"VpcEndpointServiceOwner"`
}
