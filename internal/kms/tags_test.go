package kms_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kastellan.dev/internal/kmsapi"
)

func (w *world) tag(key string, tags ...kmsapi.Tag) error {
	w.t.Helper()
	_, err := do[kmsapi.Empty](w, root(account), "TagResource", &kmsapi.TagResourceRequest{KeyID: key, Tags: tags})
	return err
}

func (w *world) untag(key string, names ...string) error {
	w.t.Helper()
	_, err := do[kmsapi.Empty](w, root(account), "UntagResource", &kmsapi.UntagResourceRequest{KeyID: key, TagKeys: names})
	return err
}

// tags gives all tags of a key, read in pages of a size.
func (w *world) tags(key string, size int32) (all []kmsapi.Tag) {
	w.t.Helper()
	in := &kmsapi.ListResourceTagsRequest{KeyID: key, Limit: &size}
	for {
		out := must(do[kmsapi.ListResourceTagsResponse](w, root(account), "ListResourceTags", in))(w.t)
		if len(out.Tags) > int(size) || out.Truncated != (out.NextMarker != "") {
			w.t.Fatalf("a page of %d has %d tags, truncated: %t", size, len(out.Tags), out.Truncated)
		}
		all = append(all, out.Tags...)
		if !out.Truncated {
			return all
		}
		in.Marker = out.NextMarker
	}
}

func TestTheTagsOfAKeyAreWhatWasSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowly)
	names := rapid.StringMatching(`[\p{L}\d _.:/=+@-]{1,4}`).Filter(func(s string) bool { return !strings.HasPrefix(strings.ToLower(s), "aws:") })
	rapid.Check(t, func(rt *rapid.T) {
		model := rapid.MapOfN(names, rapid.StringMatching(`[a-z]{0,3}`), 0, 5).Draw(rt, "at first")
		var tags []kmsapi.Tag
		for k, v := range model {
			tags = append(tags, kmsapi.Tag{TagKey: k, TagValue: v})
		}
		key := w.createKey(&kmsapi.CreateKeyRequest{Tags: tags}).KeyID
		rt.Repeat(map[string]func(*rapid.T){
			"tag": func(rt *rapid.T) {
				name, value := names.Draw(rt, "name"), rapid.StringMatching(`[a-z]{0,3}`).Draw(rt, "value")
				_, there := model[name]
				err, full := w.tag(key, kmsapi.Tag{TagKey: name, TagValue: value}), !there && len(model) == 50
				if full != (kmsapi.CodeOf(err) == kmsapi.LimitExceeded) || !full && err != nil {
					rt.Fatalf("with %d tags: %v", len(model), err)
				}
				if !full {
					model[name] = value
				}
			},
			"untag": func(rt *rapid.T) {
				name := rapid.OneOf(names, rapid.SampledFrom(append(slices.Collect(maps.Keys(model)), "x"))).Draw(rt, "name")
				if err := w.untag(key, name); err != nil {
					rt.Fatal(err)
				}
				delete(model, name)
			},
			"": func(rt *rapid.T) {
				got := make(map[string]string)
				for _, tag := range w.tags(key, rapid.Int32Range(1, 50).Draw(rt, "page")) {
					got[tag.TagKey] = tag.TagValue
				}
				if diff := cmp.Diff(model, got); diff != "" {
					rt.Error(diff)
				}
			},
		})
	})
}

func TestTagsThatAKeyCannotHave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{Tags: []kmsapi.Tag{{TagKey: "kept", TagValue: "as it is"}}}).KeyID
	many := func(n int) (tags []kmsapi.Tag) {
		for i := range n {
			tags = append(tags, kmsapi.Tag{TagKey: fmt.Sprint(i)})
		}
		return tags
	}
	for name, tc := range map[string]struct {
		tags []kmsapi.Tag
		code kmsapi.Code
		text string
	}{
		"51 at once":       {many(51), kmsapi.TagInvalid, "Too many tags"},
		"one twice":        {[]kmsapi.Tag{{TagKey: "a"}, {TagKey: "a"}}, kmsapi.TagInvalid, "Duplicate tag keys"},
		"AWS's own":        {[]kmsapi.Tag{{TagKey: "aws:a"}}, kmsapi.TagInvalid, "Tags beginning with aws: are reserved"},
		"AWS's own, loud":  {[]kmsapi.Tag{{TagKey: "AwS:a"}}, kmsapi.TagInvalid, "Tags beginning with aws: are reserved"},
		"a strange key":    {[]kmsapi.Tag{{TagKey: "a\x00"}}, kmsapi.TagInvalid, ""},
		"a strange value":  {[]kmsapi.Tag{{TagKey: "a", TagValue: "{}"}}, kmsapi.TagInvalid, ""},
		"50 beside others": {many(50), kmsapi.LimitExceeded, ""},
	} {
		err := w.tag(key, tc.tags...)
		wantCode(t, err, tc.code)
		if tc.text != "" && !strings.HasSuffix(fmt.Sprint(err), tc.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantCode(t, w.untag(key, "AWS:a"), kmsapi.TagInvalid)
	if got := w.tags(key, 50); !slices.Equal(got, []kmsapi.Tag{{TagKey: "kept", TagValue: "as it is"}}) {
		t.Errorf("the tags are %v", got)
	}
	wantCode(t, w.tag(key, append(many(49), kmsapi.Tag{TagKey: "kept"})...), "")
	_, err := do[kmsapi.ListResourceTagsResponse](w, root(account), "ListResourceTags", &kmsapi.ListResourceTagsRequest{KeyID: key, Marker: "x"})
	wantCode(t, err, kmsapi.InvalidMarker)
	w.doom(w.createKey(&kmsapi.CreateKeyRequest{}))
	doomed := w.createKey(&kmsapi.CreateKeyRequest{})
	w.doom(doomed)
	wantCode(t, w.tag(doomed.KeyID, many(1)...), kmsapi.KMSInvalidState)
	wantCode(t, w.untag(doomed.KeyID, "a"), kmsapi.KMSInvalidState)
}

func TestAKeyHasOnePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := &kmsapi.ListKeyPoliciesRequest{KeyID: w.createKey(&kmsapi.CreateKeyRequest{}).KeyID, Limit: ptr(int32(1))}
	out := must(do[kmsapi.ListKeyPoliciesResponse](w, root(account), "ListKeyPolicies", in))(t)
	if !slices.Equal(out.PolicyNames, []string{"default"}) || out.Truncated || out.NextMarker != "" {
		t.Errorf("got %+v", out)
	}
	in.Marker = "x"
	_, err := do[kmsapi.ListKeyPoliciesResponse](w, root(account), "ListKeyPolicies", in)
	wantCode(t, err, kmsapi.InvalidMarker)
}
