package xksproxy

import (
	"net/http"
	"slices"
	"strings"
)

// withoutUnsigned is the request as it was signed: without the x-amz-* headers that are not
// among the signed ones. The XKS Proxy API wants Host and X-Amz-Date to be signed and says
// nothing of others, and what stands between KMS and the proxy may add some (content
// delivery networks do). The proxy uses none of them; X-Amz-Date stays, so that it is missed.
func withoutUnsigned(r *http.Request) *http.Request {
	var drop []string
	for name := range r.Header {
		if isAmz(name) && name != "X-Amz-Date" && !slices.Contains(signedHeaders(r), strings.ToLower(name)) {
			drop = append(drop, name)
		}
	}
	if drop == nil {
		return r
	}
	out := *r
	out.Header = r.Header.Clone()
	for _, name := range drop {
		delete(out.Header, name)
	}
	return &out
}

func isAmz(name string) bool {
	const prefix = "x-amz-"
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

func signedHeaders(r *http.Request) []string {
	return strings.Split(authorizationField(r, "SignedHeaders="), ";")
}

// claimedKey is the access key id that the request claims to be signed with, for the log.
func claimedKey(r *http.Request) string {
	id, _, _ := strings.Cut(authorizationField(r, "Credential="), "/")
	return id
}

func authorizationField(r *http.Request, name string) string {
	_, value, _ := strings.Cut(r.Header.Get("Authorization"), name)
	value, _, _ = strings.Cut(value, ",")
	return strings.TrimSpace(value)
}
