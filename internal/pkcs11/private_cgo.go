//go:build cgo && unix

package pkcs11

/*
#include <sys/resource.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

// Where core dumps go to a program the limit does not count, the flag does.
static void keep_memory_private(void)
{
	struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
#ifdef __linux__
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}
*/
import "C"

// keepMemoryPrivate makes this process leave no core dump, which would hold
// the PIN, and keeps other processes of the same user from reading its memory.
func keepMemoryPrivate() { C.keep_memory_private() }
