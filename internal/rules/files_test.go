package rules_test

import (
	"fmt"
	"go/ast"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// rule is something that no file may have. Each has files that break it and
// files that do not, so that it is known to find what it is for.
type rule struct {
	name    string
	applies func(f *file) bool
	broken  func(f *file) []string // what is wrong, one text for each place
	bad     []planted              // each breaks the rule once
	good    []planted
}

// planted is a file that does not exist.
type planted struct{ path, text string }

func goOnly(f *file) bool { return f.syntax != nil }

func everyFile(*file) bool { return true }

var rules = []rule{
	{
		name: "files tell one story", applies: goOnly, broken: tooLong,
		bad: []planted{
			{"internal/a/a.go", "package a\n" + strings.Repeat("\n", maxLines)},
			{"internal/a/a_test.go", "package a\n" + strings.Repeat("\n", maxTestLines)},
		},
		good: []planted{
			{"internal/a/a.go", "package a" + strings.Repeat("\n", maxLines)},
			{"internal/a/a_test.go", "package a\n" + strings.Repeat("\n", maxLines)},
		},
	},
	{
		name: "tests wait for what happens, not for time", applies: (*file).isTest, broken: sleeps,
		bad: []planted{
			{"a_test.go", "package a\nimport \"time\"\nfunc f() { time.Sleep(1) }"},
			{"a_test.go", "package a\nimport \"time\"\nfunc f() { for { g(func() { time.Sleep(1) }) } }"},
			{"a_test.go", "package a\nimport clock \"time\"\nfunc f() { clock.Sleep(1) }"},
			{"a_test.go", "package a\nimport \"time\"\nfunc f() {\n\t// not on its line\n\ttime.Sleep(1)\n}"},
			{"a_test.go", "package a\nimport \"time\"\nvar f = time.Sleep"},
		},
		good: []planted{
			{"a_test.go", "package a\nimport \"time\"\nfunc f() { for !done() { time.Sleep(1) } }"},
			{"a_test.go", "package a\nimport \"time\"\nfunc f() { for ; !done(); time.Sleep(1) { } }"},
			{"a_test.go", "package a\nimport \"time\"\nfunc f() { time.Sleep(1) // how slow the server is\n}"},
			{"a_test.go", "package a\nimport \"x.test/time\"\nfunc f() { time.Sleep(1) }"},
			{"a_test.go", "package a\nimport (\"testing/synctest\"; \"time\")\nfunc f() { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }"},
		},
	},
	{
		name: "packages do not print", applies: isPackageCode, broken: prints,
		bad: []planted{
			{"internal/a/a.go", "package a\nimport \"fmt\"\nfunc f() { fmt.Println(1) }"},
			{"internal/a/a.go", "package a\nimport \"fmt\"\nfunc f() { fmt.Print(1) }"},
			{"internal/a/a.go", "package a\nimport f \"fmt\"\nvar g = f.Printf"},
			{"internal/a/a.go", "package a\nfunc f() { println(1) }"},
			{"internal/a/a.go", "package a\nimport \"log\"\nfunc f() { log.Println(1) }"},
		},
		good: []planted{
			{"internal/a/a.go", "package a\nimport \"fmt\"\nvar x = fmt.Sprint(1)"},
			{"internal/a/a.go", "package a\nimport \"fmt\"\nfunc f() { fmt.Fprintln(w, 1) }"},
			{"internal/a/a_test.go", "package a\nimport \"fmt\"\nfunc f() { fmt.Println(1) }"},
			{"cmd/a/a.go", "package a\nimport \"fmt\"\nfunc f() { fmt.Println(1) }"},
		},
	},
	{
		name: "nothing is put off", applies: everyFile, broken: putOff,
		bad: []planted{
			{"a.go", "package a // TO" + "DO: more"}, {"a.md", "FIX" + "ME"}, {"a.yaml", "# HA" + "CK around it"},
		},
		good: []planted{{"a.md", "what is left TO" + "DONE"}, {"a.go", "package a // unicode escapes are \\uXXXX"}},
	},
	{
		name: "what is exported says what it is", applies: func(f *file) bool { return goOnly(f) && !f.isTest() }, broken: undocumented,
		bad: []planted{
			{"a.go", "package a\nfunc F() {}"}, {"a.go", "package a\ntype T int"}, {"a.go", "package a\nvar V int"}, {"a.go", "package a\nconst (\n\ta = 1\n\tC = 2\n)"},
			{"a.go", "package a\ntype t int\n// T is.\ntype T t\nfunc (T) M() {}"}, {"a.go", "package a\n// T is.\ntype T[V any] struct{}\nfunc (*T[V]) M() {}"},
		},
		good: []planted{
			{"a.go", "package a\n// F does.\nfunc F() {}\nfunc f() {}\ntype t int\nfunc (t) M() {}"}, {"a.go", "package a\n// All of them.\nconst (\n\tA = 1\n\tB = 2\n)"},
			{"a.go", "package a\ntype (\n\tT int // is documented\n)"}, {"a.go", "package a\n// T is.\ntype T interface {\n\tM()\n}"},
		},
	},
	{
		name: "fuzz targets have something to begin with", applies: (*file).isTest, broken: unseeded,
		bad: []planted{
			{"a_test.go", "package a\nfunc FuzzA(f *testing.F) { f.Fuzz(func(t *testing.T, b []byte) {}) }"},
			{"a_test.go", "package a\nfunc FuzzA(f *testing.F) { x.Add(1); f.Fuzz(func(t *testing.T, b []byte) { f.Add(b) }) }"},
		},
		good: []planted{
			{"a_test.go", "package a\nfunc FuzzA(f *testing.F) { f.Add([]byte(nil)); f.Fuzz(func(t *testing.T, b []byte) {}) }"},
			{"a_test.go", "package a\nfunc FuzzA(g *testing.F) { for range 3 { g.Add([]byte(nil)) }; g.Fuzz(nil) }"},
			{"a_test.go", "package a\nfunc FuzzA(f *testing.F) { seed(f); f.Fuzz(nil) }\nfunc Fuzzy() {}"},
		},
	},
	{
		name: "the tree names no registry", applies: everyFile, broken: registries,
		bad: []planted{
			{"Dockerfile", "ENV GOPROXY=https://gopro" + "xy.example"}, {"a.md", "see https://proxy.golang." + "org/x"}, {"a.sh", "curl registry." + "npmjs.org"},
			{".ci/run", "pip install -i https://PyPI." + "org/simple"},
		},
		good: []planted{{"a.md", "GOPROXY may be set"}, {"go.mod", "require golang.org/x/sync v0.1.0"}, {"a.go", "package a // https://pkg.go.dev/x"}},
	},
}

func TestNoFileBreaksARule(t *testing.T) {
	t.Parallel()
	for _, r := range rules {
		looked := 0
		for _, f := range files(t) {
			if !r.applies(f) {
				continue
			}
			looked++
			for _, text := range r.broken(f) {
				t.Errorf("%s:%s (%s)", f.path, text, r.name)
			}
		}
		if looked < 50 {
			t.Errorf("%s: only %d files were looked at", r.name, looked)
		}
	}
}

func TestEachRuleFindsWhatItIsFor(t *testing.T) {
	t.Parallel()
	for _, r := range rules {
		check := func(p planted, want int) {
			f, err := newFile(p.path, p.text)
			if err != nil {
				t.Fatalf("%s: %v", r.name, err)
			}
			var found []string
			if r.applies(f) {
				found = r.broken(f)
			}
			if len(found) != want {
				t.Errorf("%s: %d findings instead of %d in %s\n%.300s\n%q", r.name, len(found), want, p.path, p.text, found)
			}
		}
		for _, p := range r.bad {
			check(p, 1)
		}
		for _, p := range r.good {
			check(p, 0)
		}
		if len(r.bad) == 0 || len(r.good) == 0 {
			t.Errorf("%s has nothing planted", r.name)
		}
	}
}

// How long a file may be before it tells more than one story. Tests are tables.
const (
	maxLines     = 450
	maxTestLines = 600
)

func tooLong(f *file) []string {
	limit := maxLines
	if f.isTest() {
		limit = maxTestLines
	}
	if n := strings.Count(f.text, "\n"); n > limit {
		return []string{fmt.Sprintf("%d: %d lines, more than %d", limit, n, limit)}
	}
	return nil
}

// sleeps finds time.Sleep, but for the pause of a loop that polls, for what
// runs on the clock of testing/synctest, and for one that says on its line what
// else it is.
func sleeps(f *file) (broken []string) {
	name, bubble := importName(f.syntax, "time"), importName(f.syntax, "testing/synctest")
	explained := make(map[int]bool)
	for _, group := range f.syntax.Comments {
		explained[f.line(group.Pos())] = true
	}
	var visit func(n ast.Node, loop bool)
	visit = func(n ast.Node, loop bool) {
		ast.Inspect(n, func(inner ast.Node) bool {
			switch inner := inner.(type) {
			case *ast.ForStmt:
				if inner != n {
					visit(inner, true)
					return false
				}
			case *ast.CallExpr:
				if fun, ok := inner.Fun.(*ast.SelectorExpr); ok && isSelector(fun, bubble, "Test") {
					return false
				}
			case *ast.FuncLit:
				if inner != n {
					visit(inner, false)
					return false
				}
			case *ast.SelectorExpr:
				if isSelector(inner, name, "Sleep") && !loop && !explained[f.line(inner.Pos())] {
					broken = append(broken, fmt.Sprintf("%d: time.Sleep", f.line(inner.Pos())))
				}
			}
			return true
		})
	}
	visit(f.syntax, false)
	return broken
}

func isPackageCode(f *file) bool {
	return goOnly(f) && !f.isTest() && strings.HasPrefix(f.path, "internal/")
}

// prints finds what writes to the standard output or error of the process
// behind everybody's back.
func prints(f *file) (broken []string) {
	names := map[string]string{importName(f.syntax, "fmt"): "Print", importName(f.syntax, "log"): ""}
	delete(names, "")
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			prefix, watched := names[x.Name]
			if watched && (prefix == "Print" && strings.HasPrefix(n.Sel.Name, prefix) || prefix == "" && logs.MatchString(n.Sel.Name)) {
				broken = append(broken, fmt.Sprintf("%d: %s.%s", f.line(n.Pos()), x.Name, n.Sel.Name))
			}
		case *ast.CallExpr:
			if called, ok := n.Fun.(*ast.Ident); ok && (called.Name == "print" || called.Name == "println") {
				broken = append(broken, fmt.Sprintf("%d: %s", f.line(n.Pos()), called.Name))
			}
		}
		return true
	})
	return broken
}

