package rootkey_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kastellan.dev/internal/rootkey"
)

// material has bytes whose base64 differs between the two alphabets.
var material = append(bytes.Repeat([]byte{0xfb, 0xff, 0xbe}, 10), 1, 2)

func writeFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadReadsBase64AndHexadecimal(t *testing.T) {
	t.Parallel()
	want := ""
	for _, text := range []string{
		base64.StdEncoding.EncodeToString(material),
		base64.StdEncoding.EncodeToString(material) + "\n",
		base64.RawStdEncoding.EncodeToString(material),
		base64.URLEncoding.EncodeToString(material),
		base64.RawURLEncoding.EncodeToString(material),
		hex.EncodeToString(material),
		strings.ToUpper(hex.EncodeToString(material)),
		" \t" + hex.EncodeToString(material) + " \r\n",
	} {
		key, err := rootkey.Load(rootkey.Source{File: writeFile(t, text, 0o400)})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if want == "" {
			want = key.ID()
		}
		if key.ID() != want || len(want) != 32 {
			t.Errorf("%q: key id %q, others gave %q", text, key.ID(), want)
		}
	}
}

func TestLoadRefusesWhatIsNoKeyAndDoesNotShowIt(t *testing.T) {
	t.Parallel()
	good := base64.StdEncoding.EncodeToString(material)
	for name, text := range map[string]string{
		"nothing":              "",
		"white space":          " \n",
		"31 bytes":             base64.StdEncoding.EncodeToString(material[:31]),
		"33 bytes":             base64.StdEncoding.EncodeToString(append(bytes.Clone(material), 3)),
		"31 bytes in hex":      hex.EncodeToString(material[:31]),
		"33 bytes in hex":      hex.EncodeToString(append(bytes.Clone(material), 3)),
		"64 characters":        strings.Repeat("secretSe", 8),
		"two keys":             good + "\n" + good,
		"a passphrase":         "correct horse battery staple, 32",
		"bits behind the end":  good[:42] + "J" + "=",
		"too much padding":     good + "=",
		"32 bytes as they are": string(material),
		"a long text":          strings.Repeat("secret", 10000),
	} {
		_, err := rootkey.Load(rootkey.Source{File: writeFile(t, text, 0o600)})
		if err == nil {
			t.Errorf("%s is taken as a key", name)
			continue
		}
		for i := 0; i+5 <= len(text); i++ {
			if strings.Contains(err.Error(), text[i:i+5]) {
				t.Errorf("%s: the error shows the content: %v", name, err)
				break
			}
		}
	}
}

func TestLoadRefusesFilesThatOthersCanAccess(t *testing.T) {
	t.Parallel()
	text := hex.EncodeToString(material)
	for mode := os.FileMode(1); mode <= 0o77; mode <<= 1 {
		_, err := rootkey.Load(rootkey.Source{File: writeFile(t, text, 0o600|mode)})
		if err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %04o: %v", 0o600|mode, err)
		}
	}
}

func TestLoadRefusesWhatIsNoRegularFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe, "/dev/null"} {
		if _, err := rootkey.Load(rootkey.Source{File: path}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := rootkey.Load(rootkey.Source{File: filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestLoadRefusesFilesOfOtherUsers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		owner uint32
		uid   int
		ok    bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1000, 1001, false}, {1000, 0, false}} {
		err := rootkey.CheckFile(ownedFile{owner: c.owner}, c.uid)
		if (err == nil) != c.ok {
			t.Errorf("a file of user %d, read by user %d: %v", c.owner, c.uid, err)
		}
	}
}

// ownedFile is a file of mode 0600 that belongs to owner.
type ownedFile struct {
	fs.FileInfo
	owner uint32
}

func (ownedFile) Mode() fs.FileMode { return 0o600 }
func (f ownedFile) Sys() any        { return &syscall.Stat_t{Uid: f.owner} }

func TestLoadTakesAVariableOutOfTheEnvironment(t *testing.T) {
	const name = "KASTELLAN_TEST_ROOT_KEY"
	t.Setenv(name, hex.EncodeToString(material))
	key, err := rootkey.Load(rootkey.Source{Env: name})
	if err != nil {
		t.Fatal(err)
	}
	same, err := rootkey.Load(rootkey.Source{File: writeFile(t, hex.EncodeToString(material), 0o600)})
	if err != nil || same.ID() != key.ID() {
		t.Errorf("the variable gives key %s, the file %s (%v)", key.ID(), same.ID(), err)
	}
	if v, ok := os.LookupEnv(name); ok {
		t.Errorf("the variable is still there: %q", v)
	}
	if _, err := rootkey.Load(rootkey.Source{Env: name}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a variable that is not set: %v", err)
	}
	t.Setenv(name, "secret of another kind")
	if _, err := rootkey.Load(rootkey.Source{Env: name}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a variable without a key: %v", err)
	}
}

func TestLoadWantsOneSource(t *testing.T) {
	t.Parallel()
	for _, src := range []rootkey.Source{{}, {File: writeFile(t, hex.EncodeToString(material), 0o600), Env: "HOME"}} {
		if _, err := rootkey.Load(src); err == nil {
			t.Errorf("%+v is taken", src)
		}
	}
}

func TestGenerateMakesADifferentKeyInANewFileEachTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := make(map[string]bool)
	for i := range 3 {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := rootkey.Generate(path); err != nil {
			t.Fatal(err)
		}
		key, err := rootkey.Load(rootkey.Source{File: path})
		if err != nil {
			t.Fatal(err)
		}
		ids[key.ID()] = true
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("the file has mode %v (%v)", info.Mode(), err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := rootkey.Generate(path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Generate over a file: %v", err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("Generate changed the file that was there (%v)", err)
		}
	}
	if len(ids) != 3 {
		t.Errorf("three keys have the ids %v", ids)
	}
	if err := rootkey.Generate(filepath.Join(dir, "none", "key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Generate in a missing directory: %v", err)
	}
}

func TestAKeyIsNeverShown(t *testing.T) {
	t.Parallel()
	key, err := rootkey.Load(rootkey.Source{File: writeFile(t, strings.Repeat("5a", 32), 0o600)})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	hidden := struct{ key rootkey.Key }{key}
	for _, v := range []any{key, &key, hidden, &hidden, []rootkey.Key{key}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "key", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "key", v)
	}
	for _, form := range []string{"5a5a5a", "5A5A5A", "ZZZ", "90 90 90", "0x5a, 0x5a", "90,90", "WlpaWl"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the key is shown as %q:\n%s", form, out.String())
		}
	}
}
