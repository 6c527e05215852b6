package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

func TestParametersLeaveSecretsAndBlobsOut(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   any
		want string
	}{
		"an empty request is null": {&kmsapi.ListKeysRequest{}, ""},
		"encrypt shows key and context": {&kmsapi.EncryptRequest{
			KeyID: "k", Plaintext: secret.New([]byte("plain-marker")), EncryptionContext: map[string]string{"a": "b"}, GrantTokens: []string{"token-marker"},
		}, `{"keyId":"k","encryptionContext":{"a":"b"}}`},
		"decrypt does not show the ciphertext": {&kmsapi.DecryptRequest{CiphertextBlob: []byte("blob-marker"), KeyID: "k"}, `{"keyId":"k"}`},
		"a cluster is called by CloudTrail's name and its password is not shown": {&kmsapi.CreateCustomKeyStoreRequest{
			CustomKeyStoreName: "n", CloudHsmClusterID: "cluster-1", KeyStorePassword: secret.NewText("password-marker"),
		}, `{"customKeyStoreName":"n","clusterId":"cluster-1"}`},
		"a proxy's credential is not shown": {&kmsapi.CreateCustomKeyStoreRequest{
			CustomKeyStoreName: "n",
			XksProxyAuthenticationCredential: &kmsapi.XksProxyAuthenticationCredential{
				AccessKeyID: "id-marker", RawSecretAccessKey: secret.NewText("secret-marker"),
			},
		}, `{"customKeyStoreName":"n","xksProxyAuthenticationCredential":{}}`},
		"filters are shown": {&cloudhsmapi.DescribeBackupsRequest{
			Filters: map[string][]string{"states": {"READY", "DELETED"}, "clusterIds": {"cluster-1"}},
		}, `{"filters":{"clusterIds":["cluster-1"],"states":["READY","DELETED"]}}`},
		"certificates are not shown": {&cloudhsmapi.InitializeClusterRequest{
			ClusterID: "cluster-1", SignedCert: "certificate-marker", TrustAnchor: "certificate-marker",
		}, `{"clusterId":"cluster-1"}`},
		"nor those of a cluster": {&cloudhsmapi.DeleteClusterResponse{Cluster: &cloudhsmapi.Cluster{
			ClusterID: "cluster-1", SubnetMapping: map[string]string{"us-east-1a": "subnet-1"}, Certificates: &cloudhsmapi.Certificates{ClusterCSR: "certificate-marker"},
		}}, `{"cluster":{"clusterId":"cluster-1","hsms":[],"subnetMapping":{"us-east-1a":"subnet-1"}}}`},
		"times and lists": {&kmsapi.ScheduleKeyDeletionResponse{
			KeyID: "k", DeletionDate: kmsapi.At(time.Date(2026, 8, 10, 22, 38, 27, 0, time.UTC)), KeyState: "PendingDeletion",
		}, `{"keyId":"k","deletionDate":"Aug 10, 2026, 10:38:27 PM","keyState":"PendingDeletion"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, string(audit.Parameters(tc.in))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// openLines is a log of the file at path alone.
func openLines(t *testing.T, path string) *audit.Log {
	t.Helper()
	lines, err := audit.OpenLines(path, false)
	if err != nil {
		t.Fatal(err)
	}
	return audit.NewLog(lines)
}

func TestEveryRecordOfManyWritersIsOneWholeLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f := openLines(t, path)
	const writers, each = 16, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := f.Write(context.Background(), &audit.Record{EventID: strconv.Itoa(w*each + i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		var r audit.Record
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		seen[r.EventID] = true
	}
	if len(seen) != writers*each {
		t.Errorf("%d records, want %d", len(seen), writers*each)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestARecordThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	err := audit.NewFile(fullDisk{}).Write(context.Background(), &audit.Record{})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
}

func TestTextsOfCallersAreCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1023) + "é and more"
	whole := strings.Repeat("y", 1024)
	var out bytes.Buffer
	err := audit.NewFile(&out).Write(t.Context(), &audit.Record{UserAgent: long, ErrorMessage: strings.Repeat("\x80", 5000),
		TLSDetails: &audit.TLSDetails{ClientProvidedHostHeader: whole}})
	if err != nil {
		t.Fatal(err)
	}
	var got audit.Record
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if want := long[:1023]; got.UserAgent != want {
		t.Errorf("of the user agent %d bytes are written, want %d", len(got.UserAgent), len(want))
	}
	if got.TLSDetails.ClientProvidedHostHeader != whole {
		t.Errorf("a text of 1,024 bytes is cut to %d", len(got.TLSDetails.ClientProvidedHostHeader))
	}
	if len(got.ErrorMessage) > 1024*len("\ufffd") {
		t.Errorf("of a message that is no text %d bytes are written", len(got.ErrorMessage))
	}
}

// smallDisk has room for some bytes, until it is given more.
type smallDisk struct {
	bytes.Buffer
	room int
}

func (d *smallDisk) Write(p []byte) (int, error) {
	n, _ := d.Buffer.Write(p[:min(len(p), d.room)])
	d.room -= n
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func TestARecordAfterOneThatWasCutStandsOnALineOfItsOwn(t *testing.T) {
	t.Parallel()
	d := &smallDisk{room: 20}
	f := audit.NewFile(d)
	for attempt, room := range []int{20, 0, 1, 1 << 20} { // the third is for the end of the line only
		d.room = room
		if err := f.Write(t.Context(), &audit.Record{EventName: "Encrypt"}); (err == nil) != (room > 1000) {
			t.Errorf("attempt %d: %v", attempt, err)
		}
	}
	wantSecondLine(t, d.Bytes())
}

func TestAFileThatACrashHasCutGoesOnWithANewLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte(`{"eventVersion":"1.1`), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing to mend
		f := openLines(t, path)
		if err := f.Write(t.Context(), &audit.Record{EventName: "Encrypt"}); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("\n")); n != 3 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	wantSecondLine(t, text)
}

func wantSecondLine(t *testing.T, text []byte) {
	t.Helper()
	var got audit.Record
	lines := bytes.Split(text, []byte("\n"))
	if err := json.Unmarshal(lines[1], &got); err != nil || got.EventName != "Encrypt" {
		t.Errorf("the second line is no record (%v):\n%s", err, text)
	}
}

func TestARecordIsEncodedAsEncodingJSONWould(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*audit.Record{
		"an empty one": {},
		"one of an empty session": {UserIdentity: audit.UserIdentity{SessionContext: &audit.SessionContext{
			SessionIssuer: new(audit.SessionIssuer), WebIDFederationData: new(audit.WebIDFederationData), Attributes: new(audit.SessionAttributes)}}},
		"a full one": {
			EventVersion: "1.11", UserIdentity: audit.UserIdentity{Type: "IAMUser", PrincipalID: "AIDA", ARN: "arn", AccountID: "1", AccessKeyID: "AKIA", UserName: "u", InvokedBy: "x", IdentityProvider: "p",
				SessionContext: &audit.SessionContext{
					SessionIssuer:       &audit.SessionIssuer{Type: "Role", PrincipalID: "AROA", ARN: "arn", AccountID: "1", UserName: "r"},
					WebIDFederationData: &audit.WebIDFederationData{FederatedProvider: "p", Attributes: map[string]string{"d": "<>", "c": "e"}},
					Attributes:          &audit.SessionAttributes{CreationDate: time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC), MFAAuthenticated: true},
					SourceIdentity:      "alice",
				}},
			EventTime: time.Date(2026, 11, 23, 1, 2, 3, 456789000, time.UTC), EventName: "Encrypt", UserAgent: "quote \" backslash \\ tab \t <b>&\x7f\u00e9\u2028\xff",
			ErrorCode: "E", ErrorMessage: "m", RequestParameters: json.RawMessage(`{"a":1}`), ResponseElements: json.RawMessage(`{}`),
			AdditionalEventData: audit.Data{"b": "2", "a": "1", "recipient": map[string]any{"z": "<", "y": 1}, "list": []string{"\u2028"}, "none": nil},
			SharedEventID:       "s", ServiceEventDetails: audit.Data{"keyId": "k"}, RequestID: "r", EventID: "e", ReadOnly: true,
			Resources: []audit.Resource{{AccountID: "1", Type: "T", ARN: "A"}, {AccountID: "2"}}, ManagementEvent: true,
			TLSDetails: &audit.TLSDetails{TLSVersion: "TLSv1.3", CipherSuite: "c", ClientProvidedHostHeader: "h"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			if err := audit.NewFile(&got).Write(context.Background(), r); err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want)+"\n", got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUUIDsAreRandomOnesOfVersion4(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for range 1000 {
		id := audit.NewUUID()
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
}
