// Package e2e holds tests only: what the whole program must show, with real
// parts. A real server is called over HTTP by the official AWS SDK; its HSMs are
// SoftHSM2 tokens, its external key managers TLS proxies; it is killed with SIGKILL,
// and its HSMs and proxies are taken away under load.
package e2e
