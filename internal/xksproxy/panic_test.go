package xksproxy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

//go:noinline
func panicOn(words [2]uint64) error { panic(fmt.Sprintf("marker %#x", words)) }

func TestOfAPanicOnlyFunctionsAreTold(t *testing.T) {
	t.Parallel()
	var err error
	func() {
		defer func() { err = panicked(recover()) }()
		_ = panicOn([2]uint64{0xfeedfacecafebeef, 0x0123456789abcdef})
	}()
	p, ok := errors.AsType[*panicError](err)
	if !ok {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(p.stack, "panicOn") || strings.Contains(p.stack, "panicked") {
		t.Errorf("where it was: %s", p.stack)
	}
	for _, told := range []string{p.what, p.stack} {
		if strings.Contains(told, "feedface") || strings.Contains(told, "marker") {
			t.Errorf("it tells the arguments: %s", told)
		}
	}
}
