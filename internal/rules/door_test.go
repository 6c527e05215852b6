package rules_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// gates are the methods of a call that refuse unless the caller was allowed. What they give
// counts only with their error looked at.
var gates = []string{"material", "reaching", "mayTouch", "mayReach"}

// ownWork are the functions of the service that use key stores by themselves, behind the calls,
// each with its reason and the event whose record tells of it.
var ownWork = map[string]struct{ reason, event string }{
	"Service.renew":        {"rotations are due at a time, not at a call", "RotateKey"},
	"Service.copyMaterial": {"replicas get the material of their primary key", "SynchronizeMultiRegionKey"},
	"Service.forget":       {"imported material expires, and keys are deleted at a time; in DeleteImportedKeyMaterial it only drops what the call has deleted", "DeleteExpiredKeyMaterial"},
	"Service.destroy":      {"material is destroyed after its key; also that of a CreateKey that failed, as its record tells", "DeleteKey"},
}

// wrappers are key stores around those of calls, each with its reason. Who uses one has come
// through a gate as for any other.
var wrappers = map[string]string{
	"watched.Encrypt": "traced and counted",
	"watched.Decrypt": "traced and counted",
}

// TestKeyStoresAreReachedThroughTheDoorOnly holds that nothing in the domain uses a key store but
// methods of a call behind a gate, and the service's own work; that only Do makes calls and records them; and
// that what is exported leads to calls by Do alone.
func TestKeyStoresAreReachedThroughTheDoorOnly(t *testing.T) {
	t.Parallel()
	p := load(t)
	i := slices.IndexFunc(p.packages, func(c *checked) bool { return c.path == module+"internal/kms" })
	if i < 0 {
		t.Fatal("the domain is not there")
	}
	domain := p.packages[i]
	found, uses := p.aroundTheDoor(domain)
	report(t, found)
	if uses < 8 {
		t.Errorf("only %d uses of key stores were looked at", uses)
	}
	t.Run("planted", func(t *testing.T) { testPlantedPaths(t, p) })
}

// house is the domain with what its functions refer to.
type house struct {
	fset  *token.FileSet
	info  *types.Info
	named map[*types.Func]*function
	tops  []*function // those of variables at the top, which have no name
}

// function is a declared function or the value of a variable, with all that it refers to.
type function struct {
	name     string // "call.encrypt"
	exported bool
	body     ast.Node
	uses     []ast.Node // of key stores
	refers   []*types.Func
	makes    bool // a call
}

// aroundTheDoor tells what is not as it has to be.
func (p *program) aroundTheDoor(c *checked) (broken []string, uses int) {
	h := p.house(c)
	say := func(n ast.Node, format string, args ...any) {
		broken = append(broken, fmt.Sprintf("%s: ", p.fset.Position(n.Pos()))+fmt.Sprintf(format, args...))
	}
	for _, f := range h.all() {
		uses += len(f.uses)
		if f.makes && f.name != "Service.Do" {
			say(f.body, "%s makes a call, which only Service.Do may", f.name)
		}
		if _, own := ownWork[f.name]; own || wrappers[f.name] != "" {
			continue
		}
		for _, use := range f.uses {
			if !strings.HasPrefix(f.name, "call.") {
				say(use, "%s uses a key store and is neither a method of call nor the service's own work", f.name)
			} else if !h.gated(f, use) {
				say(use, "%s uses a key store without a gate before", f.name)
			}
		}
	}
	return append(broken, h.outside()...), uses
}

// outside tells what is wrong with what the package shows: Do has to record, and everything
// else must not lead to methods of a call that use key stores.
func (h *house) outside() (broken []string) {
	done := false
	for _, f := range h.all() {
		if f.name == "Service.Do" {
			done = slices.ContainsFunc(f.refers, func(callee *types.Func) bool {
				return callee.Name() == "Write" && callee.Pkg().Path() == module+"internal/audit"
			})
			continue
		}
		if !f.exported {
			continue
		}
		for _, reached := range h.reach(f) {
			if len(reached.uses) > 0 && strings.HasPrefix(reached.name, "call.") {
				broken = append(broken, fmt.Sprintf("%s leads to %s without Service.Do", f.name, reached.name))
			}
		}
	}
	if !done {
		broken = append(broken, "Service.Do does not record")
	}
	return broken
}

// reach gives the functions that one leads to, but for the way through Do.
func (h *house) reach(from *function) (all []*function) {
	seen := map[*function]bool{from: true}
	for open := []*function{from}; len(open) > 0; {
		f := open[0]
		open = open[1:]
		all = append(all, f)
		for _, callee := range f.refers {
			next := h.named[callee.Origin()]
			if next != nil && !seen[next] && next.name != "Service.Do" {
				seen[next] = true
				open = append(open, next)
			}
		}
	}
	return all
}

