package xksproxy

import (
	"strings"

	"kastellan.dev/internal/xksapi"
)

// operation is a name of the XKS Proxy API.
type operation string

const (
	opMetadata operation = "GetKeyMetadata"
	opEncrypt  operation = "Encrypt"
	opDecrypt  operation = "Decrypt"
	opHealth   operation = "GetHealthStatus"
)

// route is what a path says.
type route struct {
	prefix string // of the store: "" or "/…"
	op     operation
	keyID  string // empty for opHealth
}

// parsePath takes a path apart from its end, as it was sent: nothing in a valid
// path needs percent-encoding, and nothing is cleaned.
func parsePath(path string) (route, bool) {
	if prefix, ok := strings.CutSuffix(path, xksapi.BasePath+"/health"); ok {
		return route{prefix: prefix, op: opHealth}, true
	}
	rest, op, ok := cutLast(path)
	if !ok {
		return route{}, false
	}
	keys, id, ok := cutLast(rest)
	if !ok || !validKeyID(id) {
		return route{}, false
	}
	prefix, ok := strings.CutSuffix(keys, xksapi.BasePath+"/keys")
	if !ok {
		return route{}, false
	}
	r := route{prefix: prefix, keyID: id}
	switch op {
	case "metadata":
		r.op = opMetadata
	case "encrypt":
		r.op = opEncrypt
	case "decrypt":
		r.op = opDecrypt
	default:
		return route{}, false
	}
	return r, true
}

func cutLast(path string) (before, last string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", "", false
	}
	return path[:i], path[i+1:], true
}

// validKeyID leaves out two ids that the API's character set allows: clients and
// signatures take them for steps through folders.
func validKeyID(id string) bool {
	if len(id) < 1 || len(id) > 128 || id == "." || id == ".." {
		return false
	}
	for i := range len(id) {
		if !isKeyIDByte(id[i]) {
			return false
		}
	}
	return true
}

func isKeyIDByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}
