//go:build !cgo || !unix

package pkcs11

import "context"

// Survey fails with ErrNoCgo.
func Survey(context.Context, Config) (ModuleInfo, error) { return ModuleInfo{}, ErrNoCgo }
