package xksproxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// File is the configuration file of the proxy. Unknown settings are errors, and
// every error names its line.
type File struct {
	Listen          string        `yaml:"listen"`           // "0.0.0.0:443"
	TLS             *FileTLS      `yaml:"tls"`              //
	PlainHTTP       bool          `yaml:"plain_http"`       // instead of tls, on the loopback interface only
	MetricsListen   string        `yaml:"metrics_listen"`   // "127.0.0.1:9464"; empty: no metrics
	LivenessPath    string        `yaml:"liveness_path"`    // /livez
	FleetSize       int           `yaml:"fleet_size"`       // proxies behind the endpoint; 1
	HealthCache     time.Duration `yaml:"health_cache"`     // 15s, at most 60s
	MaxBody         int64         `yaml:"max_body"`         // bytes; 131072
	MaxRequests     int           `yaml:"max_requests"`     // at once; 1024
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"` // 10s
	Tracing         *FileTracing  `yaml:"tracing"`          // none: no traces
	Rings           []FileRing    `yaml:"rings"`
	Stores          []FileStore   `yaml:"stores"`

	name string     // of the file
	root *yaml.Node // for the lines
}

// FileTLS is the certificate of the API's listener.
type FileTLS struct {
	Certificate string   `yaml:"certificate"`  // PEM file
	Key         string   `yaml:"key"`          // PEM file
	ClientCA    string   `yaml:"client_ca"`    // PEM file; turns mutual TLS on
	ClientNames []string `yaml:"client_names"` // subjects that may connect
}

// FileRing is a place where keys live: tokens, or a key file.
type FileRing struct {
	Name    string        `yaml:"name"`
	Timeout time.Duration `yaml:"timeout"` // for one request; 200ms
	Vendor  string        `yaml:"vendor"`  // told to KMS; what the ring says of itself

	KeyFile string `yaml:"key_file"` // made by "kastellan xks-proxy key init"
	FileKey string `yaml:"file_key"` // file of the 32 bytes that the key file is sealed with

	Tokens       []FileToken   `yaml:"tokens"`
	HealthKey    string        `yaml:"health_key"`    // label of a key that only health checks use
	SlowAfter    time.Duration `yaml:"slow_after"`    // DEGRADED from then on; half of timeout
	LoginTimeout time.Duration `yaml:"login_timeout"` // 10s
}

// FileToken is one PKCS#11 token.
type FileToken struct {
	Name        string        `yaml:"name"`
	URI         string        `yaml:"uri"` // RFC 7512, with module-path
	PIN         SecretRef     `yaml:"pin"`
	Env         []string      `yaml:"env"`          // NAME=value, for the module
	InProcess   bool          `yaml:"in_process"`   // load the module into the proxy itself
	Sessions    int           `yaml:"sessions"`     // 16
	Queue       int           `yaml:"queue"`        // calls that may wait for a session; 1024
	Concurrent  int           `yaml:"concurrent"`   // requests at once; 64
	CallTimeout time.Duration `yaml:"call_timeout"` // of one call on the module; 5s
	IV          string        `yaml:"iv"`           // "", module, module-append, token-random
}

// FileStore is one external key store.
type FileStore struct {
	Prefix      string           `yaml:"prefix"`
	Ring        string           `yaml:"ring"`
	Regions     []string         `yaml:"regions"` // that may call; any
	Credentials []FileCredential `yaml:"credentials"`
	Keys        []FileKey        `yaml:"keys"`
	AllKeys     bool             `yaml:"all_keys"` // instead of keys
	Rules       []FileRule       `yaml:"rules"`
	Default     Effect           `yaml:"default"` // allow or deny, where no rule matches
	Limits      FileLimits       `yaml:"limits"`
}

// FileCredential is a key pair that KMS signs with.
type FileCredential struct {
	AccessKeyID string    `yaml:"access_key_id"`
	Secret      SecretRef `yaml:"secret"`
}

