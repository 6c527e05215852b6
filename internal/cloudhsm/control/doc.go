// Package control is the control plane of HSM clusters that are made through the API
// of AWS CloudHSM v2: their users, and who of them is logged in.
//
// A token knows one user, a cluster many. The users of a cluster are therefore
// records of this package, with verifiers of their passwords, and it counts the
// wrong passwords as each HSM of a CloudHSM cluster does. What a user may do with
// a token is decided here before the token is asked.
//
// The package refuses to keep a password, to tell whether a locked user's password
// was right, and to remember sessions over a restart.
package control
