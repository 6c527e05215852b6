// A PKCS#11 module for tests. It stands before another module and forwards
// every call, unless the table of faults says that the call shall fail, hang, crash
// or be late. The table is a file that the test writes and this module maps,
// so that counts hold across processes.
//
// Every function of PKCS#11 takes at most eight arguments, all of them
// integers or pointers: one shape of forwarder serves them all on the calling
// conventions of Linux and macOS.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef unsigned long word;
typedef word (*function)(word, word, word, word, word, word, word, word);

enum { FORWARD, RETURN, HANG, CRASH, DELAY, NOISE, MAKE_IV, APPEND_IV, FLAGS };
enum { DEVICE_ERROR = 0x30 };

// fault is one row of the table; the Go side writes the same layout.
struct fault {
	_Atomic uint64_t action, argument;
	_Atomic int64_t after;  // calls that are spared first
	_Atomic int64_t count;  // calls that fail then; negative: all
	_Atomic uint64_t calls; // how many calls there were
	_Atomic uint64_t hits;  // how many of them met the fault
};

#define FUNCTIONS \
	X(C_Initialize) \
	X(C_Finalize) \
	X(C_GetInfo) \
	X(C_GetFunctionList) \
	X(C_GetSlotList) \
	X(C_GetSlotInfo) \
	X(C_GetTokenInfo) \
	X(C_GetMechanismList) \
	X(C_GetMechanismInfo) \
	X(C_InitToken) \
	X(C_InitPIN) \
	X(C_SetPIN) \
	X(C_OpenSession) \
	X(C_CloseSession) \
	X(C_CloseAllSessions) \
	X(C_GetSessionInfo) \
	X(C_GetOperationState) \
	X(C_SetOperationState) \
	X(C_Login) \
	X(C_Logout) \
	X(C_CreateObject) \
	X(C_CopyObject) \
	X(C_DestroyObject) \
	X(C_GetObjectSize) \
	X(C_GetAttributeValue) \
	X(C_SetAttributeValue) \
	X(C_FindObjectsInit) \
	X(C_FindObjects) \
	X(C_FindObjectsFinal) \
	X(C_EncryptInit) \
	X(C_Encrypt) \
	X(C_EncryptUpdate) \
	X(C_EncryptFinal) \
	X(C_DecryptInit) \
	X(C_Decrypt) \
	X(C_DecryptUpdate) \
	X(C_DecryptFinal) \
	X(C_DigestInit) \
	X(C_Digest) \
	X(C_DigestUpdate) \
	X(C_DigestKey) \
	X(C_DigestFinal) \
	X(C_SignInit) \
	X(C_Sign) \
	X(C_SignUpdate) \
	X(C_SignFinal) \
	X(C_SignRecoverInit) \
	X(C_SignRecover) \
	X(C_VerifyInit) \
	X(C_Verify) \
	X(C_VerifyUpdate) \
	X(C_VerifyFinal) \
	X(C_VerifyRecoverInit) \
	X(C_VerifyRecover) \
	X(C_DigestEncryptUpdate) \
	X(C_DecryptDigestUpdate) \
	X(C_SignEncryptUpdate) \
	X(C_DecryptVerifyUpdate) \
	X(C_GenerateKey) \
	X(C_GenerateKeyPair) \
	X(C_WrapKey) \
	X(C_UnwrapKey) \
	X(C_DeriveKey) \
	X(C_SeedRandom) \
	X(C_GenerateRandom) \
	X(C_GetFunctionStatus) \
	X(C_CancelFunction) \
	X(C_WaitForSlotEvent) \

#define X(name) I_##name,
enum { FUNCTIONS COUNT };
#undef X

struct functions {
	unsigned char major, minor;
	function entry[COUNT];
};

static struct functions *real;
static struct functions ours;
static struct fault *faults;

// hit tells whether this call is one that the fault is for.
static int hit(struct fault *f)
{
	atomic_fetch_add(&f->calls, 1);
	if (atomic_load(&f->action) == FORWARD)
		return 0;
	if (atomic_load(&f->after) > 0 && atomic_fetch_sub(&f->after, 1) > 0)
		return 0;
	if (atomic_load(&f->count) >= 0 && atomic_fetch_sub(&f->count, 1) <= 0) {
		atomic_store(&f->count, 0);
		return 0;
	}
	atomic_fetch_add(&f->hits, 1);
	return 1;
}

