package kms

import (
	"encoding/base64"
	"slices"
	"strings"

	"kastellan.dev/internal/kmsapi"
)

// stored is a record with its storage key, which orders lists.
type stored interface{ path() string }

// span is the part of a list that a request asks for.
type span struct {
	after string // the storage key behind which it begins
	size  int
}

// spanOf reads the limit and the marker of a request for a list of records whose storage keys
// begin with within.
func spanOf(within string, limit *int32, standard, most int, marker string) (s span, err error) {
	s.size = standard
	if limit != nil {
		s.size = min(int(*limit), most)
	}
	s.after, err = openMarker(marker, within)
	return s, err
}

// cut makes a page of records that lie in order behind the span's beginning, of which there is
// one more if another page follows. next is the marker of that one, or empty.
func cut[T stored](found []T, s span) (out []T, next string) {
	if len(found) <= s.size {
		return found, ""
	}
	return found[:s.size], base64.RawURLEncoding.EncodeToString([]byte(found[s.size-1].path()))
}

// page cuts one page out of a list that is short, in whatever order.
func page[T stored](all []T, s span) (out []T, next string) {
	all = slices.DeleteFunc(all, func(r T) bool { return r.path() <= s.after })
	slices.SortFunc(all, func(a, b T) int { return strings.Compare(a.path(), b.path()) })
	return cut(all, s)
}

// below is what the storage keys of the caller's records in its Region begin with.
func (c *call) below(prefix string) string {
	return path(prefix, c.caller.Account, c.caller.Region, "")
}

func openMarker(marker, within string) (string, error) {
	if marker == "" {
		return "", nil
	}
	after, err := base64.RawURLEncoding.DecodeString(marker)
	if err != nil || !strings.HasPrefix(string(after), within) {
		return "", invalidMarker()
	}
	return string(after), nil
}

func invalidMarker() error {
	return kmsapi.Errorf(kmsapi.InvalidMarker, "The marker is not one that this operation gave for this account and Region.")
}
