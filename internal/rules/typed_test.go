package rules_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program is the tree with types, as one build has it.
type program struct {
	fset     *token.FileSet
	importer types.Importer
	packages []*checked
}

// checked is a package with types.
type checked struct {
	path  string
	files []*ast.File
	info  *types.Info
}

// load type-checks the program's own packages; what they import comes from
// what the compiler has made of it. Without a C compiler the build is the one
// without cgo.
func load(t *testing.T) *program {
	t.Helper()
	cgo := "1"
	if _, err := exec.LookPath("gcc"); err != nil {
		cgo = "0"
	}
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,CgoFiles,Export", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := make(map[string]string)
	p := &program{fset: token.NewFileSet()}
	p.importer = importer.ForCompiler(p.fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("there is no %s", path)
		}
		return os.Open(exports[path])
	})
	var mine []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := decoder.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[l.ImportPath] = l.Export
		if strings.HasPrefix(l.ImportPath, module) {
			mine = append(mine, l)
		}
	}
	for _, l := range mine {
		p.packages = append(p.packages, p.check(t, l))
	}
	return p
}

type listed struct {
	ImportPath, Dir, Export string
	GoFiles, CgoFiles       []string
}

func (p *program) check(t *testing.T, l listed) *checked {
	t.Helper()
	var files []*ast.File
	for _, name := range append(l.GoFiles, l.CgoFiles...) {
		f, err := parser.ParseFile(p.fset, filepath.Join(l.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return p.checkFiles(t, l.ImportPath, files)
}

func (p *program) checkFiles(t *testing.T, path string, files []*ast.File) *checked {
	t.Helper()
	info := &types.Info{Types: make(map[ast.Expr]types.TypeAndValue), Uses: make(map[*ast.Ident]types.Object), Defs: make(map[*ast.Ident]types.Object)}
	cfg := types.Config{Importer: p.importer, FakeImportC: true}
	if _, err := cfg.Check(path, p.fset, files, info); err != nil {
		t.Fatalf("checking %s: %v", path, err)
	}
	return &checked{path, files, info}
}