// noise writes where a module should not.
static void noise(void)
{
	static const char text[] = "a module that talks\n";
	for (int fd = 1; fd <= 2; fd++)
		if (write(fd, text, sizeof text - 1) < 0)
			return;
}

enum { IV_SIZE = 12, MAX_IV_SIZE = 16 };
static _Thread_local unsigned char own_iv[MAX_IV_SIZE];

// iv_size is how long the IVs are that the module makes: 12 bytes, or 16 if the fault says so.
static word iv_size(struct fault *f)
{
	return atomic_load(&f->argument) == MAX_IV_SIZE ? MAX_IV_SIZE : IV_SIZE;
}

// make_iv does what some HSMs do when an encryption with AES-GCM begins: it
// makes an IV, and writes it into the caller's buffer if there is one.
static void make_iv(word mechanism, word size)
{
	struct { word type; void *parameter; word length; } *m = (void *)mechanism;
	struct { unsigned char *iv; word length, bits; } *gcm = m->parameter;
	static _Atomic uint64_t count;
	uint64_t n = atomic_fetch_add(&count, 1) + 1;
	memcpy(own_iv, &n, sizeof n);
	if (gcm->iv != NULL) {
		memcpy(gcm->iv, own_iv, IV_SIZE);
		return;
	}
	gcm->iv = own_iv;
	gcm->length = size;
	gcm->bits = 8 * size;
}

// FLAGS_OFFSET is where the flags of a CK_TOKEN_INFO lie, after four texts.
enum { FLAGS_OFFSET = 32 + 32 + 16 + 16 };

static word forward(int i, word a, word b, word c, word d, word e, word f, word g, word h)
{
	struct fault *fault = faults ? &faults[i] : NULL;
	if (fault && hit(fault)) {
		switch (atomic_load(&fault->action)) {
		case RETURN:
			return atomic_load(&fault->argument);
		case HANG: // until the fault is cleared
			while (atomic_load(&fault->action) == HANG)
				usleep(1000);
			break;
		case CRASH:
			*(volatile int *)0 = 0;
			break;
		case DELAY:
			usleep(1000 * atomic_load(&fault->argument));
			break;
		case NOISE:
			noise();
			break;
		case MAKE_IV:
			make_iv(b, iv_size(fault));
			break;
		case APPEND_IV: {
			word rv = real->entry[i](a, b, c, d, e, f, g, h);
			if (rv == 0) {
				memcpy((unsigned char *)d + *(word *)e, own_iv, iv_size(fault));
				*(word *)e += iv_size(fault);
			}
			return rv;
		}
		case FLAGS: {
			word rv = real->entry[i](a, b, c, d, e, f, g, h);
			if (rv == 0)
				*(word *)((unsigned char *)b + FLAGS_OFFSET) |= atomic_load(&fault->argument);
			return rv;
		}
		}
	}
	return real->entry[i](a, b, c, d, e, f, g, h);
}

#define X(name)                                                                    \
	static word forward_##name(word a, word b, word c, word d, word e, word f, word g, word h) \
	{                                                                          \
		return forward(I_##name, a, b, c, d, e, f, g, h);                  \
	}
FUNCTIONS
#undef X

static struct fault *map_faults(void)
{
	const char *path = getenv("KASTELLAN_FAULTS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		return NULL;
	void *p = mmap(NULL, COUNT * sizeof(struct fault), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

word C_GetFunctionList(struct functions **list)
{
	const char *path = getenv("KASTELLAN_FAULTS_MODULE");
	void *handle = dlopen(path ? path : "/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
	word (*get)(struct functions **) = handle ? (word (*)(struct functions **))dlsym(handle, "C_GetFunctionList") : NULL;
	if (get == NULL || get(&real) != 0)
		return DEVICE_ERROR;
	faults = map_faults(); // in a process that loads the module again the table may be another one
	ours.major = real->major;
	ours.minor = real->minor;
#define X(name) ours.entry[I_##name] = forward_##name;
	FUNCTIONS
#undef X
	*list = &ours;
	return 0;
}
