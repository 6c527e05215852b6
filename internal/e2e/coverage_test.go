package e2e_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kms"
)

var update = flag.Bool("update", false, "write docs/coverage.md")

func TestTheTableHasEveryOperationOfTheOfficialSDK(t *testing.T) {
	t.Parallel()
	ours := map[string]bool{}
	for _, op := range kms.Operations() {
		ours[op.Name] = true
	}
	client := reflect.TypeFor[*awskms.Client]()
	for i := range client.NumMethod() {
		name := client.Method(i).Name
		if name != "Options" && !ours[name] {
			t.Errorf("%s is missing", name)
		}
		delete(ours, name)
	}
	for name := range ours {
		t.Errorf("the SDK does not know %s", name)
	}
}

// The page is made of the table, so that it says what the server does.
func TestCoverageIsDocumented(t *testing.T) {
	t.Parallel()
	const page = "../../docs/coverage.md"
	want := coverage()
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
		t.Error("docs/coverage.md is not what the table says: go test ./internal/e2e -run Coverage -update")
	}
}

func coverage() string {
	var b strings.Builder
	b.WriteString(`# Coverage of the APIs of AWS KMS and CloudHSM v2

Made by ` + "`go test ./internal/e2e -run Coverage -update`" + ` from the table of operations; a test fails when it is out of date.

`)
	fmt.Fprintf(&b, "All %d operations of the KMS API, with all members and enumeration values of the official SDK for Go.\n"+
		"`kms:TagResource` is needed beside another permission when there are tags. A key whose custom key store is not connected is Unavailable.\n"+
		"Operations that a kind of key does not have at all are refused in every state, with UnsupportedOperationException: rotation, imports and data key pairs of keys in\n"+
		"custom key stores, rotation of keys that are not symmetric encryption keys, imports into keys of another origin, public keys of symmetric and HMAC keys.\n\n", len(kms.Operations()))
	b.WriteString("[Condition keys](condition-keys.md) has those of each permission.\n\n")
	b.WriteString("| Operation | Permissions | Key named by | Dry run | Counted as | Refused in key states |\n|---|---|---|---|---|---|\n")
	for _, op := range kms.Operations() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", op.Name, permissions(op), namedBy(op), dryRunOf(op), countedAs(op), refusedIn(op))
	}
	clusterCoverage(&b)
	b.WriteString("\n## Key specs\n\n| Key spec | Usages | Algorithms | Data key pairs | Importable |\n|---|---|---|---|---|\n")
	for _, spec := range keyspec.All() {
		fmt.Fprintf(&b, "| %s%s | %s | %s | %s | %s |\n", spec.Name, where(spec), words(spec.Usages()), algorithms(spec), yes(spec.DataKeyPair()), yes(spec.Importable()))
	}
	return b.String()
}

// clusterCoverage adds the operations of CloudHSM v2, and those of clients at an HSM.
func clusterCoverage(b *strings.Builder) {
	fmt.Fprintf(b, "\n## CloudHSM v2\n\nAll %d operations of the API, and %d of our own for what clients do at an HSM itself.\n"+
		"`cloudhsm:TagResource` is needed beside another permission when there is a list of tags.\n\n", len(control.Operations()), len(control.Extensions()))
	b.WriteString("| Operation | Target | Permission | Only reads |\n|---|---|---|---|\n")
	row := func(target string, op *control.Operation) {
		fmt.Fprintf(b, "| %s | `%s` | `%s` | %s |\n", op.Name, target, op.Permission, yes(op.ReadOnly))
	}
	for _, op := range control.Operations() {
		row(cloudhsmapi.Target, op)
	}
	for _, op := range control.Extensions() {
		row(cloudhsmapi.Extensions, op)
	}
}

// permissions lists those that a caller needs.
func permissions(op *kms.Operation) string {
	return "`" + strings.Join(append([]string{op.Permission}, op.Further...), "`, `") + "`"
}

// countedAs tells the request quota, and AWS's value of one that is the operation's own.
func countedAs(op *kms.Operation) string {
	if op.Quota != op.Name {
		return op.Quota
	}
	return fmt.Sprintf("%v/s", op.Rate)
}

// namedBy tells what the operation's KeyId may be.
func namedBy(op *kms.Operation) string {
	request := reflect.TypeOf(op.New()).Elem()
	_, byID := request.FieldByName("KeyID")
	_, byTarget := request.FieldByName("TargetKeyID")
	_, byDestination := request.FieldByName("DestinationKeyID")
	switch {
	case !byID && !byTarget && !byDestination:
		return ""
	case op.Aliases:
		return "id, ARN, alias, alias ARN"
	default:
		return "id, ARN"
	}
}

func dryRunOf(op *kms.Operation) string {
	_, ok := reflect.TypeOf(op.New()).Elem().FieldByName("DryRun")
	return yes(ok)
}

// refusedIn lists the states of the operation's row, by exception.
func refusedIn(op *kms.Operation) string {
	byCode := map[string][]string{}
	for state, code := range op.Refused {
		byCode[string(code)] = append(byCode[string(code)], string(state))
	}
	var out []string
	for _, code := range slices.Sorted(maps.Keys(byCode)) {
		slices.Sort(byCode[code])
		out = append(out, strings.Join(byCode[code], ", ")+": "+code)
	}
	return strings.Join(out, "; ")
}

func algorithms(spec *keyspec.Spec) string {
	var out []string
	for _, u := range spec.Usages() {
		for _, list := range []string{
			words(spec.EncryptionAlgorithms(u)), words(spec.SigningAlgorithms(u)), words(spec.MacAlgorithms(u)),
			words(spec.KeyAgreementAlgorithms(u)), words(spec.EncapsulationAlgorithms(u)),
		} {
			if list != "" {
				out = append(out, list)
			}
		}
	}
	return strings.Join(out, "; ")
}

// where names the Regions of a spec that not all have.
func where(spec *keyspec.Spec) string {
	switch elsewhere, china := spec.AllowedIn("eu-central-1"), spec.AllowedIn("cn-north-1"); {
	case elsewhere && china:
		return ""
	case china:
		return " (China Regions)"
	default:
		return " (not in China Regions)"
	}
}

func words[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return strings.Join(out, ", ")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
