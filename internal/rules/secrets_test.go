package rules_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/types"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// No secret is given to what writes a log or makes a text that may end in one:
// log/slog and log, and fmt, errors and kmsapi.Errorf, whose texts are logged and
// answered, and attributes of spans. What counts as a secret:
//
//   - a value of package secret, or what Reveal gives;
//   - text or bytes under a name such as password, pin or plaintext;
//   - for a log also bytes of any name, and a key of such a name.
//
// Lengths, comparisons and other numbers of a secret are allowed.
func TestNoSecretIsGivenToALog(t *testing.T) {
	t.Parallel()
	p := load(t)
	calls := 0
	for _, c := range p.packages {
		if isTestPackage(short(c.path)) || short(c.path) == "secret" {
			continue
		}
		n, broken := p.secretsGiven(c)
		calls += n
		report(t, broken)
	}
	if calls < 500 {
		t.Errorf("only %d calls were looked at", calls)
	}
	t.Run("planted", func(t *testing.T) { testPlantedSecrets(t, p) })
}

// What is planted: each line that ends in "// found" must be found, and no other.
const plantedSecrets = `package planted

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"log/slog"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/tracing"
)

type config struct {
	Password, UserPIN, Name string
	Secret                  secret.Text
	Key                     secret.Bytes
	Data                    []byte
}

func f(ctx context.Context, l *slog.Logger, c *config, plaintext []byte, pin, pinned, name string) error {
	l.Info("x", "name", name, "size", len(plaintext), "set", c.Password != "", "n", c.Secret.Len())
	l.Info("x", "a", c.Secret) // found
	l.Info("x", "a", &c.Key) // found
	l.Info("x", "a", c.Secret.Reveal()) // found
	l.Info("x", "a", string(c.Key.Reveal()[1:])) // found
	l.Info("x", "a", c.Password) // found
	l.Warn("x", "a", c.UserPIN) // found
	l.Error(pin) // found
	l.Error("x" + pin) // found
	l.Error(pinned)
	l.Debug("x", "a", plaintext) // found
	l.Debug("x", "a", string(plaintext[:2])) // found
	l.Debug("x", "a", hex.EncodeToString(plaintext)) // found
	l.Debug("x", "a", base64.StdEncoding.EncodeToString(plaintext)) // found
	l.Debug("x", "a", c.Data) // found
	l.Debug("x", "password", name) // found
	l.Log(ctx, 0, "x", "userPin", name) // found
	l.LogAttrs(ctx, 0, "x", slog.String("name", name))
	l.LogAttrs(ctx, 0, "x", slog.String("name", c.Password)) // found
	l.LogAttrs(ctx, 0, "x", slog.Any("a", c.Key)) // found
	l.LogAttrs(ctx, 0, "x", slog.Int("a", len(c.Password)))
	l.With("a", pin).Info("x") // found
	l.WithGroup("secret").Info("x") // found
	slog.Info("x", "a", (pin)) // found
	log.Print(pin) // found
	log.Printf("%d", len(pin))
	_ = fmt.Sprint(c.Data, name)
	_ = fmt.Sprintf("%s", pin) // found
	_ = fmt.Errorf("%s", c.Secret) // found
	_ = kmsapi.Errorf(kmsapi.NotFound, "%s", c.Password) // found
	_ = kmsapi.Errorf(kmsapi.NotFound, "%d", len(c.Password))
	_ = errors.New(string(plaintext)) // found
	_, span := tracing.Start(ctx, "x")
	span.Set("name", name)
	span.Set("name", c.Password) // found
	span.Set("name", string(plaintext)) // found
	span.Set("pin", name) // found
	panic(pin) // found
}
`

func testPlantedSecrets(t *testing.T, p *program) {
	f, err := parser.ParseFile(p.fset, "planted.go", plantedSecrets, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	_, broken := p.secretsGiven(p.checkFiles(t, module+"internal/planted", []*ast.File{f}))
	found := make(map[int]bool)
	for _, text := range broken {
		var line int
		if _, err := fmt.Sscanf(text, "planted.go:%d:", &line); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		found[line] = true
	}
	for i, line := range strings.Split(plantedSecrets, "\n") {
		if want := strings.HasSuffix(line, "// found"); want != found[i+1] {
			t.Errorf("found: %v, want %v: %s", found[i+1], want, line)
		}
	}
}

// secretsGiven looks at all calls of a package.
func (p *program) secretsGiven(c *checked) (calls int, broken []string) {
	for _, f := range c.files {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			into := sinkOf(c.info, call)
			if into == none {
				return true
			}
			calls++
			for i, arg := range call.Args {
				if what := c.secretIn(arg, into, into == toLog && isKey(c.info, call, i)); what != "" {
					broken = append(broken, fmt.Sprintf("%s: %s", p.fset.Position(arg.Pos()), what))
				}
			}
			return true
		})
	}
	return calls, broken
}

// sink is what becomes of a call's arguments.
type sink int

