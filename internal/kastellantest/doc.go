// Package kastellantest runs a real server on a free port of the loopback
// interface, put together as `kastellan serve` does it, with the official AWS SDK as
// its client. It is for tests only.
//
// A server can be restarted, with the data it has, and it can crash: see
// Options.CrashAt. [NewCluster] gives HSM clusters on SoftHSM2 tokens, and
// package xkstest the proxies of external key stores. Test packages that use
// clusters call pkcs11.WorkerMain first thing in their TestMain.
package kastellantest
