package cloudhsmapi

import (
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Cluster describes a cluster.
type Cluster struct {
	BackupPolicy              BackupPolicy           `aws:"BackupPolicy"`
	BackupRetentionPolicy     *BackupRetentionPolicy `aws:"BackupRetentionPolicy"`
	ClusterID                 string                 `aws:"ClusterId"`
	CreateTimestamp           *kmsapi.Time           `aws:"CreateTimestamp"`
	Hsms                      []Hsm                  `aws:"Hsms,always"`
	HsmType                   string                 `aws:"HsmType"`
	HsmTypeRollbackExpiration *kmsapi.Time           `aws:"HsmTypeRollbackExpiration"`
	PreCoPassword             secret.Text            `aws:"PreCoPassword,sensitive"`
	SecurityGroup             string                 `aws:"SecurityGroup"`
	SourceBackupID            string                 `aws:"SourceBackupId"`
	State                     ClusterState           `aws:"State"`
	StateMessage              string                 `aws:"StateMessage"`
	SubnetMapping             map[string]string      `aws:"SubnetMapping"`
	VpcID                     string                 `aws:"VpcId"`
	NetworkType               NetworkType            `aws:"NetworkType"`
	Certificates              *Certificates          `aws:"Certificates"`
	TagList                   []Tag                  `aws:"TagList"`
	Mode                      ClusterMode            `aws:"Mode"`
}

// Certificates are those of a cluster, in PEM. Which are there depends on its state.
type Certificates struct {
	ClusterCSR                      string `aws:"ClusterCsr"`
	HSMCertificate                  string `aws:"HsmCertificate"`
	AWSHardwareCertificate          string `aws:"AwsHardwareCertificate"`
	ManufacturerHardwareCertificate string `aws:"ManufacturerHardwareCertificate"`
	ClusterCertificate              string `aws:"ClusterCertificate"`
}

// BackupRetentionPolicy says how long backups are kept: a count of days from 7 to 379 in decimal.
type BackupRetentionPolicy struct {
	Type  BackupRetentionType `aws:"Type"`
	Value string              `aws:"Value" len:"1,3" pattern:"[0-9]+"`
}

// CreateClusterRequest is the input of CreateCluster.
type CreateClusterRequest struct {
	BackupRetentionPolicy *BackupRetentionPolicy `aws:"BackupRetentionPolicy"`
	HsmType               string                 `aws:"HsmType,required" len:",32" pattern:"((p|)hsm[0-9][a-z.]*\\.[a-zA-Z]+)"`
	SourceBackupID        string                 `aws:"SourceBackupId" pattern:"^(arn:aws(-(us-gov))?:cloudhsm:([a-z]{2}(-(gov|isob|iso))?-(east|west|north|south|central){1,2}-[0-9]{1}):[0-9]{12}:backup/)?backup-[2-7a-zA-Z]{11,16}"`
	SubnetIDs             []string               `aws:"SubnetIds,required" len:"1,10" pattern:"subnet-[0-9a-fA-F]{8,17}"`
	NetworkType           NetworkType            `aws:"NetworkType"`
	TagList               []Tag                  `aws:"TagList" len:"1,50"`
	Mode                  ClusterMode            `aws:"Mode"`
}

// CreateClusterResponse is the output of CreateCluster.
type CreateClusterResponse struct {
	Cluster *Cluster `aws:"Cluster"`
}

// DescribeClustersRequest is the input of DescribeClusters.
type DescribeClustersRequest struct {
	Filters    map[string][]string `aws:"Filters" len:",30"`
	NextToken  string              `aws:"NextToken" len:",256" pattern:".*"`
	MaxResults *int32              `aws:"MaxResults" range:"1,25"`
}

// DescribeClustersResponse is the output of DescribeClusters.
type DescribeClustersResponse struct {
	Clusters  []Cluster `aws:"Clusters,always"`
	NextToken string    `aws:"NextToken"`
}

// ModifyClusterRequest is the input of ModifyCluster.
type ModifyClusterRequest struct {
	HsmType               string                 `aws:"HsmType" len:",32" pattern:"((p|)hsm[0-9][a-z.]*\\.[a-zA-Z]+)"`
	BackupRetentionPolicy *BackupRetentionPolicy `aws:"BackupRetentionPolicy"`
	ClusterID             string                 `aws:"ClusterId,required" pattern:"cluster-[2-7a-zA-Z]{11,16}"`
}

// ModifyClusterResponse is the output of ModifyCluster.
type ModifyClusterResponse struct {
	Cluster *Cluster `aws:"Cluster"`
}

// InitializeClusterRequest is the input of InitializeCluster.
type InitializeClusterRequest struct {
	ClusterID   string `aws:"ClusterId,required" pattern:"cluster-[2-7a-zA-Z]{11,16}"`
	SignedCert  string `aws:"SignedCert,required" len:",20000" pattern:"[a-zA-Z0-9+-/=\\s]*"`
	TrustAnchor string `aws:"TrustAnchor,required" len:",20000" pattern:"[a-zA-Z0-9+-/=\\s]*"`
}

// InitializeClusterResponse is the output of InitializeCluster.
type InitializeClusterResponse struct {
	State        ClusterState `aws:"State"`
	StateMessage string       `aws:"StateMessage"`
}

// DeleteClusterRequest is the input of DeleteCluster.
type DeleteClusterRequest struct {
	ClusterID string `aws:"ClusterId,required" pattern:"cluster-[2-7a-zA-Z]{11,16}"`
}

// DeleteClusterResponse is the output of DeleteCluster.
type DeleteClusterResponse struct {
	Cluster *Cluster `aws:"Cluster"`
}