// FileKey is one external key.
type FileKey struct {
	ID       string   `yaml:"id"`
	Labels   []string `yaml:"labels"` // of its versions in the tokens, oldest first; the id
	Disabled bool     `yaml:"disabled"`
	Usage    []string `yaml:"usage"` // ENCRYPT, DECRYPT; both. [] is neither
}

// FileRule is a line of the secondary authorization; see [Rule].
type FileRule struct {
	Name          string   `yaml:"name"`
	Effect        Effect   `yaml:"effect"`
	Principals    []string `yaml:"principals"`
	Keys          []string `yaml:"keys"`
	Operations    []string `yaml:"operations"`
	KMSOperations []string `yaml:"kms_operations"`
	KMSKeyARNs    []string `yaml:"kms_key_arns"`
}

// FileLimits are the limits of a store; see [Limits].
type FileLimits struct {
	Concurrent   int     `yaml:"concurrent"`
	Rate         float64 `yaml:"rate"`
	Burst        int     `yaml:"burst"`
	MaxPlaintext int     `yaml:"max_plaintext"`
	MaxAAD       int     `yaml:"max_aad"`
}

// maxFile is the largest configuration file in bytes.
const maxFile = 4 << 20

// A file that was changed less than settled ago may still be in the middle of it, and half a
// file can make sense: one that ends before a store's rules has none.
const (
	settled  = 100 * time.Millisecond
	settling = 3 * time.Second // at most
)

// ReadFile reads a configuration file, once nobody has changed it for a tenth of a second.
// Nothing that it refers to is read yet.
func ReadFile(name string) (*File, error) {
	for deadline := time.Now().Add(settling); time.Now().Before(deadline); {
		data, changed, err := readWhole(name)
		if err != nil {
			return nil, fmt.Errorf("reading configuration: %w", err)
		}
		age := time.Since(changed)
		if age < 0 || age >= settled { // a time to come tells nothing
			return ParseFile(name, data)
		}
		time.Sleep(settled - age)
	}
	return nil, fmt.Errorf("reading configuration: %s changes all the time", name)
}

// readWhole gives what is in a file, and when it was last changed, as of after the reading.
func readWhole(name string) ([]byte, time.Time, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(data) > maxFile {
		return nil, time.Time{}, fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	return data, info.ModTime(), nil
}

// ParseFile is ReadFile for what was read already; name stands in errors.
func ParseFile(name string, data []byte) (*File, error) {
	f := &File{name: name, root: new(yaml.Node)}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, plain(err))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: there is more than one YAML document", name)
	}
	if err := yaml.Unmarshal(data, f.root); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// plain takes Go's names of types out of what the decoder says.
func plain(err error) error {
	var many *yaml.TypeError
	if !errors.As(err, &many) {
		return err
	}
	lines := make([]string, len(many.Errors))
	for i, line := range many.Errors {
		if before, field, ok := strings.Cut(line, ": field "); ok {
			field, _, _ = strings.Cut(field, " not found in type")
			line = before + ": there is no setting " + strconv.Quote(strings.TrimSuffix(field, " already set in type"))
		}
		lines[i] = line
	}
	return errors.New(strings.Join(lines, "; "))
}

// locate gives a FieldError the place in the file that it speaks of: the nearest one that is
// there, for a setting that is missing.
func (f *File) locate(err error) error {
	var field *FieldError
	if !errors.As(err, &field) || len(f.root.Content) == 0 {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	node := f.root.Content[0]
	for _, step := range strings.FieldsFunc(field.Path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		next := child(node, step)
		if next == nil {
			break
		}
		node = next
	}
	return fmt.Errorf("%s: line %d: %w", f.name, max(node.Line, 1), err)
}

// child is the value of a key, or the item of a list.
func child(node *yaml.Node, step string) *yaml.Node {
	switch node.Kind {
	case yaml.AliasNode:
		return child(node.Alias, step)
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i < len(node.Content) {
			return node.Content[i]
		}
	}
	return nil
}
