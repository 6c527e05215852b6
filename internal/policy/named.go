package policy

import (
	"maps"
	"slices"
)

// Principals gives the accounts, by their ids, and the users, roles and sessions, by
// their ARNs, that the statements name which do something; each once, sorted.
func (d *Document) Principals() []string {
	named := make(map[string]bool)
	note := func(statements []*statement) {
		for _, s := range statements {
			if s.principals == nil {
				continue
			}
			for _, list := range [][]string{s.principals.accounts, s.principals.roles, s.principals.others} {
				for _, name := range list {
					named[name] = true
				}
			}
		}
	}
	for _, statements := range d.exact {
		note(statements)
	}
	note(d.others)
	return slices.Sorted(maps.Keys(named))
}
