package pkcs11

import (
	"errors"
	"strings"

	"kastellan.dev/internal/secret"
)

// maxTokenLabel is the size of the label in CK_TOKEN_INFO, in bytes.
const maxTokenLabel = 32

// ProvisionConfig describes a token to be initialised. It is meant for
// software tokens: development, tests, a first look.
type ProvisionConfig struct {
	ModulePath string
	Env        []string // as in Config
	SlotID     *uint    // nil: the first slot whose token is not initialised
	Label      string   // 1 to 32 bytes
	SOPIN      secret.Text
	UserPIN    secret.Text // empty: the user's PIN stays uninitialised
}

func (c *ProvisionConfig) check() error {
	if !strings.HasPrefix(c.ModulePath, "/") {
		return errors.New("pkcs11: the module's path is not absolute")
	}
	if err := checkInit(c.Label, c.SOPIN); err != nil {
		return err
	}
	return checkEnv(c.Env)
}

// checkInit refuses what no C_InitToken takes.
func checkInit(label string, soPIN secret.Text) error {
	switch {
	case label == "" || len(label) > maxTokenLabel:
		return errors.New("pkcs11: a token's label has 1 to 32 bytes")
	case soPIN.IsEmpty():
		return errors.New("pkcs11: the security officer's PIN is empty")
	}
	return nil
}

func (c *ProvisionConfig) message() message {
	var slot uint64
	if c.SlotID != nil {
		slot = uint64(*c.SlotID)
	}
	return message{
		code:    opInitToken,
		numbers: []uint64{bits(c.SlotID == nil), slot},
		blobs:   [][]byte{[]byte(c.Label), []byte(c.SOPIN.Reveal()), []byte(c.UserPIN.Reveal())},
	}
}
