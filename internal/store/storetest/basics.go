package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kastellan.dev/internal/store"
)

func testEmpty(t *testing.T, s store.Store) {
	wantContent(t, s, "", "")
	rev, err := s.Update(testContext(t), func(tx store.Tx) error {
		if _, ok, err := tx.Get("a"); ok || err != nil {
			t.Errorf("Get gives ok %v, error %v", ok, err)
		}
		return nil
	})
	if rev != 0 || err != nil {
		t.Errorf("an Update that writes nothing gives revision %d, error %v", rev, err)
	}
}

func testPutGetDelete(t *testing.T, s store.Store) {
	put(t, s, "a", "1", "b", "", "c", "\x00\xff")
	wantContent(t, s, "", "a=1;b=;c=\x00\xff;")
	err := s.View(testContext(t), func(r store.Reader) error {
		v, ok, err := r.Get("b")
		if !ok || len(v) != 0 || v == nil {
			t.Errorf("an empty value is got as %#v, ok %v", v, ok)
		}
		if v, ok, _ := r.Get("bb"); ok {
			t.Errorf("a key that was never put has value %q", v)
		}
		return err
	})
	if err != nil {
		t.Errorf("View: %v", err)
	}
	put(t, s, "a", "2")
	_, err = s.Update(testContext(t), func(tx store.Tx) error {
		return errors.Join(tx.Delete("b"), tx.Delete("b"), tx.Delete("never put"))
	})
	if err != nil {
		t.Errorf("deleting: %v", err)
	}
	wantContent(t, s, "", "a=2;c=\x00\xff;")
}

func testScan(t *testing.T, s store.Store) {
	put(t, s, "b/2", "", "b/10", "", "b", "", "b0", "", "a\xff", "", "b/\xff", "", "b/\xff\xff", "", "c", "", "b/", "")
	for _, c := range []struct{ prefix, want string }{
		{"", "a\xff=;b=;b/=;b/10=;b/2=;b/\xff=;b/\xff\xff=;b0=;c=;"},
		{"b/", "b/=;b/10=;b/2=;b/\xff=;b/\xff\xff=;"},
		{"b/1", "b/10=;"},
		{"b/\xff", "b/\xff=;b/\xff\xff=;"},
		{"b/3", ""},
		{"d", ""},
		{"\xff", ""},
	} {
		wantContent(t, s, c.prefix, c.want)
	}
	err := s.View(testContext(t), func(r store.Reader) error {
		for e, err := range r.Scan("b/") {
			if err != nil || e.Key != "b/" {
				t.Errorf("the first entry is %q, error %v", e.Key, err)
			}
			break
		}
		return nil
	})
	if err != nil {
		t.Errorf("View: %v", err)
	}
}

func testOwnWrites(t *testing.T, s store.Store) {
	put(t, s, "k/1", "old", "k/2", "old", "k/3", "old")
	_, err := s.Update(testContext(t), func(tx store.Tx) error {
		if err := errors.Join(tx.Put("k/0", []byte("new")), tx.Put("k/2", []byte("new")), tx.Delete("k/3")); err != nil {
			return err
		}
		if got, err := dump(tx, "k/"); err != nil || got != "k/0=new;k/1=old;k/2=new;" {
			t.Errorf("inside the transaction: %q, error %v", got, err)
		}
		if _, ok, _ := tx.Get("k/3"); ok {
			t.Error("a deleted key is got inside the transaction")
		}
		return tx.Put("k/3", []byte("again"))
	})
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "", "k/0=new;k/1=old;k/2=new;k/3=again;")
}

