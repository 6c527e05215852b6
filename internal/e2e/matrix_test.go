package e2e_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kms"
)

// The matrix of key states as AWS documents it, row by row: Enabled, Disabled,
// PendingDeletion, PendingReplicaDeletion, PendingImport, Unavailable, Creating,
// Updating. The codes are ok, D (DisabledException), S (KMSInvalidStateException),
// U (UnsupportedOperationException) and - (such a key does not exist).
const matrix = `
Encrypt                             symmetric ok D  S  S  S  S  S  ok
Decrypt                             symmetric ok D  S  S  S  S  S  ok
GenerateDataKey                     symmetric ok D  S  S  S  S  S  ok
GenerateDataKeyWithoutPlaintext     symmetric ok D  S  S  S  S  S  ok
ReEncrypt(from)                     symmetric ok D  S  S  S  S  S  ok
ReEncrypt(to)                       symmetric ok D  S  S  S  S  S  ok
GenerateDataKeyPair                 symmetric ok D  S  S  S  U  S  ok
GenerateDataKeyPairWithoutPlaintext symmetric ok D  S  S  S  U  S  ok
Sign                                signing   ok D  S  S  S  -  S  ok
Verify                              signing   ok D  S  S  S  -  S  ok
GenerateMac                         mac       ok D  S  S  S  -  S  ok
VerifyMac                           mac       ok D  S  S  S  -  S  ok
DeriveSharedSecret                  agreement ok D  S  S  S  -  S  ok
Encapsulate                         kem       ok D  S  S  -  -  S  ok
Decapsulate                         kem       ok D  S  S  -  -  S  ok
CreateGrant                         symmetric ok D  S  S  S  ok S  ok
CancelKeyDeletion                   symmetric S  S  ok ok S  S  S  S
ScheduleKeyDeletion                 symmetric ok ok S  S  ok ok ok S
EnableKey                           symmetric ok ok S  S  S  ok S  S
DisableKey                          symmetric ok ok S  S  S  ok S  S
CreateAlias                         symmetric ok ok S  S  ok ok ok ok
UpdateAlias(from)                   symmetric ok ok ok ok ok ok ok ok
UpdateAlias(to)                     symmetric ok ok S  S  ok ok ok ok
DeleteAlias                         symmetric ok ok ok ok ok ok ok ok
TagResource                         symmetric ok ok S  S  ok ok ok ok
UntagResource                       symmetric ok ok S  S  ok ok ok ok
UpdateKeyDescription                symmetric ok ok S  S  ok ok ok ok
DescribeKey                         symmetric ok ok ok ok ok ok ok ok
GetKeyPolicy                        symmetric ok ok ok ok ok ok ok ok
PutKeyPolicy                        symmetric ok ok ok ok ok ok ok ok
ListAliases                         symmetric ok ok ok ok ok ok ok ok
ListGrants                          symmetric ok ok ok ok ok ok ok ok
ListKeyPolicies                     symmetric ok ok ok ok ok ok ok ok
ListResourceTags                    symmetric ok ok ok ok ok ok ok ok
RetireGrant                         symmetric ok ok ok ok ok ok -  ok
RevokeGrant                         symmetric ok ok ok ok ok ok -  ok
GetKeyLastUsage                     symmetric ok ok ok ok ok ok ok ok
GetPublicKey                        signing   ok ok S  S  ok -  S  ok
EnableKeyRotation                   symmetric ok D  S  S  U  U  S  ok
DisableKeyRotation                  symmetric ok D  S  S  U  U  S  ok
GetKeyRotationStatus                symmetric ok ok ok ok U  U  ok ok
ListKeyRotations                    symmetric ok ok ok ok ok U  ok ok
RotateKeyOnDemand                   symmetric ok D  S  S  S  U  S  ok
GetParametersForImport              imported  ok ok S  S  ok U  S  S
ImportKeyMaterial                   imported  ok ok S  S  ok U  S  ok
DeleteImportedKeyMaterial           imported  ok ok ok ok ok -  S  S
ReplicateKey                        symmetric ok D  S  S  S  -  S  S
UpdatePrimaryRegion                 symmetric ok D  S  S  S  -  S  ok
`

var columns = []types.KeyState{
	types.KeyStateEnabled, types.KeyStateDisabled, types.KeyStatePendingDeletion, types.KeyStatePendingReplicaDeletion,
	types.KeyStatePendingImport, types.KeyStateUnavailable, types.KeyStateCreating, types.KeyStateUpdating,
}

var outcomes = map[string]string{
	"ok": "", "D": "DisabledException", "S": "KMSInvalidStateException", "U": "UnsupportedOperationException",
}

func rowsOf(t *testing.T) (rows [][]string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(matrix)) {
		row := strings.Fields(line)
		if len(row) != 2+len(columns) {
			t.Fatal(line)
		}
		rows = append(rows, row)
	}
	return rows
}

// TestTheMatrixOfKeyStates calls every operation with a key in every state.
func TestTheMatrixOfKeyStates(t *testing.T) {
	t.Parallel()
	l, tested := newLaboratory(t), make(map[string]bool)
	for _, row := range rowsOf(t) {
		name, kind := row[0], row[1]
		op, _, _ := strings.Cut(name, "(")
		tested[op] = true
		call := callsOnKeys[name]
		if call == nil {
			t.Errorf("there is no call of %s", name)
			continue
		}
		for i, want := range row[2:] {
			if want == "-" {
				continue
			}
			t.Run(name+"/"+string(columns[i]), func(t *testing.T) {
				t.Parallel()
				wantError(t, call(l.in(t, columns[i], kind)), outcomes[want])
			})
		}
	}
	for _, op := range kms.Operations() {
		if !tested[op.Name] && !strings.Contains(op.Name, "CustomKeyStore") && !keyless[op.Name] {
			t.Errorf("%s has no row", op.Name)
		}
	}
}

// keyless are the operations that are not about a key that exists.
var keyless = map[string]bool{"CreateKey": true, "GenerateRandom": true, "ListKeys": true, "ListRetirableGrants": true}
