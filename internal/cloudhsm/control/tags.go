package control

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// maxTags is how many tags a resource can have.
const maxTags = 50

// checkTags refuses tags that a resource cannot have, or not together.
func checkTags(tags []cloudhsmapi.Tag) error {
	seen := make(map[string]bool, len(tags))
	for _, tag := range tags {
		if err := checkKey(tag.Key); err != nil {
			return err
		}
		if seen[tag.Key] {
			return kmsapi.Errorf(cloudhsmapi.TagInvalid, "The tag key %s is there twice.", tag.Key)
		}
		seen[tag.Key] = true
	}
	return nil
}

func checkKey(key string) error {
	if strings.HasPrefix(strings.ToLower(key), "aws:") {
		return kmsapi.Errorf(cloudhsmapi.TagInvalid, "The tag key %s begins with aws:, which is reserved.", key)
	}
	return nil
}

// changeTags changes the tags of a cluster or a backup.
func (c *call) changeTags(ctx context.Context, id string, fn func(tags []cloudhsmapi.Tag) ([]cloudhsmapi.Tag, error)) error {
	if strings.HasPrefix(id, string(cloudhsmapi.ResourceCluster)) {
		_, err := c.change(ctx, id, func(_ store.Tx, rec *clusterRecord) (err error) {
			rec.Tags, err = fn(rec.Tags)
			return err
		})
		return err
	}
	_, err := c.changeBackup(ctx, id, func(_ store.Tx, rec *backupRecord) (err error) {
		rec.Tags, err = fn(rec.Tags)
		return err
	})
	return err
}

func (c *call) tagResource(ctx context.Context, in *cloudhsmapi.TagResourceRequest) (*cloudhsmapi.TagResourceResponse, error) {
	err := c.changeTags(ctx, in.ResourceID, func(tags []cloudhsmapi.Tag) ([]cloudhsmapi.Tag, error) {
		if err := checkTags(in.TagList); err != nil {
			return nil, err
		}
		for _, tag := range in.TagList {
			tags = append(without(tags, tag.Key), tag)
		}
		if len(tags) > maxTags {
			return nil, kmsapi.Errorf(cloudhsmapi.ResourceLimitExceeded, "%s would have %d tags; the limit is %d.", in.ResourceID, len(tags), maxTags)
		}
		return tags, nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.TagResourceResponse{}, nil
}

// without gives the tags but for those with the keys, in a slice of its own.
func without(tags []cloudhsmapi.Tag, keys ...string) []cloudhsmapi.Tag {
	return slices.DeleteFunc(slices.Clone(tags), func(t cloudhsmapi.Tag) bool { return slices.Contains(keys, t.Key) })
}

func (c *call) untagResource(ctx context.Context, in *cloudhsmapi.UntagResourceRequest) (*cloudhsmapi.UntagResourceResponse, error) {
	err := c.changeTags(ctx, in.ResourceID, func(tags []cloudhsmapi.Tag) ([]cloudhsmapi.Tag, error) {
		for _, key := range in.TagKeyList {
			if err := checkKey(key); err != nil {
				return nil, err
			}
		}
		return without(tags, in.TagKeyList...), nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.UntagResourceResponse{}, nil
}

func (c *call) listTags(ctx context.Context, in *cloudhsmapi.ListTagsRequest) (*cloudhsmapi.ListTagsResponse, error) {
	var tags []cloudhsmapi.Tag
	err := c.s.db.View(ctx, func(r store.Reader) error {
		if strings.HasPrefix(in.ResourceID, string(cloudhsmapi.ResourceCluster)) {
			rec, err := c.manage(r, in.ResourceID)
			if err == nil {
				tags = rec.Tags
			}
			return err
		}
		rec, err := c.manageBackup(r, in.ResourceID)
		if err == nil {
			tags = rec.Tags
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return pageOfTags(tags, in)
}

// pageOfTags cuts a page; the token is how many tags come before it.
func pageOfTags(tags []cloudhsmapi.Tag, in *cloudhsmapi.ListTagsRequest) (*cloudhsmapi.ListTagsResponse, error) {
	start := 0
	if in.NextToken != "" {
		text, err := base64.RawURLEncoding.DecodeString(in.NextToken)
		if err == nil {
			start, err = strconv.Atoi(string(text))
		}
		if err != nil || start < 0 || start > len(tags) {
			return nil, expiredToken()
		}
	}
	size := maxTags
	if in.MaxResults != nil {
		size = int(*in.MaxResults)
	}
	end := min(start+size, len(tags))
	out := &cloudhsmapi.ListTagsResponse{TagList: tags[start:end]}
	if end < len(tags) {
		out.NextToken = base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(end)))
	}
	return out, nil
}
