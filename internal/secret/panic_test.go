package secret_test

import (
	"fmt"
	"strings"
	"testing"

	"kastellan.dev/internal/secret"
)

//go:noinline
func panicOn(words [2]uint64) error { panic(fmt.Sprintf("marker %#x", words)) }

func TestOfAPanicOnlyTypeAndFunctionsAreTold(t *testing.T) {
	t.Parallel()
	var err error
	func() {
		defer func() { err = secret.Panicked(recover()) }()
		_ = panicOn([2]uint64{0xfeedfacecafebeef, 0x0123456789abcdef})
	}()
	text := err.Error()
	if !strings.HasPrefix(text, "panicked with a string in ") || !strings.Contains(text, "panicOn:") || strings.Contains(text, "Panicked") {
		t.Error(text)
	}
	if strings.Contains(text, "feedface") || strings.Contains(text, "marker") {
		t.Errorf("it tells the value or the arguments: %s", text)
	}
}
