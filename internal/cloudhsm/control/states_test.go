package control

import (
	"slices"
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

const (
	theCluster = "cluster-22222222222"
	theHSM     = "hsm-22222222222"
	theBackup  = "backup-22222222222"
)

// What the operations answer here where the state allows them.
const (
	allowed  = kmsapi.Code("")
	noToken  = cloudhsmapi.ServiceFailed  // there are no pools
	refused  = cloudhsmapi.InvalidRequest // because of the state
	notThere = cloudhsmapi.ResourceNotFound
)

// inState is a cluster as it is in a state. It has an HSM unless it cannot have one any more.
func inState(state cloudhsmapi.ClusterState) *clusterRecord {
	rec := &clusterRecord{
		ID: theCluster, Account: theAccount, Region: theRegion, State: state, HsmType: typeHSM1, Mode: cloudhsmapi.FIPS, NetworkType: cloudhsmapi.IPv4,
		Subnets: map[string]string{"us-east-1a": "subnet-2222222a"}, VPC: "vpc-22222222", SecurityGroup: "sg-22222222222222222", RetentionDays: standardRetention,
		HSMs: []hsmRecord{{ID: theHSM, Zone: "us-east-1a", Subnet: "subnet-2222222a", ENI: "eni-22222222", IP: "10.0.1.4", Type: typeHSM1, State: cloudhsmapi.HsmActive}},
	}
	switch state {
	case cloudhsmapi.ClusterDegraded: // is not on record: it shows in the HSMs
		rec.State, rec.HSMs[0].State = cloudhsmapi.ClusterActive, cloudhsmapi.HsmDegraded
	case cloudhsmapi.ClusterDeleteInProgress, cloudhsmapi.ClusterDeleted:
		rec.HSMs = nil
	}
	return rec
}

// only is the states in which an operation does something; deleted clusters are not there for any.
func only(code kmsapi.Code, states ...cloudhsmapi.ClusterState) func(cloudhsmapi.ClusterState) kmsapi.Code {
	return func(is cloudhsmapi.ClusterState) kmsapi.Code {
		switch {
		case slices.Contains(states, is):
			return code
		case is == cloudhsmapi.ClusterDeleted:
			return notThere
		default:
			return refused
		}
	}
}

func allBut(states ...cloudhsmapi.ClusterState) (out []cloudhsmapi.ClusterState) {
	for _, text := range cloudhsmapi.ClusterState("").Values() {
		if state := cloudhsmapi.ClusterState(text); !slices.Contains(append(states, cloudhsmapi.ClusterDeleted), state) {
			out = append(out, state)
		}
	}
	return out
}

const (
	uninitialized = cloudhsmapi.ClusterUninitialized
	initialized   = cloudhsmapi.ClusterInitialized
	active        = cloudhsmapi.ClusterActive
	modifying     = cloudhsmapi.ClusterModifyInProgress
	rollingBack   = cloudhsmapi.ClusterRollbackInProgress
	degraded      = cloudhsmapi.ClusterDegraded
	deleting      = cloudhsmapi.ClusterDeleteInProgress
)

func TestInWhichStatesOfAClusterOperationsAreRefused(t *testing.T) {
	t.Parallel()
	days := &cloudhsmapi.BackupRetentionPolicy{Type: cloudhsmapi.RetentionDays, Value: "7"}
	tag := []cloudhsmapi.Tag{{Key: "k", Value: "v"}}
	without := func(rec *clusterRecord) { rec.HSMs = nil }
	asked := func(rec *clusterRecord) { rec.CSR = "asked" }
	for _, tc := range []struct {
		name      string
		operation string
		in        any
		change    func(*clusterRecord)
		want      func(cloudhsmapi.ClusterState) kmsapi.Code
	}{
		{"an HSM is created", "CreateHsm", &cloudhsmapi.CreateHsmRequest{ClusterID: theCluster, AvailabilityZone: "us-east-1a"}, nil, only(noToken, uninitialized, initialized, active, degraded)},
		{"the HSM is deleted", "DeleteHsm", &cloudhsmapi.DeleteHsmRequest{ClusterID: theCluster, HsmID: theHSM}, nil, func(is cloudhsmapi.ClusterState) kmsapi.Code {
			if is == deleting || is == cloudhsmapi.ClusterDeleted { // it has none
				return notThere
			}
			return allowed
		}},
		{"backups are to be kept otherwise", "ModifyCluster", &cloudhsmapi.ModifyClusterRequest{ClusterID: theCluster, BackupRetentionPolicy: days}, nil, only(allowed, allBut(deleting)...)},
		{"the HSMs are to be of another type", "ModifyCluster", &cloudhsmapi.ModifyClusterRequest{ClusterID: theCluster, HsmType: typeHSM2}, nil, only(allowed, active, degraded)},
		{"certificates are given", "InitializeCluster", &cloudhsmapi.InitializeClusterRequest{ClusterID: theCluster, SignedCert: "-", TrustAnchor: "-"}, asked, only(refused)},
		{"it is deleted with its HSM", "DeleteCluster", &cloudhsmapi.DeleteClusterRequest{ClusterID: theCluster}, nil, only(refused)},
		{"it is deleted without HSMs", "DeleteCluster", &cloudhsmapi.DeleteClusterRequest{ClusterID: theCluster}, without, only(allowed, allBut(deleting)...)},
		{"it is tagged", "TagResource", &cloudhsmapi.TagResourceRequest{ResourceID: theCluster, TagList: tag}, nil, only(allowed, allBut()...)},
		{"it loses a tag", "UntagResource", &cloudhsmapi.UntagResourceRequest{ResourceID: theCluster, TagKeyList: []string{"k"}}, nil, only(allowed, allBut()...)},
		{"its tags are listed", "ListTags", &cloudhsmapi.ListTagsRequest{ResourceID: theCluster}, nil, func(cloudhsmapi.ClusterState) kmsapi.Code { return allowed }},
		{"it is activated", "ActivateCluster", &cloudhsmapi.ActivateClusterRequest{ClusterID: theCluster, Password: secret.NewText("a-Password1")}, nil, only(allowed, initialized, active, modifying, rollingBack)},
		{"it is activated without HSMs", "ActivateCluster", &cloudhsmapi.ActivateClusterRequest{ClusterID: theCluster, Password: secret.NewText("a-Password1")}, without, only(refused)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStill(t)
			for _, text := range cloudhsmapi.ClusterState("").Values() {
				state := cloudhsmapi.ClusterState(text)
				if state == cloudhsmapi.ClusterUpdateInProgress {
					continue // no cluster is ever in it
				}
				rec := inState(state)
				if tc.change != nil {
					tc.change(rec)
				}
				if state == degraded && tc.operation == "DeleteCluster" && len(rec.HSMs) == 0 {
					continue // which HSMs it shows in
				}
				s.put(t, rec)
				if _, code := s.ask(t, tc.operation, tc.in); code != tc.want(state) {
					t.Errorf("%s: got %q, want %q", state, code, tc.want(state))
				}
				s.remove(t, rec.usersPath())
			}
		})
	}
}

