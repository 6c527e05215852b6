package devmode_test

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/devmode"
	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// The scripts of the command start servers with HSMs; here they are hidden.
func TestMain(m *testing.M) {
	if err := os.Setenv("SOFTHSM2_MODULE", "/nowhere/libsofthsm2.so"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func start(t *testing.T, cfg devmode.Config) (*devmode.Server, error) {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	return devmode.Start(t.Context(), cfg)
}

// run is one life of a server that keeps its data in dir.
func run(t *testing.T, dir string, during func(s *devmode.Server, call caller)) {
	t.Helper()
	s, err := start(t, devmode.Config{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	credentials := sigv4.Credentials{AccessKeyID: devmode.AccessKeyID, Secret: secret.NewText(devmode.SecretAccessKey)}
	client := kmsclient.New(s.Endpoint, s.Region, credentials)
	during(s, func(operation string, in map[string]any, out any) {
		t.Helper()
		if err := client.Call(t.Context(), kmsclient.KMS+operation, in, out); err != nil {
			t.Fatalf("%s: %v", operation, err)
		}
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// disconnect disconnects a key store and waits until it is.
func disconnect(t *testing.T, call caller, id string) {
	t.Helper()
	in := map[string]any{"CustomKeyStoreId": id}
	call("DisconnectCustomKeyStore", in, nil)
	var answer struct {
		CustomKeyStores []struct{ ConnectionState string }
	}
	for t.Context().Err() == nil {
		call("DescribeCustomKeyStores", in, &answer)
		if answer.CustomKeyStores[0].ConnectionState == "DISCONNECTED" {
			return
		}
	}
}

// caller calls an operation that must succeed.
type caller func(operation string, in map[string]any, out any)

// external is the external key store and its key; the key's id is "" if there is none.
func external(t *testing.T, s *devmode.Server) (store devmode.Store, key string) {
	t.Helper()
	for _, k := range s.Keys {
		if k.Alias == "alias/dev-external" {
			key = k.ID
		}
	}
	if len(s.Stores) != 1 {
		t.Fatalf("the key stores are %v", s.Stores)
	}
	return s.Stores[0], key
}

func TestASecondStartFindsEverythingAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var store devmode.Store
	var key string
	run(t, dir, func(s *devmode.Server, _ caller) { store, key = external(t, s) })
	if store.State != "CONNECTED" || key == "" {
		t.Fatalf("the first start makes %v with key %q", store, key)
	}
	run(t, dir, func(s *devmode.Server, _ caller) {
		if again, same := external(t, s); again != store || same != key {
			t.Errorf("the second start finds %v with key %q, not %v with key %q", again, same, store, key)
		}
	})
}

func TestAStartThatWasInterruptedIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var key string
	run(t, dir, func(s *devmode.Server, call caller) { // as if it had ended before the store was connected
		var store devmode.Store
		store, key = external(t, s)
		call("DeleteAlias", map[string]any{"AliasName": "alias/dev-external"}, nil)
		disconnect(t, call, store.ID)
	})
	run(t, dir, func(s *devmode.Server, _ caller) {
		if store, found := external(t, s); store.State != "CONNECTED" || found != key {
			t.Errorf("the store is %s and its key %q, want CONNECTED and %q", store.State, found, key)
		}
	})
}

func TestAStoreThatSomebodyDisconnectedStaysSo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, dir, func(s *devmode.Server, call caller) {
		store, _ := external(t, s)
		disconnect(t, call, store.ID)
	})
	run(t, dir, func(s *devmode.Server, _ caller) {
		if store, _ := external(t, s); store.State != "DISCONNECTED" {
			t.Errorf("the store is %s", store.State)
		}
	})
}

func TestWhatTheServerRefusesIsLeftOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, dir, func(s *devmode.Server, call caller) {
		store, _ := external(t, s)
		disconnect(t, call, store.ID)
		call("UpdateCustomKeyStore", map[string]any{"CustomKeyStoreId": store.ID, "NewCustomKeyStoreName": "mine"}, nil)
	})
	run(t, dir, func(s *devmode.Server, _ caller) {
		if len(s.Keys) != 1 || s.Keys[0].Alias != "alias/dev" {
			t.Errorf("the keys are %v", s.Keys)
		}
		for _, want := range []string{"dev-hsm is left out: SOFTHSM2_MODULE names", "dev-external is left out: CreateCustomKeyStore: "} {
			if !strings.Contains(strings.Join(s.LeftOut, "\n"), want) {
				t.Errorf("left out is %q, without %q", s.LeftOut, want)
			}
		}
	})
}

func TestNobodyElseCanReadWhatIsKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	run(t, dir, func(*devmode.Server, caller) {})
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAStartIsRefused(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	spoilt := t.TempDir()
	if err := os.WriteFile(filepath.Join(spoilt, "dev.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  devmode.Config
		want string
	}{
		{"on an address that others can reach", devmode.Config{Listen: "0.0.0.0:0"}, "not a loopback address"},
		{"on every address", devmode.Config{Listen: ":4599"}, "not a loopback address"},
		{"on a port that is taken", devmode.Config{Listen: taken.Addr().String()}, "address already in use"},
		{"with data that is somebody else's", devmode.Config{Directory: spoilt}, "dev.json: it is not what a development server left there"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := start(t, test.cfg)
			if err == nil {
				_ = s.Close()
				t.Fatal("it starts")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want %q", err, test.want)
			}
		})
	}
}

func TestTwoServersDoNotShareData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, dir, func(*devmode.Server, caller) {
		if s, err := start(t, devmode.Config{Directory: dir}); err == nil {
			_ = s.Close()
			t.Error("a second server starts on the same data")
		} else if !strings.Contains(err.Error(), "in use by another process") {
			t.Error(err)
		}
	})
}

func TestATemporaryServerLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := devmode.Start(ctx, devmode.Config{Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Ephemeral {
		t.Error("it keeps its data")
	}
	cancel()
	select {
	case <-s.Done():
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.Directory); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}
