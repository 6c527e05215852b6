package server

import (
	"fmt"
	"runtime"
	"strings"
)

// panickedIn names the functions that were running, innermost first. Unlike
// debug.Stack it does not show their arguments, which may be parts of keys.
// It is called by the deferred function that recovers.
func panickedIn() string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])]) // without Callers, this and the deferred one
	var text strings.Builder
	for {
		frame, more := frames.Next()
		fmt.Fprintf(&text, "%s:%d; ", frame.Function, frame.Line)
		if !more {
			return strings.TrimSuffix(text.String(), "; ")
		}
	}
}