func (h *house) all() []*function {
	all := slices.Clone(h.tops)
	for _, f := range h.named {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *function) int { return strings.Compare(a.name, b.name) })
	return all
}

func (p *program) house(c *checked) *house {
	h := &house{fset: p.fset, info: c.info, named: make(map[*types.Func]*function)}
	for _, file := range c.files {
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				f := &function{name: d.Name.Name, exported: d.Name.IsExported(), body: d}
				if d.Recv != nil {
					f.name = receiver(d.Recv.List[0].Type) + "." + f.name
				}
				h.look(f, d)
				h.named[c.info.Defs[d.Name].(*types.Func)] = f
			case *ast.GenDecl:
				f := &function{name: "a variable", body: d}
				h.look(f, d)
				h.tops = append(h.tops, f)
			}
		}
	}
	return h
}

// look finds what a function refers to.
func (h *house) look(f *function, body ast.Node) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			f.makes = f.makes || isCall(h.info.Types[n].Type)
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "new" && len(n.Args) == 1 {
				f.makes = f.makes || isCall(h.info.Types[n.Args[0]].Type)
			}
		case *ast.ValueSpec:
			if n.Type != nil {
				f.makes = f.makes || isCall(h.info.Types[n.Type].Type)
			}
		case *ast.Ident:
			if callee, ok := h.info.Uses[n].(*types.Func); ok {
				f.refers = append(f.refers, callee)
				if isStoreUse(callee) {
					f.uses = append(f.uses, n)
				}
			}
		}
		return true
	})
}

func isCall(t types.Type) bool {
	n, ok := t.(*types.Named)
	return ok && n.Obj().Name() == "call"
}

// isStoreUse tells the methods with which material is made, used, copied or destroyed: those that are told
// on whose behalf, of any type but Kind, whose methods are about connections.
func isStoreUse(f *types.Func) bool {
	signature := f.Signature()
	if signature.Recv() == nil {
		return false
	}
	if named, ok := signature.Recv().Type().(*types.Named); ok && named.Obj().Name() == "Kind" {
		return false
	}
	for parameter := range signature.Params().Variables() {
		if parameter.Type().String() == module+"internal/keystore.Call" {
			return true
		}
	}
	return false
}

// gated tells whether a gate stands before a use at the top of the function's body, so that nothing
// goes around it, with its error looked at.
func (h *house) gated(f *function, use ast.Node) bool {
	list := f.body.(*ast.FuncDecl).Body.List
	for i, statement := range list {
		if statement.End() > use.Pos() {
			return false
		}
		switch s := statement.(type) {
		case *ast.IfStmt: // if err := c.gate(); err != nil { return … }
			if assign, ok := s.Init.(*ast.AssignStmt); ok && h.isGate(assign) && leaves(s) {
				return true
			}
		case *ast.AssignStmt: // x, err := c.gate() and then if err != nil { return … }
			if !h.isGate(s) || i+1 == len(list) {
				continue
			}
			if next, ok := list[i+1].(*ast.IfStmt); ok && next.End() <= use.Pos() && leaves(next) {
				return true
			}
		}
	}
	return false
}

