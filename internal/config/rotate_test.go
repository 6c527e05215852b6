package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/rootkey"
)

func TestARootKeyIsNotReplacedWhereThereIsNoStore(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	cfg, err := config.Load(write(t, dir, "kastellan.yaml", valid, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(dir, "new.key")
	if err := rootkey.Generate(next); err != nil {
		t.Fatal(err)
	}
	key, err := rootkey.Load(rootkey.Source{File: next})
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.RotateRootKey(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Errorf("it leaves something behind: %v", err)
	}
}
