package kms

import (
	"encoding/base64"
	"slices"
	"strings"

	"kastellan.dev/internal/kmsapi"
)

// stored is a record with its storage key, which orders lists.
type stored interface{ path() string }

// page cuts one page out of the records of the caller's account and Region
// below prefix, in the order of their storage keys. next is the marker of the
// page after it, empty when there is none.
func page[T stored](c *call, prefix string, all []T, limit *int32, standard, most int, marker string) (out []T, next string, err error) {
	size := standard
	if limit != nil {
		size = min(int(*limit), most)
	}
	after, err := openMarker(marker, path(prefix, c.caller.Account, c.caller.Region, ""))
	if err != nil {
		return nil, "", err
	}
	all = slices.DeleteFunc(all, func(r T) bool { return r.path() <= after })
	slices.SortFunc(all, func(a, b T) int { return strings.Compare(a.path(), b.path()) })
	if len(all) <= size {
		return all, "", nil
	}
	return all[:size], base64.RawURLEncoding.EncodeToString([]byte(all[size-1].path())), nil
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
