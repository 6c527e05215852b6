package clusters_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kastellantest"
)

// records gives those of an event, in their order.
func records(t *testing.T, s *kastellantest.Server, event string) (found []*audit.Record) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Directory, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		r := new(audit.Record)
		if err := json.Unmarshal([]byte(line), r); err != nil {
			t.Fatal(err)
		}
		if r.EventName == event && r.EventSource == "cloudhsm.amazonaws.com" {
			found = append(found, r)
		}
	}
	return found
}

// changing are the parts of records that differ from run to run.
var changing = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`(cluster|backup|hsm)-[a-z2-7]{11}`), "$1-1"},
	{regexp.MustCompile(`(eni|sg)-[0-9a-f]{17}`), "$1-1"},
	{regexp.MustCompile(`[A-Z][a-z]{2} \d{1,2}, \d{4}, \d{1,2}:\d\d:\d\d [AP]M`), "<date>"},
	{regexp.MustCompile(`arn:aws:cloudhsm:us-east-1:111122223333:`), "<us>:"},
	{regexp.MustCompile(`arn:aws:cloudhsm:eu-west-1:111122223333:`), "<eu>:"},
	{regexp.MustCompile(`"policy":"([^"\\]|\\.)*"`), `"policy":"<policy>"`},
}

// shownIn is what a record tells beside who called.
func shownIn(r *audit.Record) string {
	var about []string
	for _, resource := range r.Resources {
		about = append(about, resource.Type+" "+resource.ARN)
	}
	text := fmt.Sprintf("%s -> %s; %s", r.RequestParameters, r.ResponseElements, strings.Join(about, " "))
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.name)
	}
	return text
}

// wantRecords looks at the last two records of an operation: nobody was refused, and the administrator was not.
func (l *life) wantRecords(t *testing.T, operation string, readOnly bool) {
	t.Helper()
	all := slices.DeleteFunc(records(t, l.Server, operation), func(r *audit.Record) bool { return r.EventType != audit.APICall })
	i := slices.IndexFunc(all, func(r *audit.Record) bool { return r.UserIdentity.UserName == nobody })
	if i < 0 || i+1 == len(all) {
		t.Errorf("%s has no records", operation)
		return
	}
	refused := all[i]
	// The administrator may have called it once more, to see what has changed.
	j := slices.IndexFunc(all[i:], func(r *audit.Record) bool {
		return r.UserIdentity.UserName == admin && string(r.RequestParameters) == string(refused.RequestParameters)
	})
	if j < 0 {
		t.Errorf("%s was not allowed with %s", operation, refused.RequestParameters)
		return
	}
	allowed := all[i+j]
	if refused.ErrorCode != denied || !strings.Contains(refused.ErrorMessage, "not authorized") || len(refused.Resources) != 0 || refused.ResponseElements != nil && string(refused.ResponseElements) != "null" {
		t.Errorf("%s: the refusal is recorded as %+v", operation, refused)
	}
	if allowed.ErrorCode != "" || allowed.ReadOnly != readOnly || refused.ReadOnly != readOnly || allowed.RequestID == "" || allowed.AWSRegion != kastellantest.Region {
		t.Errorf("%s is recorded as %+v", operation, allowed)
	}
	if diff := cmp.Diff(inRecords[operation], shownIn(allowed)); diff != "" {
		t.Errorf("%s:\n%s\n%s", operation, shownIn(allowed), diff)
	}
}

// wantNoSecrets looks for passwords, sessions and certificates in the whole log.
func (l *life) wantNoSecrets(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.Directory, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{
		"the admin's password": kastellantest.AdminPassword, "alice's": alicePIN, "her new one": newPIN, "a wrong one": "a-wrong-Password",
		"a session": l.session, "another": l.alice, "certificates": "CERTIFICATE",
	} {
		if secret == "" || strings.Contains(string(text), secret) {
			t.Errorf("the audit log shows %s", name)
		}
	}
}

