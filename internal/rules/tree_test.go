package rules_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// module is the prefix of our packages.
const module = "kastellan.dev/"

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
	Deps       []string
}

// short is the import path as this package writes it: without module and "internal/".
func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "internal/")
}

func (p pkg) name() string { return short(p.ImportPath) }

// ours gives the short names of our packages among paths.
func ours(paths []string) []string {
	var out []string
	for _, path := range paths {
		if strings.HasPrefix(path, module) {
			out = append(out, short(path))
		}
	}
	return out
}

// root is the folder of the module.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// list runs `go list` with and without cgo, since the two builds import different things.
func list(t *testing.T) []pkg {
	t.Helper()
	packages, err := listOnce()
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

var listOnce = sync.OnceValues(func() ([]pkg, error) {
	with, err := goList("1")
	if err != nil {
		return nil, err
	}
	without, err := goList("0")
	return append(with, without...), err
})

func goList(cgo string) ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,CgoFiles,Imports,Deps", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var packages []pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
}

// isTestPackage tells packages that exist for tests.
func isTestPackage(name string) bool {
	return name == "rules" || name == "e2e" || strings.HasPrefix(name, "e2e/") || strings.HasSuffix(name, "test")
}
