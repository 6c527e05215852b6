package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File    string // empty for a configuration that was not read from a file
	Line    int    // zero if not known
	Setting string // "hsm.clusters[0].members[1].uri"; may be empty
	Text    string
}

// Error implements error: "kastellan.yaml:12: hsm.clusters[0].id: is missing".
func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Setting != "" {
		b.WriteString(p.Setting + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// where is the path of a setting: names and indices.
type where []any

// at extends the path without touching it.
func (w where) at(steps ...any) where {
	return append(append(where(nil), w...), steps...)
}

func (w where) String() string {
	var b strings.Builder
	for _, step := range w {
		switch s := step.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(s) + "]")
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s)
		}
	}
	return b.String()
}

// problems gathers what is wrong.
type problems struct {
	file string
	root *yaml.Node // nil for a configuration that was not read from a file
	errs []error
}

// add notes that the setting is wrong.
func (p *problems) add(w where, format string, args ...any) {
	p.errs = append(p.errs, &Problem{File: p.file, Line: lineOf(p.root, w), Setting: w.String(), Text: fmt.Sprintf(format, args...)})
}

// need notes that the setting is missing if it is empty.
func (p *problems) need(w where, value string) bool {
	if value == "" {
		p.add(w, "is missing")
	}
	return value != ""
}

// check notes err, unless it is nil.
func (p *problems) check(w where, err error) {
	if err != nil {
		p.add(w, "%v", err)
	}
}

// err is all problems together, or nil.
func (p *problems) err() error { return errors.Join(p.errs...) }

// lineOf finds the line of a setting, or of the closest one around it that is there.
func lineOf(n *yaml.Node, w where) int {
	if n == nil {
		return 0
	}
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	line := n.Line
	for _, step := range w {
		if n = child(n, step); n == nil {
			return line
		}
		line = n.Line
	}
	return line
}

func child(n *yaml.Node, step any) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch s := step.(type) {
	case int:
		if n.Kind == yaml.SequenceNode && s < len(n.Content) {
			return n.Content[s]
		}
	case string:
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == s {
				return n.Content[i+1]
			}
		}
	}
	return nil
}
