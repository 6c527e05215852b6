package kmsapi

// TagResourceRequest is the input of TagResource.
type TagResourceRequest struct {
	KeyID string `aws:"KeyId,required" len:"1,2048"`
	Tags  []Tag  `aws:"Tags,required"`
}

// UntagResourceRequest is the input of UntagResource.
type UntagResourceRequest struct {
	KeyID   string   `aws:"KeyId,required" len:"1,2048"`
	TagKeys []string `aws:"TagKeys,required" each:"1,128"`
}

// ListResourceTagsRequest is the input of ListResourceTags.
type ListResourceTagsRequest struct {
	KeyID  string `aws:"KeyId,required" len:"1,2048"`
	Limit  *int32 `aws:"Limit" range:"1,1000"`
	Marker string `aws:"Marker" len:"1,1024" pattern:"[\\u0020-\\u00FF]*"`
}

// ListResourceTagsResponse is the output of ListResourceTags.
type ListResourceTagsResponse struct {
	NextMarker string `aws:"NextMarker"`
	Tags       []Tag  `aws:"Tags,always"`
	Truncated  bool   `aws:"Truncated,always"`
}