// inRecords is what a record of every operation shows.
var inRecords = map[string]string{
	"CreateCluster": `{"hsmType":"hsm1.medium","subnetIds":["subnet-2222222a","subnet-2222222b"],"tagList":[{"key":"team",` +
		`"value":"blue"}]} -> {"cluster":{"backupPolicy":"DEFAULT","backupRetentionPolicy":{"type":"DAYS","value":"90"},"clusterId":"cluster-1",` +
		`"createTimestamp":"<date>","hsms":[],"hsmType":"hsm1.medium","securityGroup":"sg-1","state":"CREATE_IN_PROGRESS",` +
		`"subnetMapping":{"us-east-1a":"subnet-2222222a","us-east-1b":"subnet-2222222b"},"vpcId":"vpc-22222222","networkType":"IPV4",` +
		`"tagList":[{"key":"team","value":"blue"}],"mode":"FIPS"}}; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"CreateHsm": `{"clusterId":"cluster-1","availabilityZone":"us-east-1a","ipAddress":"10.0.1.77"} -> {"hsm":{"availabilityZone":"us-east-1a",` +
		`"clusterId":"cluster-1","subnetId":"subnet-2222222a","eniId":"eni-1","eniIp":"10.0.1.77","hsmId":"hsm-1","hsmType":"hsm1.medium",` +
		`"state":"CREATE_IN_PROGRESS"}}; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"InitializeCluster": `{"clusterId":"cluster-1"} -> {"state":"INITIALIZE_IN_PROGRESS",` +
		`"stateMessage":"The cluster is being initialized. Its state will be INITIALIZED."}; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"ActivateCluster": `{"clusterId":"cluster-1"} -> {"state":"ACTIVE"}; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"Login":           `{"clusterId":"cluster-1","userName":"admin"} -> {"role":"admin","expires":"<date>"}; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"CreateUser":      `{"userName":"alice","role":"crypto-user"} -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"ListUsers":       `null -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"UnlockUser":      `{"userName":"alice","role":"crypto-user"} -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"ListKeys":        `null -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"Logout":          `null -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"ChangePassword":  `{"userName":"alice","role":"crypto-user"} -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"DeleteUser":      `{"userName":"alice","role":"crypto-user"} -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"ModifyCluster": `{"backupRetentionPolicy":{"type":"DAYS","value":"30"},"clusterId":"cluster-1"} -> {"cluster":{"backupPolicy":"DEFAULT",` +
		`"backupRetentionPolicy":{"type":"DAYS","value":"30"},"clusterId":"cluster-1","createTimestamp":"<date>",` +
		`"hsms":[{"availabilityZone":"us-east-1a","clusterId":"cluster-1","subnetId":"subnet-2222222a","eniId":"eni-1","eniIp":"10.0.1.77",` +
		`"hsmId":"hsm-1","hsmType":"hsm1.medium","state":"ACTIVE"}],"hsmType":"hsm1.medium","securityGroup":"sg-1","state":"ACTIVE",` +
		`"subnetMapping":{"us-east-1a":"subnet-2222222a","us-east-1b":"subnet-2222222b"},"vpcId":"vpc-22222222","networkType":"IPV4",` +
		`"tagList":[{"key":"team","value":"blue"}],"mode":"FIPS"}}; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"TagResource": `{"resourceId":"cluster-1","tagList":[{"key":"stage","value":"test"},{"key":"team",` +
		`"value":"red"}]} -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"ListTags":         `{"resourceId":"cluster-1"} -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"UntagResource":    `{"resourceId":"cluster-1","tagKeyList":["stage"]} -> null; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"DescribeClusters": `{"filters":{"states":["ACTIVE"]},"maxResults":5} -> null; `,
	"DescribeBackups":  `{"sortAscending":true} -> null; `,
	"PutResourcePolicy": `{"resourceArn":"<us>:backup/backup-1","policy":"<policy>"} -> {"resourceArn":"<us>:backup/backup-1",` +
		`"policy":"<policy>"}; AWS::CloudHSM::Backup <us>:backup/backup-1`,
	"GetResourcePolicy": `{"resourceArn":"<us>:backup/backup-1"} -> null; AWS::CloudHSM::Backup <us>:backup/backup-1`,
	"DeleteResourcePolicy": `{"resourceArn":"<us>:backup/backup-1"} -> {"resourceArn":"<us>:backup/backup-1",` +
		`"policy":"<policy>"}; AWS::CloudHSM::Backup <us>:backup/backup-1`,
	"ModifyBackupAttributes": `{"backupId":"backup-1","neverExpires":true} -> {"backup":{"backupId":"backup-1","backupArn":"<us>:backup/backup-1","backupState":"READY",` +
		`"clusterId":"cluster-1","createTimestamp":"<date>","neverExpires":true,"hsmType":"hsm1.medium",` +
		`"mode":"FIPS"}}; AWS::CloudHSM::Backup <us>:backup/backup-1`,
	"CopyBackupToRegion": `{"destinationRegion":"eu-west-1","backupId":"backup-1","tagList":[{"key":"copy",` +
		`"value":"yes"}]} -> {"destinationBackup":{"createTimestamp":"<date>","sourceRegion":"us-east-1","sourceBackup":"backup-1",` +
		`"sourceCluster":"cluster-1"}}; AWS::CloudHSM::Backup <us>:backup/backup-1 AWS::CloudHSM::Backup <eu>:backup/backup-1`,
	"DeleteBackup": `{"backupId":"backup-1"} -> {"backup":{"backupId":"backup-1","backupArn":"<us>:backup/backup-1","backupState":"PENDING_DELETION",` +
		`"clusterId":"cluster-1","createTimestamp":"<date>","neverExpires":true,"deleteTimestamp":"<date>","hsmType":"hsm1.medium",` +
		`"mode":"FIPS"}}; AWS::CloudHSM::Backup <us>:backup/backup-1`,
	"RestoreBackup": `{"backupId":"backup-1"} -> {"backup":{"backupId":"backup-1","backupArn":"<us>:backup/backup-1","backupState":"READY",` +
		`"clusterId":"cluster-1","createTimestamp":"<date>","neverExpires":true,"hsmType":"hsm1.medium",` +
		`"mode":"FIPS"}}; AWS::CloudHSM::Backup <us>:backup/backup-1`,
	"DeleteHsm": `{"clusterId":"cluster-1","hsmId":"hsm-1"} -> {"hsmId":"hsm-1"}; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
	"DeleteCluster": `{"clusterId":"cluster-1"} -> {"cluster":{"backupPolicy":"DEFAULT","backupRetentionPolicy":{"type":"DAYS","value":"30"},` +
		`"clusterId":"cluster-1","createTimestamp":"<date>","hsms":[],"hsmType":"hsm1.medium","securityGroup":"sg-1","state":"DELETE_IN_PROGRESS",` +
		`"subnetMapping":{"us-east-1a":"subnet-2222222a","us-east-1b":"subnet-2222222b"},"vpcId":"vpc-22222222","networkType":"IPV4",` +
		`"tagList":[{"key":"team","value":"red"}],"mode":"FIPS"}}; AWS::CloudHSM::Cluster <us>:cluster/cluster-1`,
}
