package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// GuardMemory makes the process leave no core dump, which would hold keys, and keeps other
// processes of the same user from reading its memory. Where core dumps go to a program the limit
// does not count, the flag does. It concerns Linux only.
func GuardMemory() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keeping the memory private: %w", err)
	}
	return nil
}
