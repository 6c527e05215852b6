package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// file is a text file of the tree.
type file struct {
	path   string // from the module's root, with slashes
	text   string
	fset   *token.FileSet
	syntax *ast.File // nil unless it is Go
}

func newFile(path, text string) (*file, error) {
	f := &file{path: path, text: text, fset: token.NewFileSet()}
	if strings.HasSuffix(path, ".go") {
		var err error
		if f.syntax, err = parser.ParseFile(f.fset, path, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f *file) line(pos token.Pos) int { return f.fset.Position(pos).Line }

// files reads all text files that a clone has; folders whose names begin with a
// dot, but for the checks of every commit, and what is built are not of them.
func files(t *testing.T) []*file {
	t.Helper()
	all, err := filesOnce()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("only %d files are found", len(all))
	}
	return all
}

var filesOnce = sync.OnceValues(func() ([]*file, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	var all []*file
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (name == "bin" || name == "node_modules" || strings.HasPrefix(name, ".") && name != ".ci") {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || !utf8.Valid(text) {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := newFile(filepath.ToSlash(relative), string(text))
		all = append(all, f)
		return err
	})
	return all, err
})
