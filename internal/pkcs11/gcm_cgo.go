//go:build cgo && unix

package pkcs11

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// The parts of the PKCS#11 v2.40 interface that are called from here. All
// integers are CK_ULONG.

struct mechanism {
	unsigned long type;
	void *parameter;
	unsigned long parameter_len;
};

struct gcm_params {
	unsigned char *iv;
	unsigned long iv_len, iv_bits;
	unsigned char *aad;
	unsigned long aad_len, tag_bits;
};

struct functions {
	unsigned char major, minor;
	void *entry[68]; // in the order of the standard's function list
};

enum { ENCRYPT_INIT = 29, ENCRYPT = 30, DECRYPT_INIT = 33, DECRYPT = 34 };

typedef unsigned long (*get_function_list)(struct functions **);
typedef unsigned long (*crypt_init)(unsigned long, struct mechanism *, unsigned long);
typedef unsigned long (*crypt)(unsigned long, unsigned char *, unsigned long, unsigned char *, unsigned long *);

// load opens a module; on failure the reason is allocated in *reason.
static struct functions *load(const char *path, char **reason, unsigned long *rv)
{
	struct functions *list = NULL;
	get_function_list get;
	void *handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
	if (handle == NULL || (get = (get_function_list)dlsym(handle, "C_GetFunctionList")) == NULL) {
		const char *text = dlerror();
		*reason = strdup(text ? text : "dlopen failed");
		return NULL;
	}
	*rv = get(&list);
	if (*rv != 0 || list == NULL)
		return NULL;
	return list;
}

struct gcm_result {
	unsigned long rv, out_len;
	int begun; // the Init function succeeded
};

// gcm does C_EncryptInit and C_Encrypt, or the same to decrypt.
static struct gcm_result gcm(struct functions *f, int decrypt, unsigned long session, unsigned long key,
	unsigned char *iv, unsigned long iv_len, unsigned char *aad, unsigned long aad_len,
	unsigned char *in, unsigned long in_len, unsigned char *out, unsigned long out_len)
{
	struct gcm_params params = {iv, iv_len, iv_len * 8, aad, aad_len, 128};
	struct mechanism mechanism = {0x1087, &params, sizeof params}; // CKM_AES_GCM
	struct gcm_result r = {0, out_len, 0};
	r.rv = ((crypt_init)f->entry[decrypt ? DECRYPT_INIT : ENCRYPT_INIT])(session, &mechanism, key);
	if (r.rv != 0)
		return r;
	r.begun = 1;
	r.rv = ((crypt)f->entry[decrypt ? DECRYPT : ENCRYPT])(session, in, in_len, out, &r.out_len);
	return r;
}

#cgo noescape gcm
#cgo nocallback gcm
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// functions is a module's function list. The binding's Encrypt and Decrypt
// cross into C twice, allocate there, ask for the length first, and
// lose the buffer when the module fails: whoever sends wrong ciphertexts would eat our
// memory. One crossing with our own buffers does none of that.
type functions struct{ list *C.struct_functions }

// loadFunctions opens the module at path; it stays open for good.
func loadFunctions(path string) (functions, error) {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var reason *C.char
	var rv C.ulong
	list := C.load(cpath, &reason, &rv)
	switch {
	case reason != nil:
		defer C.free(unsafe.Pointer(reason))
		return functions{}, fmt.Errorf("%w: %s", ErrModule, C.GoString(reason))
	case rv != 0:
		return functions{}, fmt.Errorf("%w: %w", ErrModule, &Error{Function: "C_GetFunctionList", RV: uint(rv)})
	case list == nil:
		return functions{}, fmt.Errorf("%w: it has no function list", ErrModule)
	case list.major != 2 && list.major != 3:
		return functions{}, fmt.Errorf("%w: it speaks PKCS#11 %d.%d", ErrModule, list.major, list.minor)
	}
	return functions{list}, nil
}

// gcmSlack is room in the output beyond the input for a tag, an appended IV, and what
// modules like to have.
const gcmSlack = 64

// encryptGCM gives ciphertext, tag and whatever the module appends. The
// module may overwrite iv.
func (f functions) encryptGCM(session, key uint, iv, aad, plaintext []byte) ([]byte, error) {
	return f.gcm(false, session, key, iv, aad, plaintext, make([]byte, len(plaintext)+gcmSlack))
}

// decryptGCM undoes encryptGCM; sealed is ciphertext and tag.
func (f functions) decryptGCM(session, key uint, iv, aad, sealed []byte) ([]byte, error) {
	return f.gcm(true, session, key, iv, aad, sealed, make([]byte, len(sealed)+gcmSlack))
}

func (f functions) gcm(decrypt bool, session, key uint, iv, aad, in, out []byte) ([]byte, error) {
	direction, begin, finish := C.int(0), "C_EncryptInit", "C_Encrypt"
	if decrypt {
		direction, begin, finish = 1, "C_DecryptInit", "C_Decrypt"
	}
	r := C.gcm(f.list, direction, C.ulong(session), C.ulong(key),
		bytePointer(iv), C.ulong(len(iv)), bytePointer(aad), C.ulong(len(aad)),
		bytePointer(in), C.ulong(len(in)), bytePointer(out), C.ulong(len(out)))
	switch {
	case r.begun == 0:
		return nil, &Error{Function: begin, RV: uint(r.rv)}
	case r.rv != 0:
		return nil, &Error{Function: finish, RV: uint(r.rv)}
	case uint(r.out_len) > uint(len(out)):
		return nil, fmt.Errorf("pkcs11: %s gave an impossible length", finish)
	}
	return out[:r.out_len], nil
}

func bytePointer(b []byte) *C.uchar {
	return (*C.uchar)(unsafe.Pointer(unsafe.SliceData(b)))
}