var logs = regexp.MustCompile(`^(Print|Fatal|Panic)(f|ln)?$`)

var later = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|HA` + `CK)\b`)

func putOff(f *file) (broken []string) { return matches(f, later) }

func matches(f *file, pattern *regexp.Regexp) (broken []string) {
	for i, line := range strings.Split(f.text, "\n") {
		if found := pattern.FindString(line); found != "" {
			broken = append(broken, fmt.Sprintf("%d: %s", i+1, found))
		}
	}
	return broken
}

// registry matches the hosts of public registries and mirrors; the parts are
// apart so that this file names none.
var registry = regexp.MustCompile(`(?i)\b(` + strings.Join([]string{
	`(proxy|sum)\.golang\.` + `org`, `goproxy\.[a-z]+`, `registry\.` + `npmjs\.org`, `registry\.yarnpkg\.` + `com`, `(files\.)?(pypi|pythonhosted)\.` + `org`, `crates\.` + `io`,
	`repo1?\.maven\.` + `(org|apache\.org)`, `rubygems\.` + `org`, `(deb|archive|security)\.(debian|ubuntu)\.` + `(org|com)`,
	`dl-cdn\.alpinelinux\.` + `org`, `[a-z0-9.-]*(artifactory|nexus)[a-z0-9-]*\.[a-z.]+`,
}, "|") + `)\b`)

func registries(f *file) []string {
	broken := matches(f, registry)
	for i, line := range strings.Split(f.text, "\n") {
		for _, host := range mirrors() {
			if strings.Contains(line, host) && !registry.MatchString(line) {
				broken = append(broken, fmt.Sprintf("%d: %s", i+1, host))
			}
		}
	}
	return broken
}

// mirrors are the hosts that modules come from on the machine of the test.
var mirrors = sync.OnceValue(func() (hosts []string) {
	out, err := exec.Command("go", "env", "GOPROXY", "GOSUMDB").Output()
	if err != nil {
		return nil
	}
	for _, found := range host.FindAllStringSubmatch(string(out), -1) {
		if strings.Contains(found[1], ".") && strings.ContainsAny(found[1], "abcdefghijklmnopqrstuvwxyz") { // nobody's own machine
			hosts = append(hosts, found[1])
		}
	}
	return hosts
})

var host = regexp.MustCompile(`https?://(?:[^/@\s]*@)?([^/:,|\s]+)`)
