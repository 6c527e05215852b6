package kms_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

// witness notes, in their order, what key stores are asked and what is recorded.
type witness struct {
	audit.Writer

	mu     sync.Mutex
	events []event
}

// event is a use of a key store, or a record.
type event struct {
	method    string // of the key store; empty: a record
	operation string
	request   string
}

func (w *witness) note(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// of gives the events of a request.
func (w *witness) of(request string) []event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.events), func(e event) bool { return e.request != request })
}

// Write implements audit.Writer.
func (w *witness) Write(ctx context.Context, r *audit.Record) error {
	if r.EventType == audit.APICall {
		w.note(event{"", r.EventName, r.RequestID})
	}
	return w.Writer.Write(ctx, r)
}

func (w *witness) asked(method string, call keystore.Call) {
	w.note(event{method, call.Operation, call.RequestID})
}

// watched is a key store whose uses the witness notes.
type watched struct {
	keystore.Keyring
	*witness
}

func (s watched) CreateKey(ctx context.Context, call keystore.Call, key keystore.NewKey) (keystore.Material, error) {
	s.asked("CreateKey", call)
	return s.Keyring.CreateKey(ctx, call, key)
}

func (s watched) Encrypt(ctx context.Context, call keystore.Call, key keystore.Key, dst, plaintext, aad []byte) ([]byte, error) {
	s.asked("Encrypt", call)
	return s.Keyring.Encrypt(ctx, call, key, dst, plaintext, aad)
}

func (s watched) Decrypt(ctx context.Context, call keystore.Call, key keystore.Key, sealed, aad []byte) ([]byte, error) {
	s.asked("Decrypt", call)
	return s.Keyring.Decrypt(ctx, call, key, sealed, aad)
}

func (s watched) DeleteKey(ctx context.Context, call keystore.Call, key keystore.Key) error {
	s.asked("DeleteKey", call)
	return s.Keyring.DeleteKey(ctx, call, key)
}

func (s watched) Open(ctx context.Context, call keystore.Call, key keystore.Key, spec kmsapi.KeySpec) (keyspec.Key, error) {
	s.asked("Open", call)
	return s.Keyring.Open(ctx, call, key, spec)
}

func (s watched) Import(ctx context.Context, call keystore.Call, key keystore.NewKey, material []byte) (keystore.Material, error) {
	s.asked("Import", call)
	return s.Keyring.Import(ctx, call, key, material)
}

func (s watched) Copy(ctx context.Context, call keystore.Call, key keystore.Key, to keystore.NewKey) (keystore.Material, error) {
	s.asked("Copy", call)
	return s.Keyring.Copy(ctx, call, key, to)
}

// watchedKind makes connections whose uses the witness notes.
type watchedKind struct {
	keystore.Kind
	*witness
}

func (k watchedKind) Connect(ctx context.Context, call keystore.Call, cfg keystore.Config, pw keystore.Passwords, trace *keystore.Trace) (keystore.Connection, error) {
	conn, err := k.Kind.Connect(ctx, call, cfg, pw, trace)
	if err != nil {
		return nil, err
	}
	return watchedConnection{conn, k.witness}, nil
}

type watchedConnection struct {
	keystore.Connection
	*witness
}

func (c watchedConnection) CreateKey(ctx context.Context, call keystore.Call, key keystore.NewKey) (keystore.Material, error) {
	c.asked("CreateKey", call)
	return c.Connection.CreateKey(ctx, call, key)
}

func (c watchedConnection) Encrypt(ctx context.Context, call keystore.Call, key keystore.Key, dst, plaintext, aad []byte) ([]byte, error) {
	c.asked("Encrypt", call)
	return c.Connection.Encrypt(ctx, call, key, dst, plaintext, aad)
}

func (c watchedConnection) Decrypt(ctx context.Context, call keystore.Call, key keystore.Key, sealed, aad []byte) ([]byte, error) {
	c.asked("Decrypt", call)
	return c.Connection.Decrypt(ctx, call, key, sealed, aad)
}

func (c watchedConnection) Random(ctx context.Context, call keystore.Call, n int) ([]byte, error) {
	c.asked("Random", call)
	return c.Connection.(keystore.Randomizer).Random(ctx, call, n)
}

// errand is a request for an operation, and which methods of key stores it should come to.
type errand struct {
	operation string
	in        any
	uses      []string
}

