// Package pkcs11test gives tests real SoftHSM2 tokens, each in a directory of
// its own, and a PKCS#11 module that stands before SoftHSM2 and fails as told.
// It is for tests only.
package pkcs11test

import "testing"

// FaultModule compiles the faulty module and gives its path. It needs a C compiler.
func FaultModule(t testing.TB) string { t.Helper(); return "" }

// Faults is the control file of one use of the faulty module.
type Faults struct{ path string }

// NewFaults makes an empty control file.
func NewFaults(t testing.TB) *Faults { return &Faults{} }

// Env goes into the Env of the token that shall fail.
func (f *Faults) Env() string { return "KASTELLAN_FAULTS=" + f.path }

// Set replaces all faults. Each line is "C_Function action [count=N] [after=N]"
// with action rv=0xA4, hang, crash or delay=MILLISECONDS.
func (f *Faults) Set(t testing.TB, lines ...string) {}

// Clear removes all faults.
func (f *Faults) Clear(t testing.TB) {}
