package xksproxy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"kastellan.dev/internal/secret"
)

// SecretRef tells where a secret is: in a file, or in an environment variable. The
// configuration file never holds one itself.
type SecretRef struct {
	File string `yaml:"file"`
	Env  string `yaml:"env"`
}

// maxSecret is the longest secret in bytes.
const maxSecret = 4096

// read gives the secret without the white space around it.
func (r SecretRef) read() (secret.Text, error) {
	var text string
	switch {
	case (r.File == "") == (r.Env == ""):
		return secret.Text{}, errors.New("give either a file or an env")
	case r.Env != "":
		value, ok := os.LookupEnv(r.Env)
		if !ok {
			return secret.Text{}, fmt.Errorf("the environment variable %s is not set", r.Env)
		}
		text = value
	default:
		value, err := readSecretFile(r.File)
		if err != nil {
			return secret.Text{}, err
		}
		text = value
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return secret.Text{}, errors.New("the secret is empty")
	}
	return secret.NewText(text), nil
}

func checkSecretFile(name string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Errorf("%s has mode %04o: others must not have access (chmod o= %s)", name, mode, name)
	}
	return nil
}

// readSecretFile refuses files that every user of the machine may read. A group may: that is how
// orchestrators hand out secrets.
func readSecretFile(name string) (string, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for its writer.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if err := checkSecretFile(name, info); err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxSecret {
		return "", fmt.Errorf("%s has more than %d bytes", name, maxSecret)
	}
	return string(data), nil
}
