package cloudhsmapi

// PutResourcePolicyRequest is the input of PutResourcePolicy.
type PutResourcePolicyRequest struct {
	ResourceARN string `aws:"ResourceArn" pattern:"arn:aws(-(us-gov))?:cloudhsm:([a-z]{2}(-(gov|isob|iso))?-(east|west|north|south|central){1,2}-[0-9]{1}):[0-9]{12}:(backup/backup|cluster/cluster|hsm/hsm)-[2-7a-zA-Z]{11,16}"`
	Policy      string `aws:"Policy" len:"1,20000"`
}

// PutResourcePolicyResponse is the output of PutResourcePolicy.
type PutResourcePolicyResponse struct {
	ResourceARN string `aws:"ResourceArn"`
	Policy      string `aws:"Policy"`
}

// GetResourcePolicyRequest is the input of GetResourcePolicy.
type GetResourcePolicyRequest struct {
	ResourceARN string `aws:"ResourceArn" pattern:"arn:aws(-(us-gov))?:cloudhsm:([a-z]{2}(-(gov|isob|iso))?-(east|west|north|south|central){1,2}-[0-9]{1}):[0-9]{12}:(backup/backup|cluster/cluster|hsm/hsm)-[2-7a-zA-Z]{11,16}"`
}

// GetResourcePolicyResponse is the output of GetResourcePolicy.
type GetResourcePolicyResponse struct {
	Policy string `aws:"Policy"`
}

// DeleteResourcePolicyRequest is the input of DeleteResourcePolicy.
type DeleteResourcePolicyRequest struct {
	ResourceARN string `aws:"ResourceArn" pattern:"arn:aws(-(us-gov))?:cloudhsm:([a-z]{2}(-(gov|isob|iso))?-(east|west|north|south|central){1,2}-[0-9]{1}):[0-9]{12}:(backup/backup|cluster/cluster|hsm/hsm)-[2-7a-zA-Z]{11,16}"`
}

// DeleteResourcePolicyResponse is the output of DeleteResourcePolicy.
type DeleteResourcePolicyResponse struct {
	ResourceARN string `aws:"ResourceArn"`
	Policy      string `aws:"Policy"`
}
