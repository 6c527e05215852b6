package sts

import (
	"slices"
	"strconv"
	"strings"
)

// values are the condition keys of a request. They implement policy.Values.
type values struct {
	call      *call
	beginning *beginning
}

// Lookup implements policy.Values.
func (v *values) Lookup(key string) ([]string, bool) {
	b := v.beginning
	switch key {
	case "sts:externalid":
		return pointed(b.external)
	case "sts:rolesessionname":
		return present(b.claims.Name)
	case "sts:sourceidentity":
		return present(b.claims.SourceID)
	case "sts:durationseconds":
		return seconds(b.duration)
	case "sts:transitivetagkeys":
		return b.claims.Transitive, len(b.claims.Transitive) > 0
	case "aws:tagkeys":
		keys := make([]string, 0, len(b.tags))
		for k := range b.tags {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		return keys, len(keys) > 0
	}
	if name, ok := strings.CutPrefix(key, "aws:requesttag/"); ok {
		return tagged(b.tags, name)
	}
	if name, ok := resourceTag(key); ok && b.role != nil {
		return tagged(b.role.Tags, name)
	}
	if b.web != nil {
		if found, ok := b.web.lookup(key); ok {
			return found, true
		}
	}
	return v.call.caller.Lookup(key, v.call.caller.Region, v.call.at)
}

func resourceTag(key string) (string, bool) {
	if name, ok := strings.CutPrefix(key, "aws:resourcetag/"); ok {
		return name, true
	}
	return strings.CutPrefix(key, "iam:resourcetag/")
}

func tagged(tags map[string]string, name string) ([]string, bool) {
	value, ok := folded(tags, name)
	return []string{value}, ok
}

func present(value string) ([]string, bool) { return []string{value}, value != "" }

func pointed(value *string) ([]string, bool) {
	if value == nil {
		return nil, false
	}
	return []string{*value}, true
}

func seconds(value *int32) ([]string, bool) {
	if value == nil {
		return nil, false
	}
	return []string{strconv.Itoa(int(*value))}, true
}
