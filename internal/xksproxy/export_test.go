package xksproxy

// What tests see of the inside.
var (
	Match              = match
	RefreshCertificate = (*Server).refreshCertificate
)

// ParsePath gives the parts of a path.
func ParsePath(path string) (prefix, op, keyID string, ok bool) {
	r, ok := parsePath(path)
	return r.prefix, string(r.op), r.keyID, ok
}