// isGate tells an assignment of what a gate gives.
func (h *house) isGate(s *ast.AssignStmt) bool {
	call, ok := s.Rhs[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(gates, method.Sel.Name) {
		return false
	}
	callee, ok := h.info.Uses[method.Sel].(*types.Func)
	return ok && h.named[callee] != nil && h.named[callee].name == "call."+method.Sel.Name
}

// leaves tells an if that returns when err is not nil.
func leaves(s *ast.IfStmt) bool {
	condition, ok := s.Cond.(*ast.BinaryExpr)
	if !ok || condition.Op != token.NEQ || len(s.Body.List) == 0 {
		return false
	}
	err, isName := condition.X.(*ast.Ident)
	_, returns := s.Body.List[len(s.Body.List)-1].(*ast.ReturnStmt)
	return isName && err.Name == "err" && returns
}

// What is planted: a small domain in which each line that ends in "// found" must be found, and no other.
const plantedPaths = `package kms

import (
	"context"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/keystore"
)

type Service struct {
	soft  keystore.Keyring
	audit audit.Writer
}

type call struct{ s *Service }

var table = []func(*call){(*call).good, (*call).late}

func (s *Service) Do(ctx context.Context) error {
	c := &call{s: s}
	c.good()
	return s.audit.Write(ctx, nil)
}

func (c *call) material() (keystore.Store, error) { return c.s.soft, nil }
func (c *call) mayReach() error                   { return nil }
func (c *call) help()                             { c.s.bypass() }

func (c *call) good() {
	ks, err := c.material()
	if err != nil {
		return
	}
	ks.DeleteKey(nil, keystore.Call{}, keystore.Key{})
}

func (c *call) alsoGood() {
	if err := c.mayReach(); err != nil {
		return
	}
	func() { c.s.soft.CreateKey(nil, keystore.Call{}, keystore.NewKey{}) }()
}

func (c *call) late() {
	c.s.soft.CreateKey(nil, keystore.Call{}, keystore.NewKey{}) // found
	if err := c.mayReach(); err != nil {
		return
	}
}

func (c *call) sometimes(yes bool) {
	if yes {
		if err := c.mayReach(); err != nil {
			return
		}
	}
	c.s.soft.CreateKey(nil, keystore.Call{}, keystore.NewKey{}) // found
}

func (c *call) careless() {
	ks, _ := c.material()
	encrypt := ks.Encrypt // found
	_ = encrypt
}

func (c *call) unmoved() {
	if err := c.mayReach(); err != nil {
		_ = err
	}
	c.s.soft.DeleteKey(nil, keystore.Call{}, keystore.Key{}) // found
}

func (c *call) random(r keystore.Randomizer, own interface{ Draw(keystore.Call) }) {
	r.Random(nil, keystore.Call{}, 8) // found
	own.Draw(keystore.Call{}) // found
}

type wrapper struct{ keystore.Store }

func (w wrapper) DeleteKey(ctx context.Context, call keystore.Call, key keystore.Key) error {
	return w.Store.DeleteKey(ctx, call, key) // found
}

func around(w wrapper) {
	w.DeleteKey(nil, keystore.Call{}, keystore.Key{}) // found
}

func (s *Service) renew() { s.soft.CreateKey(nil, keystore.Call{}, keystore.NewKey{}) }

func (s *Service) bypass() {
	s.soft.DeleteKey(nil, keystore.Call{}, keystore.Key{}) // found
}

func (s *Service) Shortcut() { // found
	new(call).good()
}

func Other() { // found
	var c call
	c.help()
}

var ready = func() { helper(nil) }

func helper(s keystore.Store) {
	s.Decrypt(nil, keystore.Call{}, keystore.Key{}, nil, nil) // found
}
`

func testPlantedPaths(t *testing.T, p *program) {
	found := func(text string) (lines map[int]bool, others []string) {
		f, err := parser.ParseFile(p.fset, "planted.go", text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		broken, _ := p.aroundTheDoor(p.checkFiles(t, module+"internal/kms", []*ast.File{f}))
		lines = make(map[int]bool)
		for _, text := range broken {
			var line int
			if _, err := fmt.Sscanf(text, "planted.go:%d:", &line); err != nil {
				others = append(others, text)
			}
			lines[line] = true
		}
		return lines, others
	}
	lines, others := found(plantedPaths)
	for i, line := range strings.Split(plantedPaths, "\n") {
		if want := strings.HasSuffix(line, "// found"); want != lines[i+1] {
			t.Errorf("found: %v, want %v: %s", lines[i+1], want, line)
		}
	}
	if !slices.Equal(others, []string{"Service.Shortcut leads to call.good without Service.Do"}) {
		t.Errorf("found %q", others)
	}
	_, others = found(strings.Replace(plantedPaths, "return s.audit.Write(ctx, nil)", "return nil", 1))
	if !slices.Contains(others, "Service.Do does not record") {
		t.Errorf("a Do that records nothing: %q", others)
	}
}

// TestTheServicesOwnWorkIsRecorded holds that the list names what there is, and events that are recorded.
func TestTheServicesOwnWorkIsRecorded(t *testing.T) {
	t.Parallel()
	p := load(t)
	i := slices.IndexFunc(p.packages, func(c *checked) bool { return c.path == module+"internal/kms" })
	h := p.house(p.packages[i])
	for name, work := range ownWork {
		f := slices.IndexFunc(h.all(), func(f *function) bool { return f.name == name })
		if f < 0 || len(h.all()[f].uses) == 0 {
			t.Errorf("%s uses no key store: take it off the list", name)
		}
		if !slices.ContainsFunc(h.all(), func(f *function) bool { return f.records(h, work.event) }) {
			t.Errorf("%s: nothing records the event %s", name, work.event)
		}
	}
}

// records tells a function with an event, for itself or for the one that records it.
func (f *function) records(h *house, event string) (found bool) {
	ast.Inspect(f.body, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		found = found || ok && literal.Value == `"`+event+`"`
		return true
	})
	recorder := slices.ContainsFunc(f.refers, func(callee *types.Func) bool { return callee.Name() == "recordEvent" })
	happening := false
	ast.Inspect(f.body, func(n ast.Node) bool {
		literal, ok := n.(*ast.CompositeLit)
		happening = happening || ok && strings.HasSuffix(fmt.Sprint(h.info.Types[literal].Type), "happening")
		return true
	})
	return found && (recorder || happening)
}
