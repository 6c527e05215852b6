package policy

import (
	"errors"
	"fmt"
	"strings"
)

// condition is a compiled operator with one key and its values.
type condition struct {
	key      string // in lower case
	operator *operator
	set      quantifier
	ifExists bool // true for a key that the request does not have
	operands []operand
}

// quantifier tells how several values of a request count.
type quantifier int

const (
	single quantifier = iota
	forAnyValue
	forAllValues
)

var quantifiers = map[string]quantifier{"foranyvalue": forAnyValue, "forallvalues": forAllValues}

const ifExistsSuffix = "ifexists"

// compileCondition reads an operator, with its prefix and suffix, a key and values.
func compileCondition(source *sourceCondition, variables bool) (c condition, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("Condition %s %s: %w", source.operator, source.key, err)
		}
	}()
	name := lower(source.operator)
	if prefix, rest, ok := strings.Cut(name, ":"); ok {
		if c.set = quantifiers[prefix]; c.set == single {
			return c, errors.New("the prefix is neither ForAnyValue nor ForAllValues")
		}
		name = rest
	}
	name, c.ifExists = strings.CutSuffix(name, ifExistsSuffix)
	if c.operator = operators[name]; c.operator == nil {
		return c, errors.New("the operator is unknown")
	}
	if c.operator.null && (c.ifExists || c.set != single) {
		return c, errors.New("Null takes no prefix and no suffix")
	}
	if before, after, ok := strings.Cut(source.key, ":"); !ok || before == "" || after == "" {
		return c, errors.New("the key is not of the form service:key")
	}
	c.key = strings.ToLower(source.key)
	for _, value := range source.values {
		o, err := c.operator.compile(value, variables)
		if err != nil {
			return c, err
		}
		c.operands = append(c.operands, o)
	}
	return c, nil
}

// lookup is Values.Lookup for requests that may have no values at all.
func lookup(values Values, key string) ([]string, bool) {
	if values == nil {
		return nil, false
	}
	return values.Lookup(key)
}

// holds tells whether the condition is true for a request with these values.
func (c *condition) holds(values Values) bool {
	found, exists := lookup(values, c.key)
	missing := !exists || len(found) == 0
	switch {
	case c.operator.null:
		return c.isNull(missing)
	case missing && (c.ifExists || c.set == forAllValues):
		return true
	case missing:
		return c.operator.negated && c.set == single
	}
	switch c.set {
	case forAnyValue:
		for _, text := range found {
			if c.accepts(text, values) {
				return true
			}
		}
		return false
	case forAllValues:
		for _, text := range found {
			if !c.accepts(text, values) {
				return false
			}
		}
		return true
	default:
		for _, text := range found {
			if c.matchesAny(text, values) {
				return !c.operator.negated
			}
		}
		return c.operator.negated
	}
}

// accepts tells whether one value of the request fulfils the operator: that it
// is like one of the operands or, if the operator is negated, like none of them.
func (c *condition) accepts(text string, values Values) bool {
	return c.matchesAny(text, values) != c.operator.negated
}

func (c *condition) matchesAny(text string, values Values) bool {
	for i := range c.operands {
		if c.operator.match(&c.operands[i], text, values) {
			return true
		}
	}
	return false
}

// isNull compares whether the key is missing with the operands.
func (c *condition) isNull(missing bool) bool {
	for i := range c.operands {
		if c.operands[i].truth == missing {
			return true
		}
	}
	return false
}
