package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/polltest"
)

// changing are the parts of records that differ from run to run.
var changing = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`[0-9a-f]{64}`), "<hash>"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`mrk-[0-9a-f]{32}`), "<mrk>"},
	{regexp.MustCompile(`cks-[0-9a-f]{17}`), "<cks>"},
	{regexp.MustCompile(`[A-Z][a-z]{2} \d{1,2}, \d{4}, \d{1,2}:\d\d:\d\d [AP]M`), "<date>"},
	{regexp.MustCompile(`"policy":"([^"\\]|\\.)*"`), `"policy":"<policy>"`},
	{regexp.MustCompile(`"replicaPolicy":"([^"\\]|\\.)*"`), `"replicaPolicy":"<policy>"`},
	{regexp.MustCompile(`arn:aws:kms:us-east-1:111122223333:`), "<kms>:"},
	{regexp.MustCompile(`https://[^"]*`), "<url>"},
}

// shownOf is what a record shows, in one text.
func shownOf(r *audit.Record) string {
	var resources []string
	for _, resource := range r.Resources {
		resources = append(resources, resource.ARN)
	}
	data, err := json.Marshal(r.AdditionalEventData)
	if err != nil {
		panic(err)
	}
	text := fmt.Sprintf("%v %s -> %s; %s; %s", r.ReadOnly, r.RequestParameters, r.ResponseElements, data, strings.Join(resources, " "))
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.name)
	}
	return text
}

// recorded reads all records of a server.
func recorded(t *testing.T, s *kastellantest.Server) []*audit.Record {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Directory, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all []*audit.Record
	for line := range strings.Lines(string(text)) {
		r := new(audit.Record)
		if err := json.Unmarshal([]byte(line), r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// lastOf is the last record of a call of an operation.
func lastOf(t *testing.T, s *kastellantest.Server, operation string) *audit.Record {
	t.Helper()
	var last *audit.Record
	for _, r := range recorded(t, s) {
		if r.EventName == operation && r.EventType == audit.APICall && r.UserIdentity.InvokedBy == "" && r.AWSRegion == kastellantest.Region {
			last = r
		}
	}
	if last == nil {
		t.Fatalf("no record of %s", operation)
	}
	return last
}

// kindOfOperation says with which key an operation is called that is none for a symmetric one.
var kindOfOperation = map[string]string{
	"Sign": "signing", "Verify": "signing", "GetPublicKey": "signing", "GenerateMac": "mac", "VerifyMac": "mac", "DeriveSharedSecret": "agreement",
	"Encapsulate": "kem", "Decapsulate": "kem", "GetParametersForImport": "imported", "ImportKeyMaterial": "imported", "DeleteImportedKeyMaterial": "imported",
}

// onTheirOwn are calls of the operations that are about no key, and of those for which callsOnKeys
// shows too little.
func onTheirOwn(s *kastellantest.Server, store func(connected bool) *string) map[string]func(*subject) error {
	client := s.Client(admin)
	return map[string]func(*subject) error{
		"CreateKey": func(k *subject) error {
			_, err := client.CreateKey(k.t.Context(), &awskms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("k"), TagValue: aws.String("v")}}})
			return err
		},
		"Encrypt": func(k *subject) error {
			_, err := client.Encrypt(k.t.Context(), &awskms.EncryptInput{KeyId: &k.alias, Plaintext: message, EncryptionContext: map[string]string{"a": "b"}})
			return err
		},
		"CancelKeyDeletion": func(k *subject) error {
			if err := callsOnKeys["ScheduleKeyDeletion"](k); err != nil {
				return err
			}
			return callsOnKeys["CancelKeyDeletion"](k)
		},
		"ReEncrypt": callsOnKeys["ReEncrypt(to)"], "UpdateAlias": callsOnKeys["UpdateAlias(to)"],
		"GenerateRandom": func(k *subject) error {
			_, err := client.GenerateRandom(k.t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
			return err
		},
		"ListKeys": func(k *subject) error {
			_, err := client.ListKeys(k.t.Context(), &awskms.ListKeysInput{Limit: aws.Int32(5)})
			return err
		},
		"ListRetirableGrants": func(k *subject) error {
			_, err := client.ListRetirableGrants(k.t.Context(), &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String("arn:aws:iam::" + kastellantest.Account + ":user/" + admin)})
			return err
		},
		"CreateCustomKeyStore": func(*subject) error { store(false); return nil },
		"ConnectCustomKeyStore": func(k *subject) error {
			_, err := client.ConnectCustomKeyStore(k.t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store(false)})
			return err
		},
		"DescribeCustomKeyStores": func(k *subject) error {
			_, err := client.DescribeCustomKeyStores(k.t.Context(), &awskms.DescribeCustomKeyStoresInput{CustomKeyStoreId: store(false)})
			return err
		},
		"UpdateCustomKeyStore": func(k *subject) error {
			_, err := client.UpdateCustomKeyStore(k.t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: store(false), NewCustomKeyStoreName: aws.String("renamed")})
			return err
		},
		"DisconnectCustomKeyStore": func(k *subject) error {
			_, err := client.DisconnectCustomKeyStore(k.t.Context(), &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store(true)})
			return err
		},
		"DeleteCustomKeyStore": func(k *subject) error {
			_, err := client.DeleteCustomKeyStore(k.t.Context(), &awskms.DeleteCustomKeyStoreInput{CustomKeyStoreId: store(false)})
			return err
		},
	}
}

