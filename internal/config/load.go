package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// maxFile is the largest configuration file, in bytes.
const maxFile = 1 << 20

// Load reads and checks a configuration file. Nothing is opened yet, but the
// files it names are looked at.
func Load(path string) (*Config, error) { return load(path, nil) }

// load is Load for a process that may have read its root key already.
func load(path string, running *Config) (*Config, error) {
	text, err := readLimited(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	cfg := &Config{Directory: filepath.Dir(path)}
	p := &problems{file: path}
	if !p.decode(text, cfg) {
		return nil, p.err()
	}
	p.wholeNumbers(p.root, reflect.TypeFor[Config]())
	if running != nil && cfg.RootKey == running.RootKey {
		cfg.root = running.root
	}
	cfg.check(p)
	if err := p.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return text, err
}

// decode fills cfg from a single YAML document, and keeps the document for line
// numbers. It tells whether checking further makes sense.
func (p *problems) decode(text []byte, cfg *Config) bool {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	p.decodeError(decoder.Decode(cfg))
	if len(p.errs) == 0 && !errors.Is(decoder.Decode(new(yaml.Node)), io.EOF) {
		p.add(nil, "has more than one YAML document")
	}
	var root yaml.Node
	if yaml.Unmarshal(text, &root) == nil {
		p.root = &root
	}
	return len(p.errs) == 0
}

// wholeNumbers refuses fractions where whole numbers belong; package yaml would cut them off.
func (p *problems) wholeNumbers(n *yaml.Node, t reflect.Type) {
	switch {
	case n == nil:
	case n.Kind == yaml.DocumentNode:
		p.wholeNumbers(n.Content[0], t)
	case n.Kind == yaml.AliasNode:
		p.wholeNumbers(n.Alias, t)
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for _, item := range n.Content {
			p.wholeNumbers(item, t.Elem())
		}
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		for _, field := range reflect.VisibleFields(t) {
			p.wholeNumbers(child(n, field.Tag.Get("yaml")), field.Type)
		}
	case n.Kind == yaml.ScalarNode && n.Tag == "!!float" && reflect.Zero(t).CanInt():
		p.line(strconv.Itoa(n.Line), "a value of the wrong kind: wants a whole number")
	}
}

// What package yaml says, and what of it may be repeated: its texts quote
// values, and somebody may have put a secret where none belongs.
var (
	unknownField = regexp.MustCompile(`^line (\d+): field (.*) not found in type `)
	twice        = regexp.MustCompile(`^line (\d+): mapping key "(.*)" already defined`)
	wrongKind    = regexp.MustCompile(`^line (\d+): cannot unmarshal !!(\w+) .*into (.*)$`)
	syntax       = regexp.MustCompile(`^yaml: line (\d+): `)
)

func (p *problems) decodeError(err error) {
	var typed *yaml.TypeError
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		p.add(nil, "is empty")
	case errors.As(err, &typed):
		for _, text := range typed.Errors {
			p.typeError(text)
		}
	default:
		m := syntax.FindStringSubmatch(err.Error())
		if m == nil {
			m = []string{"", "0"}
		}
		p.line(m[1], "is not valid YAML")
	}
}

func (p *problems) typeError(text string) {
	if m := unknownField.FindStringSubmatch(text); m != nil {
		p.line(m[1], "unknown setting %.64q", m[2])
	} else if m := twice.FindStringSubmatch(text); m != nil {
		p.line(m[1], "setting %.64q is given twice", m[2])
	} else if m := wrongKind.FindStringSubmatch(text); m != nil {
		p.line(m[1], "a value of the wrong kind: wants %s", kindOf(m[3]))
	} else {
		p.add(nil, "is not a valid configuration")
	}
}

func (p *problems) line(number, format string, args ...any) {
	n, _ := strconv.Atoi(number)
	p.errs = append(p.errs, &Problem{File: p.file, Line: n, Text: fmt.Sprintf(format, args...)})
}

// kindOf describes a Go type to those who write YAML.
func kindOf(goType string) string {
	switch goType {
	case "string":
		return "text"
	case "bool":
		return "true or false"
	case "int", "int64", "float64", "uint":
		return "a number"
	case "time.Duration":
		return "a duration such as 250ms or 10s"
	}
	if len(goType) > 2 && goType[:2] == "[]" {
		return "a list"
	}
	return "a group of settings"
}
