package awsjson

import "kastellan.dev/internal/kmsapi"

// AppendError appends the body of an error. The cause of e is not in it.
func AppendError(dst []byte, e *kmsapi.Error) []byte {
	dst = append(dst, `{"__type":`...)
	dst = appendString(dst, string(e.Code))
	if e.Message != "" {
		dst = append(dst, messageMember(e.Code)...)
		dst = appendString(dst, e.Message)
	}
	return append(dst, '}')
}

// messageMember is "message", but for the one exception that AWS sends with a
// capital letter. SDKs accept both.
func messageMember(code kmsapi.Code) string {
	if code == kmsapi.AccessDenied {
		return `,"Message":`
	}
	return `,"message":`
}

// malformed is what a body of another form than the operation's is answered
// with. The text never has a part of the body in it.
func malformed(format string, args ...any) error {
	return kmsapi.Errorf(kmsapi.Serialization, format, args...)
}