// newStores gives a server and what makes key stores of it, each behind a proxy of its own.
func newStores(t *testing.T, n int) (*kastellantest.Server, func(connected bool) *string) {
	proxies := make([]*xkstest.Proxy, n)
	for i := range proxies {
		proxies[i] = xkstest.New(t, xkstest.Options{Host: fmt.Sprintf("proxy-%d.xks.example.com", i)})
	}
	s := kastellantest.Start(t, kastellantest.Options{External: external(t, proxies...)})
	return s, func(connected bool) *string {
		t.Helper()
		in := kastellantest.ProxyInput(proxies[0], fmt.Sprint("store-", len(proxies)))
		proxies = proxies[1:]
		if connected {
			return aws.String(s.KeyStore(in))
		}
		return must[*awskms.CreateCustomKeyStoreOutput](t)(s.Client(admin).CreateCustomKeyStore(t.Context(), in)).CustomKeyStoreId
	}
}

// TestTheRecordOfEveryOperationShowsWhatAWSShows calls every operation of the table.
func TestTheRecordOfEveryOperationShowsWhatAWSShows(t *testing.T) {
	t.Parallel()
	s, store := newStores(t, 6)
	own := onTheirOwn(s, store)
	l := &laboratory{fast: s}
	for _, op := range kms.Operations() {
		call := own[op.Name]
		if call == nil {
			call = callsOnKeys[op.Name]
		}
		if call == nil {
			t.Errorf("nobody calls %s", op.Name)
			continue
		}
		kind := kindOfOperation[op.Name]
		if kind == "" {
			kind = "symmetric"
		}
		k := l.in(t, types.KeyStateEnabled, kind)
		if err := call(k); err != nil {
			t.Errorf("%s: %v", op.Name, err)
			continue
		}
		r := lastOf(t, s, op.Name)
		got := shownOf(r)
		if diff := cmp.Diff(expectations[op.Name], got); diff != "" {
			t.Errorf("%s:\n%s\n%s", op.Name, got, diff)
		}
	}
}

func TestADryRunIsRecordedAsAFailure(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, kastellantest.Options{})
	key := s.Key(&awskms.CreateKeyInput{})
	_, err := s.Client(admin).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: key.KeyId, Plaintext: message, DryRun: aws.Bool(true)})
	wantError(t, err, "DryRunOperationException")
	r := lastOf(t, s, "Encrypt")
	if r.ErrorCode != "DryRunOperationException" || r.ErrorMessage == "" || !strings.Contains(string(r.RequestParameters), `"dryRun":true`) {
		t.Errorf("%+v", r)
	}
}

func TestARequestThatBreaksAConstraintIsRecorded(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, kastellantest.Options{})
	_, err := s.Client(admin).DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String(strings.Repeat("marker", 500))})
	wantError(t, err, "ValidationException")
	r := lastOf(t, s, "DescribeKey")
	if r.ErrorCode != "ValidationException" || r.UserIdentity.UserName != admin || r.RequestID == "" || string(r.RequestParameters) != "null" {
		t.Errorf("%+v", r)
	}
}

func TestWhatIsDoneInAnotherRegionIsRecordedThereToo(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, kastellantest.Options{})
	l := &laboratory{fast: s}
	k := l.in(t, types.KeyStateEnabled, "symmetric")
	if err := callsOnKeys["UpdatePrimaryRegion"](k); err != nil {
		t.Fatal(err)
	}
	replica := strings.Replace(k.id, kastellantest.Region, otherRegion, 1)
	found := make(map[string]bool)
	for _, r := range recorded(t, s) {
		if r.AWSRegion == otherRegion && r.EventType == audit.APICall && len(r.Resources) == 1 && r.Resources[0].ARN == replica {
			found[r.EventName+" "+r.UserIdentity.InvokedBy] = true
		}
	}
	for _, want := range []string{"CreateKey AWS Internal", "UpdatePrimaryRegion "} {
		if !found[want] {
			t.Errorf("%s is not recorded in %s: %v", want, otherRegion, found)
		}
	}
}

func TestWhatTheServiceDoesToAKeyStoreIsRecorded(t *testing.T) {
	t.Parallel()
	proxy := xkstest.New(t, xkstest.Options{})
	s := kastellantest.Start(t, kastellantest.Options{External: external(t, proxy), XKS: func(c *xks.Config) { c.HealthInterval = 5 * time.Millisecond }})
	in := kastellantest.ProxyInput(proxy, "store")
	id := s.KeyStore(in)
	events := func(name, member, value string) func() bool {
		return func() bool { return hasEvent(t, s, name, audit.Data{"customKeyStoreId": id, member: value}) }
	}
	polltest.Until(t, "the record of the connection", events("ConnectCustomKeyStoreAttempt", "connectionState", "CONNECTED"))
	proxy.Fleet("ACTIVE", "DEGRADED")
	polltest.Until(t, "the record of a key manager that is not well", events("CustomKeyStoreHealthChange", "state", "DEGRADED"))
	proxy.Fail(xkstest.Health, xkstest.Fault{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}})
	polltest.Until(t, "the record of the loss", events("CustomKeyStoreHealthChange", "state", "UNAVAILABLE"))
	proxy.Heal()
	polltest.Until(t, "the record of the return", events("CustomKeyStoreHealthChange", "part", "proxy"))
	polltest.Until(t, "the record that it is well", events("CustomKeyStoreHealthChange", "state", "ACTIVE"))
	s.Disconnect(id)
	polltest.Until(t, "the record of the end", events("DisconnectCustomKeyStoreAttempt", "connectionState", "DISCONNECTED"))
}

// hasEvent tells whether there is a service event with these details.
func hasEvent(t *testing.T, s *kastellantest.Server, name string, details audit.Data) bool {
	t.Helper()
	for _, r := range recorded(t, s) {
		found := r.EventName == name && r.EventType == audit.ServiceEvent
		for member, value := range details {
			found = found && r.ServiceEventDetails[member] == value
		}
		if found {
			return true
		}
	}
	return false
}
