// Package syslog sends audit records to a syslog server: one message of RFC 5424
// for each, over a local socket, UDP (RFC 5426), TCP (RFC 6587, octet counting)
// or TLS (RFC 5425).
//
//	<PRI>1 TIMESTAMP HOSTNAME kastellan PID audit - {"eventVersion":…}
//
// Syslog has no acknowledgements. A record counts as taken when the operating
// system has it for the connection; what was under way when a connection breaks may
// be lost, and what is sent again on a new one may come twice. A connection that the
// server has closed is noticed before the next record, not after. Over UDP nothing
// is noticed at all, so a sink of that kind cannot be one that calls depend on.
//
// The package refuses TLS below 1.2 and servers whose certificate is not for their name.
package syslog