// errands use every kind of key in every way, in the soft store and in a custom key store, and every operation at least once.
func errands(t *testing.T, w *world) (all []errand) {
	store := w.createHSM("hsm", cluster)
	w.connected(store)
	open := w.createKey(&kmsapi.CreateKeyRequest{Policy: openPolicy})
	uses := map[kmsapi.GrantOperation][]string{
		kmsapi.GrantEncrypt: {"Encrypt"}, kmsapi.GrantDecrypt: {"Decrypt"}, kmsapi.GrantGenerateDataKey: {"Encrypt"}, kmsapi.GrantGenerateDataKeyWithoutPlaintext: {"Encrypt"},
		kmsapi.GrantGenerateDataKeyPair: {"Encrypt"}, kmsapi.GrantGenerateDataKeyPairWithoutPlaintext: {"Encrypt"},
		kmsapi.GrantReEncryptFrom: {"Decrypt", "Encrypt"}, kmsapi.GrantReEncryptTo: {"Decrypt", "Encrypt"},
		kmsapi.GrantSign: {"Open"}, kmsapi.GrantGenerateMac: {"Open"}, kmsapi.GrantVerifyMac: {"Open"},
		kmsapi.GrantDecapsulate: {"Open"}, kmsapi.GrantDeriveSharedSecret: {"Open"},
	}
	inHSM := &kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: store}
	for _, kind := range append(slices.Clone(keyKinds), inHSM) {
		key := w.createKey(kind)
		symmetric := key.KeySpec == kmsapi.SymmetricDefault
		requests := exercise(key, open, w.sealedBy(key), w.sealedBy(open))
		for _, op := range kms.GrantOperations(key.KeySpec, key.KeyUsage) {
			wanted := uses[op]
			switch {
			case op == kmsapi.GrantEncrypt && !symmetric:
				wanted = nil // with the public key
			case op == kmsapi.GrantDecrypt && !symmetric:
				continue // another algorithm than the default: see below
			case strings.HasPrefix(string(op), "ReEncrypt") && !symmetric, strings.HasPrefix(string(op), "GenerateDataKeyPair") && kind == inHSM:
				continue
			}
			in := requests[op]
			if encrypt, ok := in.(*kmsapi.EncryptRequest); ok && !symmetric {
				encrypt.EncryptionAlgorithm = key.EncryptionAlgorithms[len(key.EncryptionAlgorithms)-1]
			}
			if in != nil && op != kmsapi.GrantRetireGrant && op != kmsapi.GrantDeriveSharedSecret && op != kmsapi.GrantDecapsulate {
				name := string(op)
				if strings.HasPrefix(name, "ReEncrypt") {
					name = "ReEncrypt"
				}
				all = append(all, errand{name, in, wanted})
			}
		}
		if key.KeyUsage == kmsapi.EncryptDecrypt && !symmetric {
			all = append(all, errand{"Decrypt", &kmsapi.DecryptRequest{KeyID: key.Arn, CiphertextBlob: w.sealedBy(key), EncryptionAlgorithm: key.EncryptionAlgorithms[len(key.EncryptionAlgorithms)-1]}, []string{"Open"}})
		}
		switch key.KeyUsage {
		case kmsapi.KeyAgreement:
			peer := must(do[kmsapi.GetPublicKeyResponse](w, root(account), "GetPublicKey", &kmsapi.GetPublicKeyRequest{KeyID: key.KeyID}))(t).PublicKey
			all = append(all, errand{"DeriveSharedSecret", &kmsapi.DeriveSharedSecretRequest{KeyID: key.Arn, KeyAgreementAlgorithm: kmsapi.ECDH, PublicKey: peer}, []string{"Open"}})
		case kmsapi.EncapsulateDecapsulate:
			out := must(do[kmsapi.EncapsulateResponse](w, root(account), "Encapsulate", &kmsapi.EncapsulateRequest{KeyID: key.KeyID, EncapsulationAlgorithm: kmsapi.MLKEM}))(t)
			all = append(all, errand{"Decapsulate", &kmsapi.DecapsulateRequest{KeyID: key.Arn, EncapsulationAlgorithm: kmsapi.MLKEM, SharedSecretCiphertextBlob: out.SharedSecretCiphertextBlob}, []string{"Open"}})
		}
	}
	imported := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal})
	all = append(all,
		errand{"CreateKey", &kmsapi.CreateKeyRequest{}, []string{"CreateKey"}},
		errand{"CreateKey", inHSM, []string{"CreateKey"}},
		errand{"GenerateRandom", &kmsapi.GenerateRandomRequest{NumberOfBytes: ptr(int32(8)), CustomKeyStoreID: store}, []string{"Random"}},
		errand{"ImportKeyMaterial", w.importing(imported.KeyID, material(t, kmsapi.SymmetricDefault)), []string{"Import"}},
	)
	rest := requests(open.Arn, store, w.sealedBy(open))
	maps.Copy(rest, grantRequests(w, open.Arn))
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		if !slices.ContainsFunc(all, func(e errand) bool { return e.operation == name }) {
			all = append(all, errand{name, rest[name], nil})
		}
	}
	return all
}

