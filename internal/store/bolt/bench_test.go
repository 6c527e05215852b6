package bolt_test

import (
	"fmt"
	"os"
	"testing"

	"kastellan.dev/internal/store"
)

// BenchmarkUpdate has its floor beside it: one fsync of one written page.
func BenchmarkUpdate(b *testing.B) {
	b.Run("floor=write and fsync 4 KiB", func(b *testing.B) {
		f, err := os.CreateTemp(b.TempDir(), "")
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		page := make([]byte, 4096)
		for b.Loop() {
			if _, err := f.WriteAt(page, 0); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, watchers := range []int{0, 4} {
		b.Run(fmt.Sprintf("1 KiB value, watchers=%d", watchers), func(b *testing.B) {
			s := create(b, newPath(b))
			for range watchers {
				go func() {
					_ = s.Watch(b.Context(),
						func(store.Revision, store.Reader) error { return nil },
						func(store.Change) error { return nil })
				}()
			}
			value := make([]byte, 1024)
			for i := 0; b.Loop(); i++ {
				if err := put(b.Context(), s, fmt.Sprintf("keys/%d", i%1000), value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkView(b *testing.B) {
	s := create(b, newPath(b))
	if err := put(b.Context(), s, "keys/1", make([]byte, 1024)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		err := s.View(b.Context(), func(r store.Reader) error {
			_, _, err := r.Get("keys/1")
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
