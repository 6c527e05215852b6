//go:build !linux

package secret

// GuardMemory does nothing where it is not known how.
func GuardMemory() error { return nil }
