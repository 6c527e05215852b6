// Package clusters tests HSM clusters from outside: a real server, whose users make clusters of real
// tokens through the CloudHSM API with the official SDK, and keep the keys of KMS in them.
package clusters
