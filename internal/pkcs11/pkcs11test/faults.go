package pkcs11test

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

//go:embed faults/faults.c
var faultsSource string

// functionNames are those of the module's table, in its order.
var functionNames = sync.OnceValue(func() []string {
	var names []string
	for _, match := range regexp.MustCompile(`\tX\((C_\w+)\)`).FindAllStringSubmatch(faultsSource, -1) {
		names = append(names, match[1])
	}
	return names
})

var compileOnce = sync.OnceValues(compileFaults)

// FaultModule compiles the faulty module and gives its path. It needs a C
// compiler, $CC or cc, and is skipped or fails without one as Require does without SoftHSM2.
func FaultModule(t testing.TB) string {
	t.Helper()
	Require(t)
	path, err := compileOnce()
	if err != nil && os.Getenv("KASTELLAN_REQUIRE_SOFTHSM") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// compileFaults keeps the result for later runs, under the source's hash.
func compileFaults() (string, error) {
	sum := sha256.Sum256([]byte(faultsSource))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("kastellan-faults-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := checkOwner(dir); err != nil {
		return "", err
	}
	path := filepath.Join(dir, hex.EncodeToString(sum[:8])+".so")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, compiler, "-shared", "-fPIC", "-O1", "-x", "c", "-o", fresh, "-", "-ldl")
	cmd.Stdin = strings.NewReader(faultsSource)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compiling the faulty module: %w\n%s", err, out)
	}
	return path, os.Rename(fresh, path)
}

// checkOwner refuses a directory that somebody else could have put there:
// what lies in it is loaded as code.
func checkOwner(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not ours alone", dir)
	}
	return nil
}

// The layout of a row of the table: six 64-bit numbers of the machine.
const (
	rowAction = iota
	rowArgument
	rowAfter
	rowCount
	rowCalls
	rowHits
	rowNumbers
)

const rowSize = 8 * rowNumbers

var actions = map[string]uint64{"rv": 1, "hang": 2, "crash": 3, "delay": 4, "noise": 5, "make-iv": 6, "append-iv": 7, "flags": 8}

// Faults is the table of faults of a faulty module, shared by all processes
// that load it with the Env.
type Faults struct{ path string }

// NewFaults makes a table without faults.
func NewFaults(t testing.TB) *Faults {
	t.Helper()
	f := &Faults{path: filepath.Join(t.TempDir(), "faults")}
	f.Clear(t)
	return f
}

// Break makes the reference reach its token through the faulty module.
func (f *Faults) Break(t testing.TB, ref TokenRef) TokenRef {
	t.Helper()
	ref.URI.ModulePath = FaultModule(t)
	ref.Env = append(ref.Env[:len(ref.Env):len(ref.Env)], f.Env())
	return ref
}

// Env goes into the Env of the token that shall fail.
func (f *Faults) Env() string { return "KASTELLAN_FAULTS=" + f.path }

// Set replaces all faults and counters. Each line is "C_Function action
// [count=N] [after=N]" with the action rv=0xA4, hang (until Set or Clear), crash,
// delay=MILLISECONDS, noise (on standard output and error), make-iv (of C_EncryptInit: the module
// makes the IV) or append-iv (of C_Encrypt: and appends it), both with =16 for IVs of 16 bytes, or
// flags=0x20000 (of C_GetTokenInfo: they are set in what it gives). The fault spares
// the first calls that after tells, then meets as many as count tells, or all.
func (f *Faults) Set(t testing.TB, lines ...string) {
	t.Helper()
	table := make([]byte, rowSize*len(functionNames()))
	for _, line := range lines {
		if err := setFault(table, line); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(table, 0); err != nil {
		t.Fatal(err)
	}
}

// Clear removes all faults.
func (f *Faults) Clear(t testing.TB) { t.Helper(); f.Set(t) }

// Calls tells how often the function was called since the last Set.
func (f *Faults) Calls(t testing.TB, function string) int { return f.number(t, function, rowCalls) }

// Hits tells how many of these calls met the fault.
func (f *Faults) Hits(t testing.TB, function string) int { return f.number(t, function, rowHits) }

func (f *Faults) number(t testing.TB, function string, column int) int {
	t.Helper()
	row := rowOf(function)
	table, err := os.ReadFile(f.path)
	if err != nil || row < 0 {
		t.Fatalf("reading the faults of %s: %v", function, err)
	}
	return int(binary.NativeEndian.Uint64(table[row*rowSize+8*column:]))
}

func rowOf(function string) int {
	for i, name := range functionNames() {
		if name == function {
			return i
		}
	}
	return -1
}

func setFault(table []byte, line string) error {
	words := strings.Fields(line)
	if len(words) < 2 || rowOf(words[0]) < 0 {
		return fmt.Errorf("a fault is not \"C_Function action\": %q", line)
	}
	row := table[rowOf(words[0])*rowSize:]
	put := func(column int, n uint64) { binary.NativeEndian.PutUint64(row[8*column:], n) }
	put(rowCount, ^uint64(0))
	for i, word := range words[1:] {
		name, value, hasValue := strings.Cut(word, "=")
		var n uint64
		if hasValue {
			var err error
			if n, err = strconv.ParseUint(value, 0, 63); err != nil {
				return fmt.Errorf("a fault has a wrong number: %q", line)
			}
		}
		action, isAction := actions[name]
		switch {
		case i == 0 && isAction:
			put(rowAction, action)
			put(rowArgument, n)
		case i > 0 && name == "count":
			put(rowCount, n)
		case i > 0 && name == "after":
			put(rowAfter, n)
		default:
			return fmt.Errorf("a fault has the unknown word %q: %q", word, line)
		}
	}
	return nil
}
