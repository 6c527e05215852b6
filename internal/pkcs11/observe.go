package pkcs11

import (
	"context"
	"errors"
	"strings"

	"kastellan.dev/internal/tracing"
)

// Class names an error for a metric or a trace: a CKR_ name of the standard's,
// CKR_VENDOR_DEFINED for a vendor's, or a word for what is no return value. There are few of
// them, whatever a module says. It is empty for nil.
func Class(err error) string {
	var rv *Error
	if errors.As(err, &rv) {
		return classOf(rv.RV)
	}
	for _, known := range []struct {
		err  error
		name string
	}{
		{nil, ""},
		{ErrLost, "lost"}, {ErrBusy, "busy"}, {ErrTimeout, "timeout"}, {ErrNoToken, "no-token"}, {ErrModule, "module"},
		{context.DeadlineExceeded, "deadline"}, {context.Canceled, "canceled"},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	return "other"
}

func classOf(rv uint) string {
	switch name := RVName(rv); {
	case !strings.HasPrefix(name, "CKR_0x"):
		return name
	case rv >= CKR_VENDOR_DEFINED:
		return "CKR_VENDOR_DEFINED"
	default:
		return "other"
	}
}

// SessionLimit is the largest number of sessions with the token.
func (c Config) SessionLimit() int { return c.settings().sessions }

// Restarts tells how often the process of a token's module was replaced since Open; 0 for a
// module in this process. A Token that stands before another one tells it with a method of this name.
func Restarts(t Token) uint64 {
	if t, ok := t.(interface{ Restarts() uint64 }); ok {
		return t.Restarts()
	}
	return 0
}

// Restarts implements what the function Restarts asks for.
func (t *token) Restarts() uint64 {
	if b, ok := t.backend.(interface{ restarts() uint64 }); ok {
		return b.restarts()
	}
	return 0
}

// ask asks the backend, and notes in the trace how long it takes.
func (t *token) ask(ctx context.Context, question *message) (message, error) {
	ctx, span := tracing.StartCall(ctx, spanNames[question.code])
	answer, err := t.backend.call(ctx, question)
	span.End(Class(err))
	return answer, err
}

// spanNames are what the operations are called in traces.
var spanNames = [opCount]string{
	opInfo: "PKCS#11 Info", opLogin: "PKCS#11 Login", opLogout: "PKCS#11 Logout", opSetPIN: "PKCS#11 SetPIN", opRandom: "PKCS#11 Random",
	opGenerateKey: "PKCS#11 GenerateKey", opGenerateSession: "PKCS#11 GenerateKey",
	opFind: "PKCS#11 FindKeys", opList: "PKCS#11 ListKeys", opAttributes: "PKCS#11 Attributes", opDestroy: "PKCS#11 Destroy",
	opEncrypt: "PKCS#11 EncryptGCM", opDecrypt: "PKCS#11 DecryptGCM",
	opWrap: "PKCS#11 WrapKey", opUnwrap: "PKCS#11 UnwrapKey", opUnwrapSession: "PKCS#11 UnwrapKey",
	opMakeSigning: "PKCS#11 MakeSigningKey", opFindSigning: "PKCS#11 FindSigningKeys", opSign: "PKCS#11 Sign",
	opMakeTransport: "PKCS#11 MakeTransportKey", opWrapTransport: "PKCS#11 WrapForTransport", opUnwrapTransport: "PKCS#11 UnwrapFromTransport",
	opReadValue: "PKCS#11 ReadsValue", opWrapWith: "PKCS#11 WrapsWith",
}
