// Package cloudhsmapi holds the wire types of the AWS CloudHSM v2 API (version
// 2017-04-28), its enumerations, its ARNs and its error codes. The tags are those
// that package kmsapi documents; the protocol is AWS JSON 1.1.
//
// Lengths and forms of members are stated as AWS's model has them. What only
// the state of a cluster decides, and which one of several members a request
// needs, is the domain's to refuse.
//
// Beside them are the types of the operations under [Extensions], which are ours.
//
// The package refuses to know what a cluster is made of, and HTTP.
package cloudhsmapi

// The names under which the API is called.
const (
	Target      = "BaldrApiService"        // before the dot in X-Amz-Target
	Service     = "cloudhsm"               // of the credential scope, and before the colon in actions of policies
	EventSource = "cloudhsm.amazonaws.com" // of audit records
)
