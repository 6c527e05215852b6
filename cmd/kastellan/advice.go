package main

import "kastellan.dev/internal/kmsapi"

// advice says what to do about each code. A key store that is FAILED must be
// disconnected before it can be updated or connected again; that is said once,
// for all of them.
var advice = map[kmsapi.ConnectionErrorCode]string{
	kmsapi.ClusterNotFound: "The account has no cluster of this id in the Region. " +
		"If it was deleted, make one from a backup of it (CreateCluster with SourceBackupId) and point the key store at that with UpdateCustomKeyStore. " +
		"A cluster of the configuration is declared under hsm.clusters and reloaded.",
	kmsapi.InsufficientCloudHSMHSMs: "None of the cluster's HSMs can be used. " +
		"If the cluster has none, CreateHsm makes one with the cluster's keys, from its last backup. " +
		"Else look at the failed steps: each names one HSM and what its module said. Start it, or mend the URI or module of a declared member.",
	kmsapi.InsufficientFreeAddressesInSubnet: "A subnet of the cluster has no address left. " +
		"Free one (DeleteHsm, or another key store's), or move the key store to a related cluster in larger subnets with UpdateCustomKeyStore.",
	kmsapi.InternalError: "Something on this side went wrong: the failed steps say what. " +
		"The server's log has more under the request id shown above.",
	kmsapi.InvalidCredentials: "The other side does not accept what the key store has: the kmsuser's password, or the proxy's access key. " +
		"Set the right one with UpdateCustomKeyStore (KeyStorePassword, or XksProxyAuthenticationCredential); " +
		"`kastellan hsm user change-password kmsuser` sets another one at a cluster whose kmsuser's is not known any more. " +
		"Before more attempts with a wrong password: after five, HSMs lock the user.",
	kmsapi.NetworkErrors: "The network between here and the other side failed. " +
		"Look at the address in the failed step, and wait until it can be reached.",
	kmsapi.SubnetNotFound: "The cluster names a subnet that does not exist any more. " +
		"Declare it under hsm.subnets and reload, or move the key store to a related cluster with UpdateCustomKeyStore.",
	kmsapi.UserLockedOut: "Too many wrong passwords have locked the kmsuser. " +
		"Set a new one (`kastellan hsm user change-password kmsuser`; at a PKCS#11 token, its officer does) " +
		"and tell it to the key store with UpdateCustomKeyStore (KeyStorePassword).",
	kmsapi.UserLoggedIn: "The kmsuser is logged in somewhere else, so its password cannot be changed. " +
		"End that session, such as a `kastellan hsm shell`, or wait ten minutes; if it changed the password, tell it with UpdateCustomKeyStore.",
	kmsapi.UserNotFound: "The HSM has no kmsuser, or its PIN was never set. " +
		"Create it (`kastellan hsm user create kmsuser`; at a PKCS#11 token, its officer initialises the user PIN), " +
		"and tell its password with UpdateCustomKeyStore.",
	kmsapi.XksProxyAccessDenied: "The proxy's own rules refuse. " +
		"Allow the requests of this service in the proxy's authorization rules; health requests should never be refused.",
	kmsapi.XksProxyInvalidConfigurationCode: "The proxy does not know the path, or refuses the Region or service of the signature. " +
		"Compare XksProxyUriPath with the proxy's own configuration.",
	kmsapi.XksProxyInvalidResponseCode: "The proxy's answer does not follow the XKS Proxy API. " +
		"`kastellan xks-proxy check` shows in detail what is wrong with it.",
	kmsapi.XksProxyInvalidTLSConfiguration: "The proxy's TLS is not acceptable: look at the failed step for the certificate's names, dates and issuer. " +
		"It needs TLS 1.2 or 1.3 and a certificate for the host name, from a CA that is trusted here (external-key-stores.hosts[].ca).",
	kmsapi.XksProxyNotReachable: "Nothing answers at the proxy's address, or it says that all of its key managers are unavailable. " +
		"Look at the address in the failed step; external-key-stores.hosts can give another address and port for the host name.",
	kmsapi.XksProxyTimedOut: "The proxy can be reached but does not answer in time. " +
		"Look at the durations of the steps; the proxy or its HSM is overloaded, or too far away.",
	kmsapi.XksVPCEndpointServiceInvalidConfiguration: "The VPC endpoint service does not satisfy the rules: the failed step names which. " +
		"Mend it under external-key-stores.endpoint-services.",
	kmsapi.XksVPCEndpointServiceNotFound: "No VPC endpoint service of this name is declared in the Region, or it does not allow this service as a principal. " +
		"Declare it under external-key-stores.endpoint-services, with cks.kms.<region>.amazonaws.com among its allowed-principals.",
}
