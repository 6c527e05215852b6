package kms

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"kastellan.dev/internal/kmsapi"
)

// maxTags is how many tags a key can have.
const maxTags = 50

// tagText is what tags can be made of, as everywhere on AWS.
var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

// checkTags refuses tags that a key cannot have, or not together.
func checkTags(tags []kmsapi.Tag) error {
	if len(tags) > maxTags {
		return tooManyTags()
	}
	seen := make(map[string]bool, len(tags))
	for _, tag := range tags {
		switch {
		case strings.HasPrefix(strings.ToLower(tag.TagKey), "aws:"):
			return kmsapi.Errorf(kmsapi.TagInvalid, "Tags beginning with aws: are reserved")
		case seen[tag.TagKey]:
			return kmsapi.Errorf(kmsapi.TagInvalid, "Duplicate tag keys")
		case !tagText.MatchString(tag.TagKey) || !tagText.MatchString(tag.TagValue):
			return kmsapi.Errorf(kmsapi.TagInvalid, "Tags consist of letters, digits, spaces and the characters _.:/=+-@")
		}
		seen[tag.TagKey] = true
	}
	return nil
}

func tooManyTags() error { return kmsapi.Errorf(kmsapi.TagInvalid, "Too many tags") }

func (c *call) tagResource(ctx context.Context, in *kmsapi.TagResourceRequest) (*kmsapi.Empty, error) {
	if len(in.Tags) > maxTags { // before the decision: policies may compare each with patterns
		return nil, tooManyTags()
	}
	_, err := c.change(ctx, in.KeyID, func(k *keyRecord) error {
		if err := checkTags(in.Tags); err != nil {
			return err
		}
		for _, tag := range in.Tags {
			k.setTag(tag)
		}
		if len(k.Tags) > maxTags {
			return kmsapi.Errorf(kmsapi.LimitExceeded, "%s would have %d tags, the limit is %d.", k.arn(), len(k.Tags), maxTags)
		}
		return nil
	})
	return none, err
}

// setTag gives a key a tag, in place of one with the same key.
func (k *keyRecord) setTag(tag kmsapi.Tag) {
	for i := range k.Tags {
		if k.Tags[i].TagKey == tag.TagKey {
			k.Tags[i] = tag
			return
		}
	}
	k.Tags = append(k.Tags, tag)
}

// untagResource takes tags away. Those that the key does not have are gone already.
func (c *call) untagResource(ctx context.Context, in *kmsapi.UntagResourceRequest) (*kmsapi.Empty, error) {
	if len(in.TagKeys) > maxTags {
		return nil, tooManyTags()
	}
	_, err := c.change(ctx, in.KeyID, func(k *keyRecord) error {
		for _, key := range in.TagKeys {
			if strings.HasPrefix(strings.ToLower(key), "aws:") {
				return kmsapi.Errorf(kmsapi.TagInvalid, "Tags beginning with aws: are reserved")
			}
		}
		k.Tags = slices.DeleteFunc(k.Tags, func(tag kmsapi.Tag) bool { return slices.Contains(in.TagKeys, tag.TagKey) })
		return nil
	})
	return none, err
}

// tagEntry is one of a key's tags in a list.
type tagEntry struct {
	key *keyEntry
	kmsapi.Tag
}

// path orders the entries by the tags' keys.
func (e tagEntry) path() string { return e.key.path() + "/" + e.TagKey }

func (c *call) listResourceTags(_ context.Context, in *kmsapi.ListResourceTagsRequest) (*kmsapi.ListResourceTagsResponse, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	s, err := spanOf(c.below(keyPrefix), in.Limit, maxTags, maxTags, in.Marker)
	if err != nil {
		return nil, err
	}
	all := make([]tagEntry, len(k.Tags))
	for i, tag := range k.Tags {
		all[i] = tagEntry{k, tag}
	}
	entries, next := page(all, s)
	out := &kmsapi.ListResourceTagsResponse{NextMarker: next, Truncated: next != ""}
	for _, e := range entries {
		out.Tags = append(out.Tags, e.Tag)
	}
	return out, nil
}
