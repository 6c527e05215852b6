package nitro

import (
	"errors"
	"testing"
	"time"

	"kastellan.dev/internal/nitro/nitrotest"
)

// FuzzVerify feeds a verifier with documents, and its parser also with payloads
// for which nobody has a signature: it must refuse or keep what it promises.
func FuzzVerify(f *testing.F) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	root := nitrotest.NewRoot(f, now)
	e := nitrotest.NewEnclave(f, root, now)
	v, err := New(root.Pool())
	if err != nil {
		f.Fatal(err)
	}
	// Short seeds, for the time that minimizing takes grows with the square; a
	// chain would be of no use either, as each process has another root.
	payload := e.Payload(f, now).With("certificate", []byte{1}).With("cabundle", [][]byte{{1}}).
		With("pcrs", map[int][]byte{0: make([]byte, 32)}).With("public_key", nil)
	for _, p := range []nitrotest.Payload{
		payload,
		payload.With("pcrs", map[int][]byte{31: make([]byte, 64)}).With("public_key", []byte{0x30, 0}),
		payload.Without("pcrs").With("nitrotpm_pcrs", map[int][]byte{23: make([]byte, 48)}).Without("nonce"),
		append(payload[:9:9], payload[0]),
		nil,
	} {
		f.Add(e.Sign(f, p.Encode(f)))
		f.Add(append([]byte{tagCOSESign1}, e.Sign(f, p.Encode(f))...))
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, document []byte) {
		a, err := v.Verify(document, now)
		if (a == nil) == (err == nil) {
			t.Fatalf("got %v and %v", a, err)
		}
		known := false
		for _, sentinel := range []error{ErrMalformed, ErrUntrusted, ErrSignature, ErrTimestamp, ErrPublicKey} {
			known = known || errors.Is(err, sentinel)
		}
		if err != nil && !known {
			t.Errorf("%v is none of the errors that there are", err)
		}
		if m, err := parseMessage(document); err == nil {
			fuzzClaims(t, m.Payload)
		}
	})
}

func fuzzClaims(t *testing.T, payload []byte) {
	c, err := parseClaims(payload)
	if err != nil {
		return
	}
	a, err := c.attestation()
	if err != nil {
		return
	}
	if a.ModuleID == "" || a.Timestamp.UnixMilli() <= 0 || len(a.UserData) > 512 || len(a.Nonce) > 512 {
		t.Errorf("accepted %+v", a)
	}
	if (len(a.PCRs) == 0) == (len(a.NitroTPMPCRs) == 0) || len(a.PCRs) > 32 || len(a.NitroTPMPCRs) > 24 {
		t.Errorf("accepted %d and %d registers", len(a.PCRs), len(a.NitroTPMPCRs))
	}
	for i, value := range a.PCRs {
		if i < 0 || i > 31 || len(value) != 32 && len(value) != 48 && len(value) != 64 {
			t.Errorf("accepted register %d with %d bytes", i, len(value))
		}
	}
	if a.PublicKey != nil && checkPublicKey(a.PublicKey) != nil {
		t.Errorf("accepted a key of %d bits", a.PublicKey.N.BitLen())
	}
}
