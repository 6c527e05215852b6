package rootkey_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"kastellan.dev/internal/aeadtest"
	"kastellan.dev/internal/rootkey"
)

// What is told of bytes that do not open. Nothing tells one kind of change from
// another, but for a key-encryption key that does not exist.
const (
	errDirect = "rootkey: the sealed bytes were changed, or sealed under another key, purpose or context"
	errSealed = "rootkey: the sealed bytes were changed, or sealed for another purpose or context"
	errNoKEK  = "rootkey: there is no key-encryption key "
)

// kindOfSealer is a sealer with the format that it writes.
type kindOfSealer struct {
	sealer rootkey.Sealer
	header int // its size in bytes
	err    func(mutant []byte) string
}

// kinds gives one of each kind. The key ring has the keys 1 and 2.
func kinds(t *testing.T) (mine, others map[string]kindOfSealer) {
	t.Helper()
	direct := func([]byte) string { return errDirect }
	ring := func(mutant []byte) string {
		if len(mutant) >= 45 && mutant[0] == 1 {
			if n := binary.BigEndian.Uint32(mutant[1:]); n != 1 && n != 2 {
				return errNoKEK
			}
		}
		return errSealed
	}
	kindsOf := func() map[string]kindOfSealer {
		root, db := rootkey.Random(), newDB(t)
		k := openKeyring(t, root, db)
		if err := k.Renew(t.Context(), root, db); err != nil {
			t.Fatal(err)
		}
		return map[string]kindOfSealer{"key ring": {k, 5, ring}, "direct": {root.Direct(), 17, direct}}
	}
	return kindsOf(), kindsOf()
}

func mustNotOpen(t *testing.T, what string, s rootkey.Sealer, purpose, context string, sealed []byte, want string) {
	t.Helper()
	got, err := s.Open(purpose, context, sealed)
	if got != nil {
		t.Fatalf("%s: Open gives %x", what, got)
	}
	if err == nil || err.Error() != want && !(want == errNoKEK && strings.HasPrefix(err.Error(), errNoKEK)) {
		t.Fatalf("%s: error %v, want %s", what, err, want)
	}
}

func TestNothingThatWasChangedOpens(t *testing.T) {
	t.Parallel()
	mine, others := kinds(t)
	for name, kind := range mine {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const purpose, context = "key material", "arn:aws:kms:eu-central-1:111122223333:key/1234"
			for _, plaintext := range []string{"", "x", "thirty-two bytes of key material"} {
				sealed := seal(t, kind.sealer, purpose, context, plaintext)
				n := kind.header
				for change, mutant := range aeadtest.Mutants(sealed, 1, n, n+12, n+24, len(sealed)-16) {
					mustNotOpen(t, change, kind.sealer, purpose, context, mutant, kind.err(mutant))
				}
				for change, mutant := range aeadtest.Mutants([]byte(purpose), 3) {
					mustNotOpen(t, "purpose: "+change, kind.sealer, string(mutant), context, sealed, kind.err(sealed))
				}
				for change, mutant := range aeadtest.Mutants([]byte(context), 3, 30) {
					mustNotOpen(t, "context: "+change, kind.sealer, purpose, string(mutant), sealed, kind.err(sealed))
				}
				mustNotOpen(t, "purpose and context exchanged", kind.sealer, context, purpose, sealed, kind.err(sealed))
				mustNotOpen(t, "purpose and context in one", kind.sealer, purpose+context, "", sealed, kind.err(sealed))
				mustNotOpen(t, "under another root key", others[name].sealer, purpose, context, sealed, kind.err(sealed))

				other := seal(t, kind.sealer, "credential", context, plaintext)
				for _, at := range []int{n, n + 12, n + 24, len(sealed) - 16} {
					mustNotOpen(t, "the rest of what was sealed for another purpose", kind.sealer, purpose, context,
						append(sealed[:at:at], other[at:]...), kind.err(sealed))
				}
				wantOpens(t, kind.sealer, purpose, context, sealed, plaintext)
			}
		})
	}
}

// The two formats begin with the same byte, and their keys are related: the
// root key encrypts key-encryption keys.
func TestOneFormatDoesNotOpenAsAnother(t *testing.T) {
	t.Parallel()
	root, db := rootkey.Random(), newDB(t)
	ring := openKeyring(t, root, db)
	record := content(t, db)["kek/1"]
	mustNotOpen(t, "a key-encryption key's record", root.Direct(), "", "", record, errDirect)
	mustNotOpen(t, "a key-encryption key's record, its number as context", root.Direct(), "kastellan key-encryption key", "\x00\x00\x00\x01", record, errDirect)
	mustNotOpen(t, "a record, by the key ring", ring, "", "", record, errNoKEK)

	const purpose, context = "key material", "context"
	direct := seal(t, root.Direct(), purpose, context, "secret")
	mustNotOpen(t, "what was sealed directly, with the key ring's header", ring, purpose, context, append([]byte{1, 0, 0, 0, 1}, direct[17:]...), errSealed)
	sealed := seal(t, ring, purpose, context, "secret")
	mustNotOpen(t, "what the key ring sealed, with the other header", root.Direct(), purpose, context, append(direct[:17:17], sealed[5:]...), errDirect)
}

func TestEveryChangeOfAKeyEncryptionKeysRecordIsNoticed(t *testing.T) {
	t.Parallel()
	root, db := rootkey.Random(), newDB(t)
	openKeyring(t, root, db)
	record := content(t, db)["kek/1"]
	opens := func(value []byte) error {
		write(t, db, "kek/1", value)
		_, err := rootkey.OpenKeyring(t.Context(), root, db)
		return err
	}
	for change, mutant := range aeadtest.Mutants(record, 1, 17, 29, 41, len(record)-16) {
		if err := opens(mutant); err == nil {
			t.Fatalf("%s: the record is taken", change)
		}
	}
	if err := opens(record); err != nil {
		t.Error(err)
	}
}
