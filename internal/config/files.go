package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"kastellan.dev/internal/secret"
)

// maxSecret is the largest file that holds a secret, in bytes.
const maxSecret = 64 << 10

// readSecret gives the text of a file that is closed to others, without the
// white space around it.
func readSecret(path string) (secret.Text, error) {
	info, err := os.Stat(path)
	if err != nil {
		return secret.Text{}, plain(err)
	}
	if err := checkMode(path, info); err != nil {
		return secret.Text{}, err
	}
	text, err := readLimited(path, maxSecret)
	if err != nil {
		return secret.Text{}, plain(err)
	}
	trimmed := strings.TrimSpace(string(text))
	if trimmed == "" {
		return secret.Text{}, fmt.Errorf("%s is empty", path)
	}
	return secret.NewText(trimmed), nil
}

// checkMode refuses a file that others can read, or that its group can change. The group may
// read: that is how orchestrators hand out secrets.
func checkMode(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return fmt.Errorf("%s holds a secret and has mode %04o: chmod it to 0600 or 0640", path, mode)
	}
	return nil
}

// envSecret gives the value of a variable.
func envSecret(name string) (secret.Text, error) {
	value := strings.TrimSpace(os.Getenv(name))
	if value == "" {
		return secret.Text{}, fmt.Errorf("the environment variable %s is not set", name)
	}
	return secret.NewText(value), nil
}

// oneSecret reads the secret that either a file or a variable holds.
func (c *Config) oneSecret(file, env string) (secret.Text, error) {
	switch {
	case (file == "") == (env == ""):
		return secret.Text{}, errors.New("needs either a file or an environment variable that holds the secret")
	case file != "":
		return readSecret(c.path(file))
	default:
		return envSecret(env)
	}
}

// checkKeyPair looks whether the files are a certificate and its key.
func checkKeyPair(certificate, key string) error {
	info, err := os.Stat(key)
	if err != nil {
		return plain(err)
	}
	if err := checkMode(key, info); err != nil {
		return err
	}
	_, err = tls.LoadX509KeyPair(certificate, key)
	return plain(err)
}

// readPool reads a bundle of CA certificates.
func readPool(path string) (*x509.CertPool, error) {
	text, err := readLimited(path, maxFile)
	if err != nil {
		return nil, plain(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return pool, nil
}

// readCertificate gives the text of a file that holds one PEM certificate.
func readCertificate(path string) (string, error) {
	text, err := readLimited(path, maxFile)
	if err != nil {
		return "", plain(err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("%s holds no PEM certificate", path)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return "", fmt.Errorf("%s holds no valid certificate", path)
	}
	return string(text), nil
}

// checkAddress looks whether text is "host:port".
func checkAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New("is not an address such as 127.0.0.1:4599")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return errors.New("has a port that is not a number below 65536")
	}
	return nil
}

// Loopback tells whether nobody but this machine can reach the address.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// plain takes the name of the system call out of an error: path and reason are enough.
func plain(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return fmt.Errorf("%s: %w", pathErr.Path, pathErr.Err)
	}
	return err
}
