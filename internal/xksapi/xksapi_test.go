package xksapi_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"testing"

	"kastellan.dev/internal/xksapi"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The values of the specification's worked examples.
var (
	exampleAAD      = []byte("project=nile,department=marketing")
	exampleMetadata = []byte("key_version=1")
)

func TestGCMAADMatchesTheWorkedExample(t *testing.T) {
	got, err := xksapi.GCMAAD(exampleAAD, exampleMetadata)
	if err != nil {
		t.Fatal(err)
	}
	const want = "002170726f6a6563743d6e696c652c6465706172746d656e743d6d61726b6574696e670d6b65795f76657273696f6e3d31"
	if hex.EncodeToString(got) != want {
		t.Errorf("got %x, want %s", got, want)
	}
}

func TestGCMAADOfNothingIsThreeZeros(t *testing.T) {
	for _, empty := range [][]byte{nil, {}} {
		got, err := xksapi.GCMAAD(empty, empty)
		if err != nil || hex.EncodeToString(got) != "000000" {
			t.Errorf("got %x, %v", got, err)
		}
	}
}

func TestGCMAADRefusesWhatItCannotExpress(t *testing.T) {
	if _, err := xksapi.GCMAAD(make([]byte, 65536), nil); !errors.Is(err, xksapi.ErrTooLong) {
		t.Errorf("65,536 bytes: %v", err)
	}
	if _, err := xksapi.GCMAAD(make([]byte, 65535), nil); err != nil {
		t.Errorf("65,535 bytes: %v", err)
	}
	if _, err := xksapi.GCMAAD(nil, make([]byte, 256)); !errors.Is(err, xksapi.ErrTooLong) {
		t.Errorf("metadata of 256 bytes: %v", err)
	}
}

func TestIntegrityValueMatchesTheVector(t *testing.T) {
	got := xksapi.IntegrityValue(exampleAAD, exampleMetadata,
		unhex(t, "1ccae5470f39700254779031"), unhex(t, "821c642b5b71783367deaf18"), unhex(t, "bc1c4dda7707d6812447c5955e99b261"))
	if s := base64.StdEncoding.EncodeToString(got); s != "qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=" {
		t.Error(s)
	}
}

func TestEveryErrorHasItsStatus(t *testing.T) {
	for name, want := range map[xksapi.ErrorName]int{
		"ValidationException": 400, "InvalidStateException": 400, "InvalidCiphertextException": 400,
		"InvalidKeyUsageException": 400, "AuthenticationFailedException": 401, "AccessDeniedException": 403,
		"KeyNotFoundException": 404, "InvalidUriPathException": 404, "ThrottlingException": 429,
		"InternalException": 500, "UnsupportedOperationException": 501, "DependencyTimeoutException": 503,
	} {
		if got, ok := name.Status(); !ok || got != want {
			t.Errorf("%s: %d, %v", name, got, ok)
		}
	}
	if _, ok := xksapi.ErrorName("Made-up").Status(); ok {
		t.Error("an unknown name has a status")
	}
}

func TestEncodeIsOneCompactLine(t *testing.T) {
	got := string(xksapi.Encode(xksapi.ErrorResponse{ErrorName: xksapi.InternalException}))
	if got != `{"errorName":"InternalException"}`+"\n" {
		t.Errorf("%q", got)
	}
}
