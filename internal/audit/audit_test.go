package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

func TestParametersLeaveSecretsAndBlobsOut(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   any
		want string
	}{
		"an empty request is null": {&kmsapi.ListKeysRequest{}, ""},
		"encrypt shows key and context": {&kmsapi.EncryptRequest{
			KeyID: "k", Plaintext: secret.New([]byte("plain-marker")), EncryptionContext: map[string]string{"a": "b"}, GrantTokens: []string{"token-marker"},
		}, `{"encryptionContext":{"a":"b"},"keyId":"k"}`},
		"decrypt does not show the ciphertext": {&kmsapi.DecryptRequest{CiphertextBlob: []byte("blob-marker"), KeyID: "k"}, `{"keyId":"k"}`},
		"a cluster is called by CloudTrail's name and its password is not shown": {&kmsapi.CreateCustomKeyStoreRequest{
			CustomKeyStoreName: "n", CloudHsmClusterID: "cluster-1", KeyStorePassword: secret.NewText("password-marker"),
		}, `{"clusterId":"cluster-1","customKeyStoreName":"n"}`},
		"a proxy's credential is not shown": {&kmsapi.CreateCustomKeyStoreRequest{
			CustomKeyStoreName: "n",
			XksProxyAuthenticationCredential: &kmsapi.XksProxyAuthenticationCredential{
				AccessKeyID: "id-marker", RawSecretAccessKey: secret.NewText("secret-marker"),
			},
		}, `{"customKeyStoreName":"n","xksProxyAuthenticationCredential":{}}`},
		"times and lists": {&kmsapi.ScheduleKeyDeletionResponse{
			KeyID: "k", DeletionDate: kmsapi.At(time.Date(2026, 8, 10, 22, 38, 27, 0, time.UTC)), KeyState: "PendingDeletion",
		}, `{"deletionDate":"Aug 10, 2026, 10:38:27 PM","keyId":"k","keyState":"PendingDeletion"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, string(audit.Parameters(tc.in))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEveryRecordOfManyWritersIsOneWholeLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f, err := audit.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 16, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := f.Write(context.Background(), &audit.Record{EventID: strconv.Itoa(w*each + i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		var r audit.Record
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		seen[r.EventID] = true
	}
	if len(seen) != writers*each {
		t.Errorf("%d records, want %d", len(seen), writers*each)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestARecordThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	err := audit.NewFile(fullDisk{}).Write(context.Background(), &audit.Record{})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
}
