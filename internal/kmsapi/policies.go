package kmsapi

// ListKeyPoliciesRequest is the input of ListKeyPolicies.
type ListKeyPoliciesRequest struct {
	KeyID  string `aws:"KeyId,required" len:"1,2048"`
	Limit  *int32 `aws:"Limit" range:"1,1000"`
	Marker string `aws:"Marker" len:"1,1024" pattern:"[\\u0020-\\u00FF]*"`
}

// ListKeyPoliciesResponse is the output of ListKeyPolicies.
type ListKeyPoliciesResponse struct {
	NextMarker  string   `aws:"NextMarker"`
	PolicyNames []string `aws:"PolicyNames,always"`
	Truncated   bool     `aws:"Truncated,always"`
}
