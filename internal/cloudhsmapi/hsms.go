package cloudhsmapi

// Hsm describes an HSM of a cluster.
type Hsm struct {
	AvailabilityZone string   `aws:"AvailabilityZone"`
	ClusterID        string   `aws:"ClusterId"`
	SubnetID         string   `aws:"SubnetId"`
	EniID            string   `aws:"EniId"`
	EniIP            string   `aws:"EniIp"`
	EniIPv6          string   `aws:"EniIpV6"`
	HsmID            string   `aws:"HsmId,always"`
	HsmType          string   `aws:"HsmType"`
	State            HsmState `aws:"State"`
	StateMessage     string   `aws:"StateMessage"`
}

// CreateHsmRequest is the input of CreateHsm.
type CreateHsmRequest struct {
	ClusterID        string `aws:"ClusterId,required" pattern:"cluster-[2-7a-zA-Z]{11,16}"`
	AvailabilityZone string `aws:"AvailabilityZone,required" pattern:"[a-z]{2}(-(gov))?-(east|west|north|south|central){1,2}-\\d[a-z]"`
	IPAddress        string `aws:"IpAddress" pattern:"\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}"`
}

// CreateHsmResponse is the output of CreateHsm.
type CreateHsmResponse struct {
	Hsm *Hsm `aws:"Hsm"`
}

// DeleteHsmRequest is the input of DeleteHsm. One of the members beside the cluster names the HSM.
type DeleteHsmRequest struct {
	ClusterID string `aws:"ClusterId,required" pattern:"cluster-[2-7a-zA-Z]{11,16}"`
	HsmID     string `aws:"HsmId" pattern:"hsm-[2-7a-zA-Z]{11,16}"`
	EniID     string `aws:"EniId" pattern:"eni-[0-9a-fA-F]{8,17}"`
	EniIP     string `aws:"EniIp" pattern:"\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}"`
}

// DeleteHsmResponse is the output of DeleteHsm.
type DeleteHsmResponse struct {
	HsmID string `aws:"HsmId"`
}
