package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"kastellan.dev/internal/pkcs11"
)

// version is set at build time: -ldflags "-X main.version=v1.2.3".
var version string

type versionCmd struct{}

// Run prints version, Go version and whether PKCS#11 modules can be loaded.
func (versionCmd) Run(term terminal) error {
	modules := "PKCS#11 modules can be loaded"
	if !pkcs11.Available() {
		modules = "without cgo: PKCS#11 modules cannot be loaded"
	}
	_, err := fmt.Fprintf(term.out, "kastellan %s (%s, %s)\n", productVersion(), runtime.Version(), modules)
	return err
}

// productVersion is the version of this build.
func productVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
