package rules_test

import (
	"fmt"
	"go/ast"
	"strconv"
	"strings"
)

// importName is what a file calls a package, "" if it does not import it.
func importName(f *ast.File, path string) string {
	for _, i := range f.Imports {
		if unquoted, err := strconv.Unquote(i.Path.Value); err == nil && unquoted == path {
			if i.Name != nil {
				return i.Name.Name
			}
			return path[strings.LastIndexByte(path, '/')+1:]
		}
	}
	return ""
}

func isSelector(s *ast.SelectorExpr, x, name string) bool {
	id, ok := s.X.(*ast.Ident)
	return ok && x != "" && id.Name == x && s.Sel.Name == name
}

// undocumented finds exported names without a comment: functions, types, values,
// and the methods of exported types. An interface may speak for its methods.
func undocumented(f *file) (broken []string) {
	say := func(name *ast.Ident, comments ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		for _, c := range comments {
			if c != nil {
				return
			}
		}
		broken = append(broken, fmt.Sprintf("%d: %s", f.line(name.Pos()), name.Name))
	}
	for _, d := range f.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) {
				say(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					say(s.Name, d.Doc, s.Doc, s.Comment)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						say(name, d.Doc, s.Doc, s.Comment)
					}
				}
			}
		}
	}
	return broken
}

// receiver is the name of a receiver's type.
func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.IndexListExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	default:
		return ""
	}
}

// unseeded finds fuzz targets that neither add a seed nor give their *testing.F
// to somebody who may.
func unseeded(f *file) (broken []string) {
	for _, d := range f.syntax.Decls {
		target, ok := d.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(target.Name.Name, "Fuzz") || target.Recv != nil || len(target.Type.Params.List) != 1 {
			continue
		}
		seeded, name := false, target.Type.Params.List[0].Names[0].Name
		ast.Inspect(target.Body, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); ok {
				if isSelector(s, name, "Fuzz") {
					return false // what is in there is no seed
				}
				seeded = seeded || isSelector(s, name, "Add")
			}
			for _, arg := range call.Args {
				given, ok := arg.(*ast.Ident)
				seeded = seeded || ok && given.Name == name
			}
			return true
		})
		if !seeded {
			broken = append(broken, fmt.Sprintf("%d: %s", f.line(target.Pos()), target.Name.Name))
		}
	}
	return broken
}