const (
	none sink = iota
	toText
	toLog
)

func sinkOf(info *types.Info, call *ast.CallExpr) sink {
	var id *ast.Ident
	switch f := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		id = f
	case *ast.SelectorExpr:
		id = f.Sel
	default:
		return none
	}
	callee := info.Uses[id]
	if b, ok := callee.(*types.Builtin); ok && b.Name() == "panic" {
		return toText
	}
	if _, ok := callee.(*types.Func); !ok || callee.Pkg() == nil {
		return none
	}
	switch callee.Pkg().Path() {
	case "log", "log/slog":
		if strings.HasSuffix(callee.Name(), "Text") || strings.HasSuffix(callee.Name(), "JSON") {
			return none // of slog.Level: what is said there is no attribute
		}
		return toLog
	case module + "internal/tracing":
		if callee.Name() == "Set" {
			return toLog
		}
	case "fmt", "errors":
		return toText
	case module + "internal/kmsapi":
		if callee.Name() == "Errorf" {
			return toText
		}
	}
	return none
}

// isKey tells whether an argument may be the name of an attribute: any constant
// but a message, of which only a sentence's words are one of the names.
func isKey(info *types.Info, call *ast.CallExpr, i int) bool {
	value := info.Types[call.Args[i]].Value
	return value != nil && value.Kind() == constant.String && !strings.Contains(constant.StringVal(value), " ")
}

// secretIn says what is secret in an expression, "" if nothing. It follows the
// value only: into parts, conversions, concatenations, and calls that give text
// or bytes.
func (c *checked) secretIn(e ast.Expr, into sink, key bool) string {
	tv := c.info.Types[e]
	if key {
		if name := constant.StringVal(tv.Value); secretName(name) {
			return "an attribute called " + name
		}
		return ""
	}
	if tv.Value != nil || tv.Type == nil {
		return ""
	}
	if isSecretType(tv.Type) {
		return "a " + tv.Type.String()
	}
	if into == toLog && isBytes(tv.Type) {
		return "bytes"
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		return c.secretIn(e.X, into, false)
	case *ast.StarExpr:
		return c.secretIn(e.X, into, false)
	case *ast.UnaryExpr:
		return c.secretIn(e.X, into, false)
	case *ast.IndexExpr:
		return c.secretIn(e.X, into, false)
	case *ast.SliceExpr:
		return c.secretIn(e.X, into, false)
	case *ast.BinaryExpr:
		if !isText(tv.Type) {
			return ""
		}
		if what := c.secretIn(e.X, into, false); what != "" {
			return what
		}
		return c.secretIn(e.Y, into, false)
	case *ast.Ident:
		return named(e.Name, tv.Type)
	case *ast.SelectorExpr:
		return named(e.Sel.Name, tv.Type)
	case *ast.CallExpr:
		return c.secretInCall(e, tv.Type, into)
	default:
		return ""
	}
}

func (c *checked) secretInCall(call *ast.CallExpr, gives types.Type, into sink) string {
	if method, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok {
		if method.Sel.Name == "Reveal" && isSecretType(c.info.Types[method.X].Type) {
			return "what Reveal gives"
		}
	}
	if !isText(gives) && !isBytes(gives) {
		return ""
	}
	for _, arg := range call.Args {
		if what := c.secretIn(arg, toText, false); what != "" {
			return what
		}
	}
	return ""
}

func named(name string, t types.Type) string {
	if secretName(name) && (isText(t) || isBytes(t)) {
		return "text or bytes called " + name
	}
	return ""
}

var secretWord = regexp.MustCompile(`^(secret|password|passwords|passphrase|pin|pins|plaintext|plaintexts)$`)

// secretName tells whether a name's last word is one of those; a passwordFile is a path.
func secretName(name string) bool {
	words := words(name)
	return len(words) > 0 && secretWord.MatchString(words[len(words)-1])
}

// words takes a name of Go apart: userPIN is user and pin.
func words(name string) (all []string) {
	letters := []rune(name)
	from := 0
	for i := 1; i <= len(letters); i++ {
		if i == len(letters) || unicode.IsUpper(letters[i]) && (!unicode.IsUpper(letters[i-1]) || i+1 < len(letters) && unicode.IsLower(letters[i+1])) {
			all = append(all, strings.ToLower(string(letters[from:i])))
			from = i
		}
	}
	return all
}

func isSecretType(t types.Type) bool {
	if t == nil {
		return false
	}
	if pointer, ok := t.Underlying().(*types.Pointer); ok {
		t = pointer.Elem()
	}
	n, ok := t.(*types.Named)
	return ok && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == module+"internal/secret"
}

func isText(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}

func isBytes(t types.Type) bool {
	s, ok := t.Underlying().(*types.Slice)
	if !ok {
		return false
	}
	b, ok := s.Elem().Underlying().(*types.Basic)
	return ok && b.Kind() == types.Uint8
}