func TestInWhichStatesOfABackupOperationsAreRefused(t *testing.T) {
	t.Parallel()
	arn := cloudhsmapi.ResourceBackup.ARN(theRegion, theAccount, theBackup)
	const share = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"cloudhsm:CreateCluster","Resource":"*"}]}`
	never := true
	every := cloudhsmapi.BackupState("").Values()
	ready, pending := []string{string(cloudhsmapi.BackupReady)}, []string{string(cloudhsmapi.BackupPendingDeletion)}
	for _, tc := range []struct {
		operation string
		in        any
		states    []string
	}{
		{"CopyBackupToRegion", &cloudhsmapi.CopyBackupToRegionRequest{BackupID: theBackup, DestinationRegion: "eu-west-1"}, ready},
		{"CreateCluster", &cloudhsmapi.CreateClusterRequest{HsmType: typeHSM2, SubnetIDs: []string{"subnet-2222222a"}, SourceBackupID: theBackup}, ready},
		{"DeleteBackup", &cloudhsmapi.DeleteBackupRequest{BackupID: theBackup}, ready},
		{"DeleteResourcePolicy", &cloudhsmapi.DeleteResourcePolicyRequest{ResourceARN: arn}, ready},
		{"GetResourcePolicy", &cloudhsmapi.GetResourcePolicyRequest{ResourceARN: arn}, every},
		{"ListTags", &cloudhsmapi.ListTagsRequest{ResourceID: theBackup}, every},
		{"ModifyBackupAttributes", &cloudhsmapi.ModifyBackupAttributesRequest{BackupID: theBackup, NeverExpires: &never}, ready},
		{"PutResourcePolicy", &cloudhsmapi.PutResourcePolicyRequest{ResourceARN: arn, Policy: share}, ready},
		{"RestoreBackup", &cloudhsmapi.RestoreBackupRequest{BackupID: theBackup}, pending},
		{"TagResource", &cloudhsmapi.TagResourceRequest{ResourceID: theBackup, TagList: []cloudhsmapi.Tag{{Key: "k", Value: "v"}}}, every},
		{"UntagResource", &cloudhsmapi.UntagResourceRequest{ResourceID: theBackup, TagKeyList: []string{"k"}}, every},
	} {
		t.Run(tc.operation, func(t *testing.T) {
			t.Parallel()
			s := newStill(t)
			for _, state := range every {
				rec := &backupRecord{ID: theBackup, Account: theAccount, Region: theRegion, State: cloudhsmapi.BackupState(state), Created: s.now(), HsmType: typeHSM2, Mode: cloudhsmapi.FIPS}
				_, err := s.db.Update(t.Context(), func(tx store.Tx) error { return s.saveContent(tx, rec, nil) })
				must(t, err)
				s.put(t, rec)
				want := refused
				if slices.Contains(tc.states, state) {
					want = allowed
				}
				if _, code := s.ask(t, tc.operation, tc.in); code != want {
					t.Errorf("%s: got %q, want %q", state, code, want)
				}
			}
		})
	}
}

// TestAnHSMIsDeletedOnce names the HSM in all ways.
func TestAnHSMIsDeletedOnce(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]cloudhsmapi.DeleteHsmRequest{
		"by its id": {HsmID: theHSM}, "by its interface": {EniID: "eni-22222222"}, "by its address": {EniIP: "10.0.1.4"},
	} {
		s := newStill(t)
		s.put(t, inState(active))
		in.ClusterID = theCluster
		out, code := s.ask(t, "DeleteHsm", &in)
		if code != "" || out.(*cloudhsmapi.DeleteHsmResponse).HsmID != theHSM {
			t.Errorf("%s: %v %s", name, out, code)
		}
		if _, code := s.ask(t, "DeleteHsm", &in); code != refused {
			t.Errorf("%s, again: %q", name, code)
		}
	}
	s := newStill(t)
	s.put(t, inState(active))
	for name, tc := range map[string]struct {
		in   cloudhsmapi.DeleteHsmRequest
		code kmsapi.Code
	}{
		"by nothing":              {cloudhsmapi.DeleteHsmRequest{}, refused},
		"by two of its names":     {cloudhsmapi.DeleteHsmRequest{HsmID: theHSM, EniIP: "10.0.1.4"}, refused},
		"by another id":           {cloudhsmapi.DeleteHsmRequest{HsmID: "hsm-33333333333"}, notThere},
		"by another interface":    {cloudhsmapi.DeleteHsmRequest{EniID: "eni-33333333"}, notThere},
		"by an address of nobody": {cloudhsmapi.DeleteHsmRequest{EniIP: "10.0.1.5"}, notThere},
	} {
		tc.in.ClusterID = theCluster
		if _, code := s.ask(t, "DeleteHsm", &tc.in); code != tc.code {
			t.Errorf("%s: got %q, want %q", name, code, tc.code)
		}
	}
}

// TestTheTypeOfHSMsChangesAndIsRolledBackInTime goes back within a day, and not after it.
func TestTheTypeOfHSMsChangesAndIsRolledBackInTime(t *testing.T) {
	t.Parallel()
	to := func(s *still, hsmType string) (cloudhsmapi.Cluster, kmsapi.Code) {
		out, code := s.ask(t, "ModifyCluster", &cloudhsmapi.ModifyClusterRequest{ClusterID: theCluster, HsmType: hsmType})
		if code != "" {
			return cloudhsmapi.Cluster{}, code
		}
		return *out.(*cloudhsmapi.ModifyClusterResponse).Cluster, ""
	}
	end := func(s *still) {
		rec, err := s.cluster(inState(active).path())
		must(t, err)
		rec.State = active
		s.put(t, rec)
	}
	s := newStill(t)
	s.put(t, inState(active))
	if _, code := to(s, typeHSM1); code != refused {
		t.Errorf("to the type that it has: %q", code)
	}
	if _, code := to(s, "hsm3.large"); code != refused {
		t.Errorf("to a type that there is not: %q", code)
	}
	changed, code := to(s, typeHSM2)
	if code != "" || changed.State != modifying || changed.HsmType != typeHSM2 || changed.HsmTypeRollbackExpiration == nil || !changed.HsmTypeRollbackExpiration.Equal(s.now().Add(rollbackWindow)) {
		t.Fatalf("%+v %s", changed, code)
	}
	end(s)
	s.clock.advance(rollbackWindow - time.Second)
	back, code := to(s, typeHSM1)
	if code != "" || back.State != rollingBack || back.HsmType != typeHSM1 || back.HsmTypeRollbackExpiration != nil {
		t.Fatalf("%+v %s", back, code)
	}
	end(s)
	if _, code := to(s, typeHSM2); code != "" {
		t.Fatal(code)
	}
	end(s)
	s.clock.advance(rollbackWindow)
	if _, code := to(s, typeHSM1); code != refused {
		t.Errorf("after the window: %q", code)
	}
}

// TestADeletedClusterLingers lets the reconciler look at what is deleted.
func TestADeletedClusterLingers(t *testing.T) {
	t.Parallel()
	s := newStill(t)
	rec := inState(cloudhsmapi.ClusterDeleted)
	rec.Deleted = s.now()
	s.put(t, rec)
	states := func() (states []cloudhsmapi.ClusterState) {
		out, code := s.ask(t, "DescribeClusters", &cloudhsmapi.DescribeClustersRequest{})
		if code != "" {
			t.Fatal(code)
		}
		for _, c := range out.(*cloudhsmapi.DescribeClustersResponse).Clusters {
			states = append(states, c.State)
		}
		return states
	}
	s.clock.advance(lingering - time.Second)
	must(t, s.tendNow(t, rec))
	if got := states(); !slices.Equal(got, []cloudhsmapi.ClusterState{cloudhsmapi.ClusterDeleted}) {
		t.Errorf("just before the end: %v", got)
	}
	s.clock.advance(time.Second)
	must(t, s.tendNow(t, rec))
	if got := states(); len(got) != 0 {
		t.Errorf("after the end: %v", got)
	}
}
