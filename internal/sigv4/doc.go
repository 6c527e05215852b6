// Package sigv4 signs HTTP requests with AWS Signature Version 4 and verifies
// such signatures. Both sides build the same canonical request by the same
// code (canonical.go), so they cannot drift apart.
//
// A [Verifier] serves the KMS API (service "kms") and XKS proxies (service
// "kms-xks-proxy") alike: the answers are those of an AWS JSON service, as
// *[kmsapi.Error]. A [Signer] serves the client of an XKS proxy.
//
// The package refuses whatever leaves a part of the request open: payloads
// that are not signed, x-amz-* headers that are not signed, query strings that
// cannot be decoded, a date, a token or an Authorization header given twice.
// It never tells a caller the canonical request or the string to sign.
package sigv4
