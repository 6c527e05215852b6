package devmode

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// modulePaths are where distributions keep SoftHSM2; SOFTHSM2_MODULE names another place.
var modulePaths = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib/pkcs11/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// softHSM finds the module, or says why there can be no HSM key store and what to do about it.
func softHSM() (path, missing string) {
	if !pkcs11.Available() {
		return "", "this binary was built without cgo and cannot load PKCS#11 modules; build it with CGO_ENABLED=1 and a C compiler"
	}
	if named := os.Getenv("SOFTHSM2_MODULE"); named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", "SOFTHSM2_MODULE names " + named + ", which is not there"
		}
		return named, ""
	}
	for _, candidate := range modulePaths {
		if _, err := os.Stat(candidate); err == nil {
			return candidate, ""
		}
	}
	return "", "SoftHSM2 is not installed (" + modulePaths[0] + "); apt-get install softhsm2 does it on Debian and Ubuntu, " +
		"and SOFTHSM2_MODULE can name the module elsewhere"
}

// zones are the availability zones of the two HSMs, behind the Region's name.
var zones = []string{"a", "b"}

// makeTokens makes the tokens that are not there yet, each in a folder of its own.
func (s *state) makeTokens(ctx context.Context, dir, module, region string) error {
	for len(s.Tokens) < len(zones) {
		t, err := makeToken(ctx, filepath.Join(dir, "hsm-"+zones[len(s.Tokens)]), module, s.Password, s.SOPIN)
		if err != nil {
			return err
		}
		t.Member, t.Zone = "hsm-"+randomText(base32Lower, 11), region+zones[len(s.Tokens)]
		s.Tokens = append(s.Tokens, t)
		if err := s.save(dir); err != nil {
			return err
		}
	}
	return nil
}

// makeToken makes a SoftHSM2 token in dir. What an interrupted start left there goes away.
func makeToken(ctx context.Context, dir, module, password, soPIN string) (token, error) {
	if err := os.RemoveAll(dir); err != nil {
		return token{}, err
	}
	objects := filepath.Join(dir, "tokens")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return token{}, err
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", objects)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return token{}, err
	}
	t := token{Conf: conf}
	label := "kastellan " + filepath.Base(dir)
	info, err := pkcs11.InitToken(ctx, pkcs11.ProvisionConfig{
		ModulePath: module, Env: t.env(), Label: label,
		SOPIN: secret.NewText(soPIN), UserPIN: secret.NewText(password),
	})
	if err != nil {
		return token{}, fmt.Errorf("initialising a token in %s: %w", dir, err)
	}
	t.URI = pkcs11.URI{Token: label, Serial: info.Serial, ModulePath: module}.String()
	return t, nil
}

func (t token) env() []string { return []string{"SOFTHSM2_CONF=" + t.Conf} }
