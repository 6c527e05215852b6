package cloudhsmapi

// Tag is a tag of a cluster or a backup.
type Tag struct {
	Key   string `aws:"Key,required" len:"1,128" pattern:"^([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)$"`
	Value string `aws:"Value,required" len:"0,256" pattern:"^([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)$"`
}

// TagResourceRequest is the input of TagResource.
type TagResourceRequest struct {
	ResourceID string `aws:"ResourceId,required" pattern:"(?:cluster|backup)-[2-7a-zA-Z]{11,16}"`
	TagList    []Tag  `aws:"TagList,required" len:"1,50"`
}

// TagResourceResponse is the output of TagResource: {}.
type TagResourceResponse struct{}

// UntagResourceRequest is the input of UntagResource.
type UntagResourceRequest struct {
	ResourceID string   `aws:"ResourceId,required" pattern:"(?:cluster|backup)-[2-7a-zA-Z]{11,16}"`
	TagKeyList []string `aws:"TagKeyList,required" len:"1,50" each:"1,128" pattern:"^([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)$"`
}

// UntagResourceResponse is the output of UntagResource: {}.
type UntagResourceResponse struct{}

// ListTagsRequest is the input of ListTags.
type ListTagsRequest struct {
	ResourceID string `aws:"ResourceId,required" pattern:"(?:cluster|backup)-[2-7a-zA-Z]{11,16}"`
	NextToken  string `aws:"NextToken" len:",256" pattern:".*"`
	MaxResults *int32 `aws:"MaxResults" range:"1,100"`
}

// ListTagsResponse is the output of ListTags.
type ListTagsResponse struct {
	TagList   []Tag  `aws:"TagList,always"`
	NextToken string `aws:"NextToken"`
}
