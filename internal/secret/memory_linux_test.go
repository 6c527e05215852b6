package secret_test

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"kastellan.dev/internal/secret"
)

// TestGuardMemory looks at a process of its own: there is no way back.
func TestGuardMemory(t *testing.T) {
	t.Parallel()
	const guarded = "KASTELLAN_TEST_GUARDED"
	if os.Getenv(guarded) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestGuardMemory$")
		child.Env = append(os.Environ(), guarded+"=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	if err := secret.GuardMemory(); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit != (unix.Rlimit{}) {
		t.Errorf("%+v, %v", limit, err)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("dumpable is %d, %v", dumpable, err)
	}
}