// TestNoKeyStoreIsUsedWithoutPermissionNorWithoutARecord sends every operation to key stores that tell:
// those who may not do it reach none, and whatever reaches one is recorded behind it.
func TestNoKeyStoreIsUsedWithoutPermissionNorWithoutARecord(t *testing.T) {
	t.Parallel()
	told := &witness{}
	w := newWorld(t, func(c *kms.Config) {
		told.Writer = c.Audit
		c.Audit, c.Soft = told, watched{c.Soft, told}
		c.Kinds[0] = watchedKind{c.Kinds[0], told}
	})
	all := errands(t, w)
	for _, op := range slices.Concat(kms.Operations(), kms.Extensions()) {
		if !slices.ContainsFunc(all, func(e errand) bool { return e.operation == op.Name }) {
			t.Errorf("%s is not sent", op.Name)
		}
	}
	send := func(i int, e errand, who identity.Caller) (string, error) {
		who.RequestID = fmt.Sprintf("%08d-0000-4000-8000-%s", i, who.PrincipalID)
		_, err := w.s.Do(t.Context(), operation(t, e.operation), who, e.in)
		return who.RequestID, err
	}
	met := map[string]bool{}
	for i, e := range all {
		for _, who := range []identity.Caller{member(t, foreign), member(t, foreign, allowAll), member(t, account, strings.Replace(denyOne, "PERMISSION", "kms:*", 1))} {
			request, err := send(i, e, who)
			if got := told.of(request); len(got) == 0 || got[len(got)-1].method != "" {
				t.Errorf("%s, refused, is not recorded: %v", e.operation, got)
			} else if kmsapi.CodeOf(err) == kmsapi.AccessDenied && slices.ContainsFunc(got, func(e event) bool { return e.method != "" }) {
				t.Errorf("%s was denied and reached %v", e.operation, got)
			}
			told.forget()
		}
		request, err := send(i, e, member(t, account, allowAll))
		if len(e.uses) > 0 && err != nil && kmsapi.CodeOf(err) != kmsapi.KMSInvalidMac {
			t.Errorf("%s: %v", e.operation, err)
		}
		var methods []string
		for at, event := range told.of(request) {
			if last := at == len(told.of(request))-1; last != (event.method == "") {
				t.Errorf("%s: the record is not the last of %v", e.operation, told.of(request))
			}
			if event.operation != e.operation {
				t.Errorf("%s was done as %s", e.operation, event.operation)
			}
			if event.method != "" {
				methods = append(methods, event.method)
				met[event.method] = true
			}
		}
		if e.uses != nil && !slices.Equal(methods, e.uses) {
			t.Errorf("%s used %v, want %v", e.operation, methods, e.uses)
		}
		told.forget()
	}
	if want := []string{"CreateKey", "Decrypt", "Encrypt", "Import", "Open", "Random"}; !slices.Equal(slices.Sorted(maps.Keys(met)), want) {
		t.Errorf("the methods %v were used by calls", slices.Sorted(maps.Keys(met)))
	}
}

func (w *witness) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = nil
}

// TestWhatTheServiceDoesByItselfIsRecorded waits for a rotation, a replica and a deletion.
func TestWhatTheServiceDoesByItselfIsRecorded(t *testing.T) {
	t.Parallel()
	told := &witness{}
	w := newWorld(t, func(c *kms.Config) {
		told.Writer = c.Audit
		c.Audit, c.Soft = told, watched{c.Soft, told}
	})
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)})
	must(do[kmsapi.ReplicateKeyResponse](w, root(account), "ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: key.KeyID, ReplicaRegion: "eu-west-1"}))(t)
	must(do[kmsapi.RotateKeyOnDemandResponse](w, root(account), "RotateKeyOnDemand", &kmsapi.RotateKeyOnDemandRequest{KeyID: key.KeyID}))(t)
	doomed := w.createKey(&kmsapi.CreateKeyRequest{})
	must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: doomed.KeyID, PendingWindowInDays: ptr(int32(7))}))(t)
	w.clock.Advance(8 * 24 * time.Hour)
	for method, name := range map[string]string{"Copy": "SynchronizeMultiRegionKey", "CreateKey": "RotateKey", "DeleteKey": "DeleteKey"} {
		polltest.Until(t, name, func() bool { return strings.Contains(w.audit.String(), `"eventName":"`+name+`"`) })
		told.mu.Lock()
		used := slices.ContainsFunc(told.events, func(e event) bool { return e.method == method })
		told.mu.Unlock()
		if !used {
			t.Errorf("%s was recorded without %s", name, method)
		}
	}
}
