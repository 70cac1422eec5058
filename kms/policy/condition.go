package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// condition is one operator with one key of the request.
type condition struct {
	set      string // "", forAll or forAny
	ifExists bool
	null     bool // the operator Null: values says whether the key must be absent
	test     func(pattern, value string) bool
	negate   bool
	context  string // name in the encryption context; "": the names themselves
	values   []string
}

const (
	forAll = "ForAllValues"
	forAny = "ForAnyValue"

	keysKey   = "kms:encryptioncontextkeys"
	prefixKey = "kms:encryptioncontext:"
)

type operator struct {
	test   func(pattern, value string) bool
	negate bool
}

var operators = map[string]operator{
	"StringEquals":              {equal, false},
	"StringNotEquals":           {equal, true},
	"StringEqualsIgnoreCase":    {strings.EqualFold, false},
	"StringNotEqualsIgnoreCase": {strings.EqualFold, true},
	"StringLike":                {match, false},
	"StringNotLike":             {match, true},
}

func equal(a, b string) bool { return a == b }

func parseConditions(v any) ([]condition, error) {
	byOperator, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	var all []condition
	for _, name := range slices.Sorted(maps.Keys(byOperator)) {
		base, err := parseOperator(name)
		if err != nil {
			return nil, err
		}
		byKey, ok := byOperator[name].(map[string]any)
		if !ok || len(byKey) == 0 {
			return nil, fmt.Errorf("%s: not an object with condition keys", name)
		}
		for _, key := range slices.Sorted(maps.Keys(byKey)) {
			c := base
			if err := c.parseKey(key, byKey[key]); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func parseOperator(name string) (c condition, err error) {
	rest := name
	if set, op, ok := strings.Cut(name, ":"); ok {
		if set != forAll && set != forAny {
			return c, fmt.Errorf("operator %q is not supported", name)
		}
		c.set, rest = set, op
	}
	if rest == "Null" && c.set == "" {
		c.null = true
		return c, nil
	}
	rest, c.ifExists = strings.CutSuffix(rest, "IfExists")
	op, ok := operators[rest]
	if !ok {
		return c, fmt.Errorf("operator %q is not supported", name)
	}
	c.test, c.negate = op.test, op.negate
	return c, nil
}

func (c *condition) parseKey(key string, v any) (err error) {
	lower := strings.ToLower(key)
	switch {
	case lower == keysKey:
		if c.set == "" && !c.null {
			return fmt.Errorf("%q has several values: %s or %s must say how many count", key, forAll, forAny)
		}
	case strings.HasPrefix(lower, prefixKey) && len(key) > len(prefixKey):
		if c.set != "" {
			return fmt.Errorf("%q has one value: %s is not supported for it", key, c.set)
		}
		c.context = key[len(prefixKey):]
		if err := noVariables(c.context); err != nil {
			return err
		}
	default:
		return fmt.Errorf("condition key %q is not supported", key)
	}
	if b, ok := v.(bool); ok && c.null {
		v = fmt.Sprint(b)
	}
	if c.values, err = stringList(v); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	for _, value := range c.values {
		if err := noVariables(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if c.null && (len(c.values) != 1 || c.values[0] != "true" && c.values[0] != "false") {
		return fmt.Errorf(`%s: must be "true" or "false"`, key)
	}
	return nil
}

// holds reports whether the condition holds of an encryption context. sure is false if two names in the context differ only
// in case: the names of condition keys do not tell them apart.
func (c *condition) holds(context map[string]string) (holds, sure bool) {
	have := slices.Collect(maps.Keys(context))
	if c.context != "" {
		have = have[:0]
		for name, value := range context {
			if strings.EqualFold(name, c.context) {
				have = append(have, value)
			}
		}
		if len(have) > 1 {
			return false, false
		}
	}
	switch {
	case c.null:
		return (len(have) == 0) == (c.values[0] == "true"), true
	case len(have) == 0 && c.ifExists:
		return true, true
	case c.set == forAny:
		return slices.ContainsFunc(have, c.passes), true
	case c.set == "" && len(have) == 0:
		return c.negate, true
	}
	return !slices.ContainsFunc(have, func(v string) bool { return !c.passes(v) }), true
}

// passes reports whether one value of the request does.
func (c *condition) passes(v string) bool {
	found := slices.ContainsFunc(c.values, func(p string) bool { return c.test(p, v) })
	return found != c.negate
}
