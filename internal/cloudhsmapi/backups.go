package cloudhsmapi

import "kastellan.dev/internal/kmsapi"

// Backup describes a backup of a cluster.
type Backup struct {
	BackupID        string       `aws:"BackupId,always"`
	BackupARN       string       `aws:"BackupArn"`
	BackupState     BackupState  `aws:"BackupState"`
	ClusterID       string       `aws:"ClusterId"`
	CreateTimestamp *kmsapi.Time `aws:"CreateTimestamp"`
	CopyTimestamp   *kmsapi.Time `aws:"CopyTimestamp"`
	NeverExpires    *bool        `aws:"NeverExpires"`
	SourceRegion    string       `aws:"SourceRegion"`
	SourceBackup    string       `aws:"SourceBackup"`
	SourceCluster   string       `aws:"SourceCluster"`
	DeleteTimestamp *kmsapi.Time `aws:"DeleteTimestamp"`
	TagList         []Tag        `aws:"TagList"`
	HsmType         string       `aws:"HsmType"`
	Mode            ClusterMode  `aws:"Mode"`
}

// DestinationBackup describes the copy of a backup in another Region.
type DestinationBackup struct {
	CreateTimestamp *kmsapi.Time `aws:"CreateTimestamp"`
	SourceRegion    string       `aws:"SourceRegion"`
	SourceBackup    string       `aws:"SourceBackup"`
	SourceCluster   string       `aws:"SourceCluster"`
}

// DescribeBackupsRequest is the input of DescribeBackups.
type DescribeBackupsRequest struct {
	NextToken     string              `aws:"NextToken" len:",256" pattern:".*"`
	MaxResults    *int32              `aws:"MaxResults" range:"1,50"`
	Filters       map[string][]string `aws:"Filters" len:",30"`
	Shared        *bool               `aws:"Shared"`
	SortAscending *bool               `aws:"SortAscending"`
}

// DescribeBackupsResponse is the output of DescribeBackups.
type DescribeBackupsResponse struct {
	Backups   []Backup `aws:"Backups,always"`
	NextToken string   `aws:"NextToken"`
}

// CopyBackupToRegionRequest is the input of CopyBackupToRegion.
type CopyBackupToRegionRequest struct {
	DestinationRegion string `aws:"DestinationRegion,required" pattern:"[a-z]{2}(-(gov))?-(east|west|north|south|central){1,2}-\\d"`
	BackupID          string `aws:"BackupId,required" pattern:"backup-[2-7a-zA-Z]{11,16}"`
	TagList           []Tag  `aws:"TagList" len:"1,50"`
}

// CopyBackupToRegionResponse is the output of CopyBackupToRegion.
type CopyBackupToRegionResponse struct {
	DestinationBackup *DestinationBackup `aws:"DestinationBackup"`
}

// DeleteBackupRequest is the input of DeleteBackup.
type DeleteBackupRequest struct {
	BackupID string `aws:"BackupId,required" pattern:"backup-[2-7a-zA-Z]{11,16}"`
}

// DeleteBackupResponse is the output of DeleteBackup.
type DeleteBackupResponse struct {
	Backup *Backup `aws:"Backup"`
}

// RestoreBackupRequest is the input of RestoreBackup.
type RestoreBackupRequest struct {
	BackupID string `aws:"BackupId,required" pattern:"backup-[2-7a-zA-Z]{11,16}"`
}

// RestoreBackupResponse is the output of RestoreBackup.
type RestoreBackupResponse struct {
	Backup *Backup `aws:"Backup"`
}

// ModifyBackupAttributesRequest is the input of ModifyBackupAttributes.
type ModifyBackupAttributesRequest struct {
	BackupID     string `aws:"BackupId,required" pattern:"backup-[2-7a-zA-Z]{11,16}"`
	NeverExpires *bool  `aws:"NeverExpires,required"`
}

// ModifyBackupAttributesResponse is the output of ModifyBackupAttributes.
type ModifyBackupAttributesResponse struct {
	Backup *Backup `aws:"Backup"`
}
