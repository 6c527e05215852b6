package cloudhsmapi

// BackupPolicy is how backups of a cluster are taken.
type BackupPolicy string

// The values of BackupPolicy.
const (
	BackupPolicyDefault BackupPolicy = "DEFAULT"
)

// Values lists the enumeration.
func (BackupPolicy) Values() []string {
	return []string{string(BackupPolicyDefault)}
}

// BackupRetentionType is the unit of BackupRetentionPolicy.Value.
type BackupRetentionType string

// The values of BackupRetentionType.
const (
	RetentionDays BackupRetentionType = "DAYS"
)

// Values lists the enumeration.
func (BackupRetentionType) Values() []string {
	return []string{string(RetentionDays)}
}

// BackupState is the state of a backup.
type BackupState string

// The values of BackupState.
const (
	BackupCreateInProgress BackupState = "CREATE_IN_PROGRESS"
	BackupReady            BackupState = "READY"
	BackupDeleted          BackupState = "DELETED"
	BackupPendingDeletion  BackupState = "PENDING_DELETION"
)

// Values lists the enumeration.
func (BackupState) Values() []string {
	return []string{string(BackupCreateInProgress), string(BackupReady), string(BackupDeleted), string(BackupPendingDeletion)}
}

// ClusterMode is whether the HSMs of a cluster refuse what FIPS 140 does not approve.
type ClusterMode string

// The values of ClusterMode.
const (
	FIPS    ClusterMode = "FIPS"
	NonFIPS ClusterMode = "NON_FIPS"
)

// Values lists the enumeration.
func (ClusterMode) Values() []string {
	return []string{string(FIPS), string(NonFIPS)}
}

// ClusterState is the state of a cluster.
type ClusterState string

// The values of ClusterState.
const (
	ClusterCreateInProgress     ClusterState = "CREATE_IN_PROGRESS"
	ClusterUninitialized        ClusterState = "UNINITIALIZED"
	ClusterInitializeInProgress ClusterState = "INITIALIZE_IN_PROGRESS"
	ClusterInitialized          ClusterState = "INITIALIZED"
	ClusterActive               ClusterState = "ACTIVE"
	ClusterUpdateInProgress     ClusterState = "UPDATE_IN_PROGRESS"
	ClusterModifyInProgress     ClusterState = "MODIFY_IN_PROGRESS"
	ClusterRollbackInProgress   ClusterState = "ROLLBACK_IN_PROGRESS"
	ClusterDeleteInProgress     ClusterState = "DELETE_IN_PROGRESS"
	ClusterDeleted              ClusterState = "DELETED"
	ClusterDegraded             ClusterState = "DEGRADED"
)

// Values lists the enumeration.
func (ClusterState) Values() []string {
	return []string{
		string(ClusterCreateInProgress), string(ClusterUninitialized), string(ClusterInitializeInProgress),
		string(ClusterInitialized), string(ClusterActive), string(ClusterUpdateInProgress),
		string(ClusterModifyInProgress), string(ClusterRollbackInProgress), string(ClusterDeleteInProgress),
		string(ClusterDeleted), string(ClusterDegraded),
	}
}

// HsmState is the state of an HSM.
type HsmState string

// The values of HsmState.
const (
	HsmCreateInProgress HsmState = "CREATE_IN_PROGRESS"
	HsmActive           HsmState = "ACTIVE"
	HsmDegraded         HsmState = "DEGRADED"
	HsmDeleteInProgress HsmState = "DELETE_IN_PROGRESS"
	HsmDeleted          HsmState = "DELETED"
)

// Values lists the enumeration.
func (HsmState) Values() []string {
	return []string{
		string(HsmCreateInProgress), string(HsmActive), string(HsmDegraded),
		string(HsmDeleteInProgress), string(HsmDeleted),
	}
}

// NetworkType is which addresses the HSMs of a cluster have.
type NetworkType string

// The values of NetworkType.
const (
	IPv4      NetworkType = "IPV4"
	DualStack NetworkType = "DUALSTACK"
)

// Values lists the enumeration.
func (NetworkType) Values() []string {
	return []string{string(IPv4), string(DualStack)}
}
