package kmsapi

// CreateAliasRequest is the input of CreateAlias.
type CreateAliasRequest struct {
	AliasName   string `aws:"AliasName,required" len:"1,256" pattern:"^[a-zA-Z0-9:/_-]+$"`
	TargetKeyID string `aws:"TargetKeyId,required" len:"1,2048"`
}

// UpdateAliasRequest is the input of UpdateAlias.
type UpdateAliasRequest struct {
	AliasName   string `aws:"AliasName,required" len:"1,256" pattern:"^[a-zA-Z0-9:/_-]+$"`
	TargetKeyID string `aws:"TargetKeyId,required" len:"1,2048"`
}

// DeleteAliasRequest is the input of DeleteAlias.
type DeleteAliasRequest struct {
	AliasName string `aws:"AliasName,required" len:"1,256" pattern:"^[a-zA-Z0-9:/_-]+$"`
}

// ListAliasesRequest is the input of ListAliases.
type ListAliasesRequest struct {
	KeyID  string `aws:"KeyId" len:"1,2048"`
	Limit  *int32 `aws:"Limit" range:"1,1000"`
	Marker string `aws:"Marker" len:"1,1024" pattern:"[\\u0020-\\u00FF]*"`
}

// ListAliasesResponse is the output of ListAliases.
type ListAliasesResponse struct {
	Aliases    []AliasListEntry `aws:"Aliases,always"`
	NextMarker string           `aws:"NextMarker"`
	Truncated  bool             `aws:"Truncated,always"`
}

// AliasListEntry describes one alias.
type AliasListEntry struct {
	AliasName       string `aws:"AliasName"`
	AliasArn        string `aws:"AliasArn"`
	TargetKeyID     string `aws:"TargetKeyId"`
	CreationDate    *Time  `aws:"CreationDate"`
	LastUpdatedDate *Time  `aws:"LastUpdatedDate"`
}
