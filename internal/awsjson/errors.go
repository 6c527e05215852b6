package awsjson

import "kastellan.dev/internal/kmsapi"

// AppendError appends the body of an error. The cause of e is not in it.
func AppendError(dst []byte, e *kmsapi.Error) []byte {
	return AppendErrorAs(dst, string(e.Code), messageMember(e.Code), e.Message)
}

// AppendErrorAs appends the body of an error of an API that has another name for
// it than its code, or for the member that the text is in. The text may be empty;
// then there is no such member.
func AppendErrorAs(dst []byte, name, member, text string) []byte {
	dst = append(dst, `{"__type":`...)
	dst = appendString(dst, name)
	if text != "" {
		dst = append(dst, ',')
		dst = appendString(dst, member)
		dst = append(dst, ':')
		dst = appendString(dst, text)
	}
	return append(dst, '}')
}

// messageMember is "message", but for the one exception that AWS KMS sends with a
// capital letter. SDKs accept both.
func messageMember(code kmsapi.Code) string {
	if code == kmsapi.AccessDenied {
		return "Message"
	}
	return "message"
}

// malformed is what a body of another form than the operation's is answered
// with. The text never has a part of the body in it.
func malformed(format string, args ...any) error {
	return kmsapi.Errorf(kmsapi.Serialization, format, args...)
}
