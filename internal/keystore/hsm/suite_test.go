package hsm_test

import (
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/keystoretest"
)

func TestSuite(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	first := true
	keystoretest.Run(t, keystoretest.Options{
		New: func(t *testing.T) (keystore.Store, func() keystore.NewKey) {
			if first {
				first = false
				return r.connect(t), nil
			}
			return newRig(t, 2).connect(t), nil
		},
		Destroys: true,
	})
}

func TestKeysSurviveARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	before := r.connect(t)
	key := createKey(t, before)
	sealed := mustEncrypt(t, before, key)
	closeConnection(before)
	after := r.resume(t)
	mustDecrypt(t, after, key, sealed)
	mustDecrypt(t, after, key, mustEncrypt(t, after, key))
}

func TestResumeWhileTheOldConnectionIsOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	before := r.connect(t)
	key := createKey(t, before)
	after := r.resume(t)
	sealed := mustEncrypt(t, after, key)
	closeConnection(before)
	mustDecrypt(t, after, key, sealed)
	if free, err := r.declared.FreeAddresses("subnet-00000000"); err != nil || free != 16-5-1-1 {
		t.Errorf("%d addresses are free (%v), want all but five of AWS, one of the HSM and one of the store", free, err)
	}
}
