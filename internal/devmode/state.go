package devmode

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// state is what a second start must know of the first, beside what the
// server keeps itself. It lies in a file of mode 0600, secrets included.
type state struct {
	CustomerCA string   `json:"customerCA"` // PEM
	Password   string   `json:"password"`   // the kmsuser's, before the first connection changed it
	SOPIN      string   `json:"soPIN"`      // the security officer's, on both tokens
	Tokens     []token  `json:"tokens,omitempty"`
	ClusterKey bool     `json:"clusterKey"` // made and trusted
	Credential xksLogin `json:"xksCredential"`
}

// token is a SoftHSM2 token.
type token struct {
	Member string `json:"member"` // "hsm-…"
	Zone   string `json:"zone"`
	URI    string `json:"uri"`
	Conf   string `json:"conf"` // value of SOFTHSM2_CONF
}

// xksLogin is the credential that KMS signs with when it calls the proxy.
type xksLogin struct {
	AccessKeyID string `json:"accessKeyId"`
	Secret      string `json:"secret"`
}

const stateFile = "dev.json"

// loadState reads the state of a former start, or gives a new one.
func loadState(dir string) (*state, error) {
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return newState()
	}
	if err != nil {
		return nil, err
	}
	s := &state{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("reading %s: it is not what a development server left there", filepath.Join(dir, stateFile))
	}
	return s, nil
}

func newState() (*state, error) {
	ca, err := newAuthority("Kastellan development customer CA")
	if err != nil {
		return nil, err
	}
	return &state{
		CustomerCA: string(ca.pem),
		Password:   randomText(alphanumeric, 24),
		SOPIN:      randomText(digits, 12),
		Credential: xksLogin{AccessKeyID: randomText(base32, 20), Secret: randomText(alphanumeric, 43)},
	}, nil
}

// save writes the state beside its place and moves it there.
func (s *state) save(dir string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, stateFile)
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

const (
	digits       = "0123456789"
	base32       = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	base32Lower  = "abcdefghijklmnopqrstuvwxyz234567"
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// randomText gives n random characters of the alphabet.
func randomText(alphabet string, n int) string {
	out := make([]byte, 0, n)
	limit := 256 - 256%len(alphabet) // bytes above would favour the first characters
	for len(out) < n {
		var b [64]byte
		_, _ = rand.Read(b[:]) // never fails
		for _, c := range b {
			if int(c) < limit && len(out) < n {
				out = append(out, alphabet[int(c)%len(alphabet)])
			}
		}
	}
	return string(out)
}
