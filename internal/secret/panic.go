package secret

import (
	"fmt"
	"runtime"
	"strings"
)

// Panicked makes an error of a panic that was recovered: of which type its value was, and which
// functions were running, innermost first. The value may quote what was worked on, and a
// stack trace shows arguments, which may be parts of keys: neither is kept. It is called by the
// deferred function that recovers.
func Panicked(value any) error {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])]) // without Callers, this and the deferred one
	var where []string
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		where = append(where, fmt.Sprintf("%s:%d", frame.Function, frame.Line))
	}
	return fmt.Errorf("panicked with a %T in %s", value, strings.Join(where, "; "))
}