func testWriteWhileScanning(t *testing.T, s store.Store) {
	var pairs []string
	for i := range 500 {
		pairs = append(pairs, fmt.Sprintf("k/%04d", i), "v")
	}
	put(t, s, pairs...)
	seen := 0
	_, err := s.Update(testContext(t), func(tx store.Tx) error {
		seen = 0
		for e, err := range tx.Scan("k/") {
			if err != nil {
				return err
			}
			seen++
			if err := errors.Join(tx.Delete(e.Key), tx.Put("moved/"+e.Key, e.Value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || seen != 500 {
		t.Errorf("the scan gave %d of 500 entries, error %v", seen, err)
	}
	wantContent(t, s, "k/", "")
}

// testModel runs random transactions on one store and on a map.
func testModel(t *testing.T, s store.Store) {
	model := make(map[string]string)
	key := rapid.StringMatching(`[ab]{1,3}/?[ab]?`)
	rapid.Check(t, func(rt *rapid.T) {
		next := maps.Clone(model)
		fails := errors.New("as drawn")
		abort := rapid.Bool().Draw(rt, "abort")
		type op struct{ key, value string }
		ops := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) op {
			return op{key.Draw(rt, "key"), rapid.SampledFrom([]string{"", "delete", "x", "y"}).Draw(rt, "value")}
		}), 0, 6).Draw(rt, "operations")
		prefix := rapid.SampledFrom([]string{"", "a", "ab", "b/", "aaa/a"}).Draw(rt, "prefix")
		_, err := s.Update(testContext(t), func(tx store.Tx) error {
			for _, o := range ops {
				if err := apply(tx, next, o.key, o.value); err != nil {
					return err
				}
			}
			if got, err := dump(tx, prefix); err != nil || got != dumpMap(next, prefix) {
				rt.Errorf("inside: %q, want %q, error %v", got, dumpMap(next, prefix), err)
			}
			if abort {
				return fails
			}
			return nil
		})
		switch {
		case abort && !errors.Is(err, fails), !abort && err != nil:
			rt.Fatalf("Update: %v", err)
		case !abort:
			model = next
		}
		err = s.View(testContext(t), func(r store.Reader) error {
			got, err := dump(r, prefix)
			if got != dumpMap(model, prefix) {
				rt.Errorf("outside: %q, want %q", got, dumpMap(model, prefix))
			}
			return err
		})
		if err != nil {
			rt.Fatalf("View: %v", err)
		}
	})
}

func apply(tx store.Tx, model map[string]string, key, value string) error {
	if value == "delete" {
		delete(model, key)
		return tx.Delete(key)
	}
	model[key] = value
	return tx.Put(key, []byte(value))
}

func dumpMap(m map[string]string, prefix string) string {
	text := ""
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(key, prefix) {
			text += fmt.Sprintf("%s=%s;", key, m[key])
		}
	}
	return text
}

func testLimits(t *testing.T, s store.Store) {
	longKey, longValue := strings.Repeat("k", 1024), bytes.Repeat([]byte("v"), 1<<20)
	put(t, s, longKey, string(longValue))
	err := s.View(testContext(t), func(r store.Reader) error {
		v, ok, err := r.Get(longKey)
		if !ok || !bytes.Equal(v, longValue) {
			t.Errorf("the longest value is got with %d bytes, ok %v", len(v), ok)
		}
		return err
	})
	if err != nil {
		t.Errorf("View: %v", err)
	}
	for _, c := range []struct {
		name, key string
		value     []byte
	}{
		{"an empty key", "", nil},
		{"a key of 1025 bytes", longKey + "k", nil},
		{"a value of 1 MiB and a byte", "k", append(longValue, 'v')},
	} {
		if _, err := s.Update(testContext(t), func(tx store.Tx) error { return tx.Put(c.key, c.value) }); err == nil {
			t.Errorf("%s is taken", c.name)
		}
	}
}

// testCopies writes into what it gave, and keeps what it got.
func testCopies(t *testing.T, s store.Store) {
	put(t, s, "a", "old")
	var got []byte
	_, err := s.Update(testContext(t), func(tx store.Tx) error {
		v, _, err := tx.Get("a")
		if err != nil {
			return err
		}
		got = v
		mine := []byte("new")
		if err := tx.Put("a", mine); err != nil {
			return err
		}
		copy(mine, "bad")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "", "a=new;")
	for range 8 { // reuse the space that the old value had
		put(t, s, "a", "xxx")
	}
	if string(got) != "old" {
		t.Errorf("a value that was got became %q after its transaction", got)
	}
}
