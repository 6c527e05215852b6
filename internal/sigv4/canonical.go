package sigv4

import (
	"bytes"
	"cmp"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// This file builds the canonical request:
//
//	method
//	path, normalised, and encoded once more than on the wire
//	query parameters, encoded and sorted
//	name:value            for each signed header
//
//	signed header names, joined with ";"
//	hex SHA-256 of the body
//
// The rule for the path is that of all services but S3.

func appendCanonicalRequest(b []byte, r *http.Request, params []param, signedHeaders string, bodyHash []byte) []byte {
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendPath(b, r.URL.EscapedPath())
	b = append(b, '\n')
	b = appendQuery(b, params)
	b = append(b, '\n')
	for name := range strings.SplitSeq(signedHeaders, ";") {
		b = appendHeader(b, r, name)
	}
	b = append(b, '\n')
	b = append(b, signedHeaders...)
	b = append(b, '\n')
	return append(b, bodyHash...)
}

// appendPath resolves empty, "." and ".." segments and escapes the rest.
func appendPath(b []byte, path string) []byte {
	start := len(b)
	open := true // the path so far wants a slash at its end
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		switch segment {
		case "", ".":
			open = true
		case "..":
			b = b[:start+max(0, bytes.LastIndexByte(b[start:], '/'))]
			open = true
		default:
			b = append(b, '/')
			b = appendEscaped(b, segment)
			open = false
		}
	}
	if open {
		b = append(b, '/')
	}
	return b
}

// appendEscaped percent-encodes all but RFC 3986's unreserved characters.
func appendEscaped(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// param is a query parameter, decoded.
type param struct{ name, value string }

// parseQuery splits a query string. Unlike url.ParseQuery it drops nothing:
// what it dropped would be open to change by others.
func parseQuery(raw string) (params []param, ok bool) {
	if raw == "" {
		return nil, true
	}
	for piece := range strings.SplitSeq(raw, "&") {
		if piece == "" {
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return nil, false
		}
		params = append(params, param{name, value})
	}
	return params, true
}

// appendQuery leaves out the signature itself. The order is that of the
// encoded names, then values, which is not that of the decoded ones.
func appendQuery(b []byte, params []param) []byte {
	if len(params) == 0 {
		return b
	}
	encoded := make([]param, 0, len(params))
	for _, p := range params {
		if p.name != "X-Amz-Signature" {
			encoded = append(encoded, param{string(appendEscaped(nil, p.name)), string(appendEscaped(nil, p.value))})
		}
	}
	slices.SortFunc(encoded, func(x, y param) int {
		return cmp.Or(strings.Compare(x.name, y.name), strings.Compare(x.value, y.value))
	})
	for i, p := range encoded {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.name...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b
}

// appendHeader adds the line of one signed header, given in lower case.
func appendHeader(b []byte, r *http.Request, name string) []byte {
	b = append(b, name...)
	b = append(b, ':')
	switch values := headerValues(r.Header, name); {
	case name == "host":
		b = appendTrimmed(b, hostOf(r))
	case name == "content-length" && values == nil:
		b = strconv.AppendInt(b, r.ContentLength, 10)
	default:
		for i, v := range values {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendTrimmed(b, v)
		}
	}
	return append(b, '\n')
}

// appendTrimmed drops blanks at both ends and makes runs of spaces one.
func appendTrimmed(b []byte, s string) []byte {
	s = strings.Trim(s, " \t")
	for i := range len(s) {
		if s[i] != ' ' || s[i-1] != ' ' { // s does not begin with a space
			b = append(b, s[i])
		}
	}
	return b
}

// hostOf is the value of Host, or of :authority with HTTP/2.
func hostOf(r *http.Request) string {
	if r.Host != "" {
		return r.Host
	}
	return r.URL.Host
}

// headerValues looks a header up by its name in lower case, and allocates
// nothing for names of usual length.
func headerValues(h http.Header, name string) []string {
	var key [64]byte
	if len(name) > len(key) {
		return h[textproto.CanonicalMIMEHeaderKey(name)]
	}
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		key[i] = c
		upper = c == '-'
	}
	return h[string(key[:len(name)])]
}

// present tells whether the request has a header, given in lower case.
func present(r *http.Request, name string) bool {
	switch name {
	case "host":
		return true
	case "content-length":
		return r.ContentLength >= 0 || headerValues(r.Header, name) != nil
	default:
		return headerValues(r.Header, name) != nil
	}
}

// mustBeSigned tells whether a header is of those that nobody may add unsigned.
func mustBeSigned(name string) bool {
	const prefix = "x-amz-"
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// listed tells whether a list joined with ";" has the name; case does not matter.
func listed(list, name string) bool {
	for one := range strings.SplitSeq(list, ";") {
		if strings.EqualFold(one, name) {
			return true
		}
	}
	return false
}
