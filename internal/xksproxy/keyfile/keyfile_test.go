package keyfile_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xksproxy/keyfile"
)

var update = flag.Bool("update", false, "write the golden files anew")

func newFile(t testing.TB, ids ...string) *keyfile.File {
	t.Helper()
	f, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if _, err := f.Add(id, true, true); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func key(t testing.TB, f *keyfile.File, id string) *keyfile.Key {
	t.Helper()
	k, err := f.Key(id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEveryVersionDecryptsWhatItEncrypted(t *testing.T) {
	t.Parallel()
	f := newFile(t, "k")
	k := key(t, f, "k")
	for n := uint32(1); n <= 3; n++ {
		if n > 1 {
			if _, err := f.Rotate("k"); err != nil {
				t.Fatal(err)
			}
		}
		iv, ciphertext, tag, metadata, err := k.Newest().Seal([]byte("hello"), []byte("aad"))
		if err != nil || len(metadata) != keyfile.MetadataSize || len(metadata) > 20 || len(iv) != 12 || len(tag) != 16 || len(ciphertext) != 5 {
			t.Fatal(len(iv), len(ciphertext), len(tag), len(metadata), err)
		}
		if got, ok := keyfile.VersionOf(metadata); !ok || got != n {
			t.Errorf("version %d, want %d", got, n)
		}
		for m := uint32(1); m <= n; m++ {
			v, ok := k.Version(m)
			if !ok {
				t.Fatalf("no version %d", m)
			}
			plaintext, err := v.Open(iv, ciphertext, tag, metadata, []byte("aad"))
			if m == n && (err != nil || string(plaintext) != "hello") {
				t.Errorf("version %d: %q, %v", m, plaintext, err)
			}
			if m != n && !errors.Is(err, keyfile.ErrCiphertext) {
				t.Errorf("version %d opens what version %d sealed: %v", m, n, err)
			}
		}
	}
	for _, n := range []uint32{0, 4, 1<<32 - 1} {
		if _, ok := k.Version(n); ok {
			t.Errorf("there is a version %d", n)
		}
	}
}

func TestEveryBitOfACiphertextCounts(t *testing.T) {
	t.Parallel()
	v := key(t, newFile(t, "k"), "k").Newest()
	iv, ciphertext, tag, metadata, err := v.Seal([]byte("hello"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	parts := [][]byte{iv, ciphertext, tag, metadata, []byte("aad")}
	for i := range parts {
		for bit := range len(parts[i]) * 8 {
			changed := slices.Clone(parts)
			changed[i] = slices.Clone(parts[i])
			changed[i][bit/8] ^= 1 << (bit % 8)
			if _, err := v.Open(changed[0], changed[1], changed[2], changed[3], changed[4]); !errors.Is(err, keyfile.ErrCiphertext) {
				t.Fatalf("part %d, bit %d: %v", i, bit, err)
			}
		}
	}
}

func TestAFileComesBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	path, sealer := filepath.Join(t.TempDir(), "keys"), rootkey.Random().Direct()
	if err := keyfile.Create(path, sealer); err != nil {
		t.Fatal(err)
	}
	var sealed [4][]byte
	err := keyfile.Update(path, sealer, func(f *keyfile.File) error {
		k, err := f.Add("a.b-c_D", true, false)
		if err != nil {
			return err
		}
		if sealed[0], sealed[1], sealed[2], sealed[3], err = k.Newest().Seal([]byte("hello"), nil); err != nil {
			return err
		}
		if _, err := f.Rotate("a.b-c_D"); err != nil {
			return err
		}
		return f.SetEnabled("a.b-c_D", false)
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := keyfile.Load(path, sealer)
	if err != nil {
		t.Fatal(err)
	}
	k := key(t, f, "a.b-c_D")
	if k.Enabled || !k.Encrypt || k.Decrypt || len(k.Versions()) != 2 || len(f.Keys()) != 1 || k.Newest().Created.IsZero() {
		t.Errorf("%+v", k)
	}
	first, _ := k.Version(1)
	if plaintext, err := first.Open(sealed[0], sealed[1], sealed[2], sealed[3], nil); err != nil || string(plaintext) != "hello" {
		t.Errorf("%q %v", plaintext, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestWhatCannotBeDoneIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	path, sealer := filepath.Join(t.TempDir(), "keys"), rootkey.Random().Direct()
	if err := keyfile.Create(path, sealer); err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Create(path, sealer); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating over a file: %v", err)
	}
	before, _ := os.ReadFile(path)
	for name, change := range map[string]func(*keyfile.File) error{
		"rotating nothing": func(f *keyfile.File) error { _, err := f.Rotate("x"); return err },
		"enabling nothing": func(f *keyfile.File) error { return f.SetEnabled("x", true) },
		"an empty id":      func(f *keyfile.File) error { _, err := f.Add("", true, true); return err },
		"a long id":        func(f *keyfile.File) error { _, err := f.Add(strings.Repeat("x", 129), true, true); return err },
		"an odd id":        func(f *keyfile.File) error { _, err := f.Add("a/b", true, true); return err },
		"no usage":         func(f *keyfile.File) error { _, err := f.Add("x", false, false); return err },
		"twice": func(f *keyfile.File) error {
			_, _ = f.Add("x", true, true)
			_, err := f.Add("x", true, true)
			return err
		},
	} {
		if err := keyfile.Update(path, sealer, change); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("a change that failed was written")
	}
	if _, err := keyfile.Load(path, rootkey.Random().Direct()); !errors.Is(err, keyfile.ErrOpen) {
		t.Errorf("another file key: %v", err)
	}
	tampered := slices.Clone(before)
	tampered[len(tampered)-1] ^= 1
	if _, err := keyfile.Parse(tampered, sealer); !errors.Is(err, keyfile.ErrOpen) {
		t.Errorf("a changed file: %v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if e.Name() != "keys" && e.Name() != ".keys.lock" {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestUpdatesAtTheSameTimeTakeTurns(t *testing.T) {
	t.Parallel()
	path, sealer := filepath.Join(t.TempDir(), "keys"), rootkey.Random().Direct()
	if err := keyfile.Create(path, sealer); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			err := keyfile.Update(path, sealer, func(f *keyfile.File) error {
				_, err := f.Add(fmt.Sprint("key-", i), true, true)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, err := keyfile.Load(path, sealer)
	if err != nil || len(f.Keys()) != 10 {
		t.Errorf("%d keys, %v", len(f.Keys()), err)
	}
}

func TestNothingOfAKeyIsStoredInClear(t *testing.T) {
	t.Parallel()
	f, sealer := newFile(t, "some-key-id"), rootkey.Random().Direct()
	data, err := f.Bytes(sealer)
	if err != nil {
		t.Fatal(err)
	}
	for _, clear := range []string{"some-key-id", "material", "versions"} {
		if bytes.Contains(data, []byte(clear)) {
			t.Errorf("the file shows %q", clear)
		}
	}
}

// goldenKey is the file key of the golden file; it protects nothing else.
func goldenKey(t testing.TB) rootkey.Sealer {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, []byte(strings.Repeat("42", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := rootkey.Load(rootkey.Source{File: name})
	if err != nil {
		t.Fatal(err)
	}
	return key.Direct()
}

const goldenText = "sealed by an earlier version of the program"

func TestTheGoldenFileStillOpens(t *testing.T) {
	t.Parallel()
	sealer := goldenKey(t)
	if *update {
		writeGolden(t, sealer)
	}
	f, err := keyfile.Load("testdata/keys-1", sealer)
	if err != nil {
		t.Fatal(err)
	}
	k := key(t, f, "golden")
	if k.Enabled || !k.Encrypt || !k.Decrypt || len(k.Versions()) != 2 {
		t.Errorf("%+v", k)
	}
	sealed, err := os.ReadFile("testdata/ciphertext-1")
	if err != nil {
		t.Fatal(err)
	}
	metadata, rest := sealed[:keyfile.MetadataSize], sealed[keyfile.MetadataSize:]
	iv, ciphertext, tag := rest[:12], rest[12:len(rest)-16], rest[len(rest)-16:]
	number, _ := keyfile.VersionOf(metadata)
	v, ok := k.Version(number)
	if !ok || number != 2 {
		t.Fatalf("version %d", number)
	}
	if plaintext, err := v.Open(iv, ciphertext, tag, metadata, []byte("aad")); err != nil || string(plaintext) != goldenText {
		t.Errorf("%q %v", plaintext, err)
	}
}

func writeGolden(t testing.TB, sealer rootkey.Sealer) {
	f := newFile(t, "golden")
	v, err := f.Rotate("golden")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetEnabled("golden", false); err != nil {
		t.Fatal(err)
	}
	iv, ciphertext, tag, metadata, err := v.Seal([]byte(goldenText), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := f.Bytes(sealer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"keys-1": data, "ciphertext-1": slices.Concat(metadata, iv, ciphertext, tag)} {
		if err := os.WriteFile(filepath.Join("testdata", name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// clearSealer seals nothing, so that the fuzzer reaches what is inside.
type clearSealer struct{}

func (clearSealer) Seal(_, _ string, b []byte) ([]byte, error) { return slices.Clone(b), nil }
func (clearSealer) Open(_, _ string, b []byte) ([]byte, error) { return slices.Clone(b), nil }

// FuzzParse: whatever is accepted means the same when it is written and read again.
func FuzzParse(f *testing.F) {
	for _, ids := range [][]string{nil, {"a"}, {"a", "b"}} {
		data, err := newFile(f, ids...).Bytes(clearSealer{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("kastellan-xks-keys 1\n{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := keyfile.Parse(data, clearSealer{})
		if err != nil {
			return
		}
		once, err := file.Bytes(clearSealer{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := keyfile.Parse(once, clearSealer{})
		if err != nil {
			t.Fatalf("what was accepted and written is refused: %v", err)
		}
		if twice, _ := again.Bytes(clearSealer{}); !bytes.Equal(once, twice) {
			t.Error("reading and writing changes the file")
		}
	})
}

func TestAnUpdateKeepsModeAndOwnerOfTheFile(t *testing.T) {
	t.Parallel()
	path, sealer := filepath.Join(t.TempDir(), "keys"), rootkey.Random().Direct()
	if err := keyfile.Create(path, sealer); err != nil {
		t.Fatal(err)
	}
	uid := os.Geteuid()
	if uid == 0 { // only root can give files away
		uid = 12345
	}
	if err := os.Chown(path, uid, -1); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	err := keyfile.Update(path, sealer, func(f *keyfile.File) error {
		_, err := f.Add("k", true, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != uid || info.Mode().Perm() != 0o640 {
		t.Errorf("the file has the owner %d and the mode %v", owner, info.Mode())
	}
}
