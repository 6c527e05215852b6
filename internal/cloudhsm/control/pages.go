package control

import (
	"encoding/base64"
	"slices"
	"strings"
)

// stored is a record with its storage key.
type stored interface{ path() string }

// page cuts one page out of a list that is in order, of those that it is to show. next is the token of the one behind it, or
// empty. within is what the storage keys of the list begin with. The record that a token stands for has to be in the list, and
// may have ceased to be one that is shown: a filter does not end because states change meanwhile.
func page[T stored](all []T, show func(T) bool, size *int32, most int, token, within string) (out []T, next string, err error) {
	if token != "" {
		after, err := openToken(token, within)
		if err != nil {
			return nil, "", err
		}
		i := slices.IndexFunc(all, func(r T) bool { return r.path() == after })
		if i < 0 {
			return nil, "", expiredToken()
		}
		all = all[i+1:]
	}
	all = slices.DeleteFunc(slices.Clone(all), func(r T) bool { return !show(r) })
	n := most
	if size != nil {
		n = min(n, int(*size))
	}
	if len(all) <= n {
		return all, "", nil
	}
	return all[:n], makeToken(all[n-1].path(), within), nil
}

// makeToken leaves out what all have in common, so that it stays short.
func makeToken(at, within string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.TrimPrefix(at, within)))
}

func openToken(token, within string) (string, error) {
	rest, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", expiredToken()
	}
	return within + string(rest), nil
}

func expiredToken() error {
	return invalid("The token is not one that this operation gave for this account and Region, or what it stood for is gone.")
}

// checkFilters refuses filters that the operation does not have.
func checkFilters(filters map[string][]string, known ...string) error {
	for name, values := range filters {
		if !slices.Contains(known, name) {
			return invalid("The filter %q does not exist. Filters are %s.", cut(name, 64), strings.Join(known, ", "))
		}
		if len(values) == 0 {
			return invalid("The filter %s has no values.", name)
		}
	}
	return nil
}

// passes tells whether a value is among those of a filter, if that is given.
func passes(filters map[string][]string, name, value string) bool {
	values, given := filters[name]
	return !given || slices.Contains(values, value)
}
