package kms

import (
	"context"
	"encoding/base64"
	"strings"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// list gives one page of the records of the caller's account and Region
// below prefix that want wants, in the order of their storage keys, and the
// marker of the next page, empty when there is none.
func list[T any](ctx context.Context, c *call, prefix string, limit *int32, standard, most int, marker string, want func(*T) bool) (page []*T, next string, err error) {
	size := standard
	if limit != nil {
		size = min(int(*limit), most)
	}
	within := path(prefix, c.caller.Account, c.caller.Region, "")
	after, err := openMarker(marker, within)
	if err != nil {
		return nil, "", err
	}
	err = c.s.db.View(ctx, func(r store.Reader) error {
		last := ""
		for entry, err := range r.Scan(within) {
			if err != nil {
				return err
			}
			if entry.Key <= after {
				continue
			}
			rec, err := decode[T](entry.Key, entry.Value)
			if err != nil {
				return err
			}
			if !want(rec) {
				continue
			}
			if len(page) == size {
				next = closeMarker(last)
				return nil
			}
			page, last = append(page, rec), entry.Key
		}
		return nil
	})
	return page, next, err
}

func closeMarker(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

func openMarker(marker, within string) (string, error) {
	if marker == "" {
		return "", nil
	}
	after, err := base64.RawURLEncoding.DecodeString(marker)
	if err != nil || !strings.HasPrefix(string(after), within) {
		return "", kmsapi.Errorf(kmsapi.InvalidMarker, "The marker is not one that this operation gave for this account and Region.")
	}
	return string(after), nil
}
