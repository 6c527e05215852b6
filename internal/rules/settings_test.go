package rules_test

import (
	"encoding"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/xksproxy"
)

// settings are the configuration files, each with its chapter in the guide for operators.
var settings = map[string]reflect.Type{
	"Configuration of the server":    reflect.TypeFor[config.Config](),
	"Configuration of the XKS proxy": reflect.TypeFor[xksproxy.File](),
}

// TestEverySettingIsDocumented holds the guide to the files in both directions: no
// key is missing in its tables, and none is there that does not exist.
func TestEverySettingIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for chapter, file := range settings {
		_, section, _ := strings.Cut(string(text), "\n## "+chapter+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		documented, keys := firstColumns(section), yamlKeys(file, "")
		if len(keys) < 50 {
			t.Errorf("only %d keys were found: %v", len(keys), keys)
		}
		for _, key := range keys {
			if !slices.Contains(documented, key) {
				t.Errorf("docs/operations.md does not say what `%s` is", key)
			}
		}
		for _, key := range documented {
			if !slices.Contains(keys, key) {
				t.Errorf("docs/operations.md speaks of `%s`, which does not exist", key)
			}
		}
	}
}

// firstColumns gives what stands in backticks in the first column of tables.
func firstColumns(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		row, isRow := strings.CutPrefix(line, "| ")
		cell, _, _ := strings.Cut(row, " |")
		for i, part := range strings.Split(cell, "`") {
			if isRow && i%2 == 1 {
				out = append(out, part)
			}
		}
	}
	return out
}

// isScalar tells a type that stands for one value in a file.
func isScalar(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// yamlKeys gives the paths of all values that a file of the type t can set, with [] for items
// of lists.
func yamlKeys(t reflect.Type, path string) []string {
	switch {
	case t.Kind() == reflect.Pointer:
		return yamlKeys(t.Elem(), path)
	case t.Kind() == reflect.Slice && isScalar(t.Elem()), isScalar(t):
		return []string{path}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return yamlKeys(t.Elem(), path+"[]")
	case t.Kind() != reflect.Struct:
		return []string{path}
	}
	var keys []string
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if !field.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = strings.ToLower(field.Name) // as package yaml does
		}
		keys = append(keys, yamlKeys(field.Type, strings.TrimPrefix(path+"."+name, "."))...)
	}
	return keys
}
