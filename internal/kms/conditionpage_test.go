package kms_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"kastellan.dev/internal/kms"
)

var update = flag.Bool("update", false, "write docs/condition-keys.md")

// The page is made of the table that TestEveryConditionKeyHasItsValueWhereItBelongs proves.
func TestConditionKeysAreDocumented(t *testing.T) {
	t.Parallel()
	const page = "../../docs/condition-keys.md"
	want := conditionPage(newTheater(t).askings())
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/condition-keys.md is not what the table says: go test ./internal/kms -run ConditionKeysAreDocumented -update")
	}
}

func conditionPage(askings []asking) string {
	askings = slices.DeleteFunc(askings, func(a asking) bool { return !ofAWS(a.operation) })
	var rows []pageRow
	for _, a := range askings {
		rows = include(rows, a)
	}
	always := slices.DeleteFunc(conditionKeysOf(askings[0]), func(key string) bool { return !everyRow(rows, key, "") })
	onKeys := slices.DeleteFunc(conditionKeysOf(asking{on: "key"}), func(key string) bool { return slices.Contains(always, key) || !everyRow(rows, key, "key") })
	onNewKeys := slices.DeleteFunc(slices.Clone(onKeys), func(key string) bool { return !everyRow(rows, key, "new key") })
	var b strings.Builder
	fmt.Fprintf(&b, `# Condition keys

Made by `+"`go test ./internal/kms -run ConditionKeysAreDocumented -update`"+` from the table that the tests of conditions work through; a test
fails when it is out of date. [Who may do what](decisions/authorization.md) tells what was chosen where AWS is not known.
A key is absent where there is nothing that it could tell, as `+"`kms:ViaService`"+` in a request that comes by no service.

* **All requests:** %s.
  About principals that have them: `+"`aws:PrincipalTag/<key>`, `aws:PrincipalOrgID`, `aws:PrincipalOrgPaths`"+`. Of services for others: `+"`aws:CalledVia`, `aws:CalledViaFirst`, `aws:CalledViaLast`"+`.
  With temporary credentials: `+"`aws:TokenIssueTime`, `aws:MultiFactorAuthPresent`, `aws:SourceIdentity`, `aws:FederatedProvider`, `<provider>:sub`, `<provider>:aud`"+`.
* **All permissions on a key:** %s.
* **All permissions on a key that is to be made:** %s.

| Operation | Permission | On | Further condition keys |
|---|---|---|---|
`, inCode(always), inCode(onKeys), inCode(onNewKeys))
	common := map[string][]string{"key": onKeys, "new key": onNewKeys}
	for _, r := range rows {
		further := slices.DeleteFunc(r.keys, func(key string) bool {
			return slices.Contains(always, key) || slices.Contains(common[r.on], key)
		})
		fmt.Fprintf(&b, "| %s | `kms:%s` | %s | %s |\n", r.operation, r.permission, r.on, inCode(further))
	}
	return b.String()
}

// pageRow is what the page tells of a permission that an operation needs.
type pageRow struct {
	operation, permission, on string
	keys                      []string
}

// include adds an asking to the rows: to the one that says the same of another key, if there is one.
func include(rows []pageRow, a asking) []pageRow {
	row := pageRow{a.operation, a.permission, "", conditionKeysOf(a)}
	switch {
	case existing(a):
		row.on = "key"
	case aboutKeys(a):
		row.on = "new key"
	default:
		row.on = a.on
	}
	for i, r := range rows {
		if r.operation == row.operation && r.permission == row.permission && r.on == row.on {
			rows[i].keys = sortedSet(append(r.keys, row.keys...))
			return rows
		}
	}
	return append(rows, row)
}

// everyRow tells whether all rows have a key: all that are about such a resource, if it is given.
func everyRow(rows []pageRow, key, on string) bool {
	return !slices.ContainsFunc(rows, func(r pageRow) bool { return (on == "" || on == r.on) && !slices.Contains(r.keys, key) })
}

// conditionKeysOf are the names of the condition keys that an asking has; those of families end in "<key>" or "<n>".
func conditionKeysOf(a asking) (names []string) {
	for _, key := range conditionKeys {
		if key.has(a) {
			names = append(names, family(key.name))
		}
	}
	if attested(a) {
		names = append(names, "kms:RecipientAttestation:ImageSha384", "kms:RecipientAttestation:PCR<n>", "kms:RecipientAttestation:NitroTPMPCR<n>")
	}
	return sortedSet(names)
}

func family(name string) string {
	for _, prefix := range documented {
		if strings.TrimRight(prefix, ":/") != prefix && strings.HasPrefix(name, prefix) {
			return prefix + "<key>"
		}
	}
	return name
}

func sortedSet(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func ofAWS(operation string) bool {
	return slices.ContainsFunc(kms.Operations(), func(op *kms.Operation) bool { return op.Name == operation })
}

func inCode(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "`" + strings.Join(names, "`, `") + "`"
}
