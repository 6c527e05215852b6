package xks_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/keystoretest"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/kmsapi"
)

func TestSuite(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]xkstest.Options{
		"a proxy with IVs of 12 bytes":              {},
		"a proxy with IVs of 16 bytes and metadata": {IVSize: 16, Metadata: strings.Repeat("m", 20)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var last *rig
			keystoretest.Run(t, keystoretest.Options{
				New: func(t *testing.T) (keystore.Store, func() keystore.NewKey) {
					last = newRig(t, o)
					return last.connect(t), func() keystore.NewKey { return newKey(externalKey) }
				},
				Restart: func(t *testing.T, _ keystore.Store) keystore.Store { return last.resume(t) },
				// What cannot be a ciphertext does not reach the proxy; of the rest AWS tells no more.
				DecryptFailures: []kmsapi.Code{kmsapi.InvalidCiphertext, kmsapi.KMSInvalidState},
			})
		})
	}
}
