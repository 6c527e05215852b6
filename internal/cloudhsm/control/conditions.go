package control

import (
	"slices"
	"strings"

	"kastellan.dev/internal/cloudhsmapi"
)

// values are the condition keys of a request. They implement policy.Values.
type values struct {
	call *call
	tags []cloudhsmapi.Tag // of the resource
}

// Lookup implements policy.Values.
func (v *values) Lookup(key string) ([]string, bool) {
	if key == "aws:tagkeys" {
		return v.call.requestTagKeys()
	}
	if name, ok := strings.CutPrefix(key, "aws:requesttag/"); ok {
		return tagged(v.call.requestTags(), name)
	}
	if name, ok := strings.CutPrefix(key, "aws:resourcetag/"); ok {
		return tagged(v.tags, name)
	}
	return v.call.caller.Lookup(key, v.call.caller.Region, v.call.s.now())
}

// requestTags are the tags that the request brings.
func (c *call) requestTags() []cloudhsmapi.Tag {
	switch in := c.in.(type) {
	case *cloudhsmapi.CreateClusterRequest:
		return in.TagList
	case *cloudhsmapi.CopyBackupToRegionRequest:
		return in.TagList
	case *cloudhsmapi.TagResourceRequest:
		return in.TagList
	default:
		return nil
	}
}

func (c *call) requestTagKeys() ([]string, bool) {
	var keys []string
	if in, ok := c.in.(*cloudhsmapi.UntagResourceRequest); ok {
		keys = slices.Clone(in.TagKeyList)
	}
	for _, tag := range c.requestTags() {
		keys = append(keys, tag.Key)
	}
	return keys, len(keys) > 0
}

func tagged(tags []cloudhsmapi.Tag, name string) (found []string, ok bool) {
	for _, tag := range tags {
		if strings.EqualFold(tag.Key, name) {
			found = append(found, tag.Value)
		}
	}
	return found, len(found) > 0
}
