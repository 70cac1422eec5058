// Package policy understands key policies in the language of AWS
// (https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html), a part of it: Principal, Action, Resource,
// and Condition on the encryption context. What it does not understand it refuses when it parses: nothing in a policy
// is ignored.
package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxSize is the greatest size of a policy in bytes, that of AWS.
const MaxSize = 32 << 10

// Policy is a key policy. It is not changed after Parse, and safe for concurrent use.
type Policy struct {
	statements []statement
}

// Request is what a policy decides on.
type Request struct {
	User    string            // ARN
	Admin   bool              // the account, arn:aws:iam::ACCOUNT:root, allows its administrators
	Action  string            // kms:Decrypt
	Key     string            // ARN
	Context map[string]string // the encryption context
}

type statement struct {
	deny       bool
	principals principals
	actions    []string // patterns in lower case
	resources  []string // patterns
	conditions []condition
}

// Default returns the policy of a key that was made without one: the account's administrators may do everything.
func Default(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::` + account + `:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

// Parse parses a policy of a key of an account. The error says what is wrong, or not supported.
func Parse(text, account string) (*Policy, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("larger than %d bytes", MaxSize)
	}
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	if err := only(doc, "Version", "Id", "Statement"); err != nil {
		return nil, err
	}
	if version, there := doc["Version"]; there && version != "2012-10-17" && version != "2008-10-17" {
		return nil, errors.New(`the Version must be "2012-10-17" or "2008-10-17"`)
	}
	if err := stringOrNone(doc, "Id"); err != nil {
		return nil, err
	}
	statements, ok := doc["Statement"].([]any)
	if !ok {
		if doc["Statement"] == nil {
			return nil, errors.New("the Statement is missing")
		}
		statements = []any{doc["Statement"]}
	}
	if len(statements) == 0 {
		return nil, errors.New("the Statement is empty")
	}
	p := &Policy{}
	for i, v := range statements {
		s, err := parseStatement(v, account)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
		p.statements = append(p.statements, *s)
	}
	return p, nil
}

func parseStatement(v any, account string) (*statement, error) {
	fields, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	if err := only(fields, "Sid", "Effect", "Principal", "Action", "Resource", "Condition"); err != nil {
		return nil, err
	}
	if err := stringOrNone(fields, "Sid"); err != nil {
		return nil, err
	}
	s := &statement{}
	switch fields["Effect"] {
	case "Allow":
	case "Deny":
		s.deny = true
	default:
		return nil, errors.New(`the Effect must be "Allow" or "Deny"`)
	}
	var err error
	if s.principals, err = parsePrincipals(fields["Principal"], account); err != nil {
		return nil, fmt.Errorf("its Principal: %w", err)
	}
	if s.actions, err = parseActions(fields["Action"]); err != nil {
		return nil, fmt.Errorf("its Action: %w", err)
	}
	if s.resources, err = parseResources(fields["Resource"]); err != nil {
		return nil, fmt.Errorf("its Resource: %w", err)
	}
	if c, there := fields["Condition"]; there {
		if s.conditions, err = parseConditions(c); err != nil {
			return nil, fmt.Errorf("its Condition: %w", err)
		}
	}
	return s, nil
}

// Allows decides: a statement that denies wins over those that allow, and what none allows is denied.
func (p *Policy) Allows(r *Request) bool {
	allowed := false
	for i := range p.statements {
		s := &p.statements[i]
		if !s.concerns(r) {
			continue
		}
		if s.deny {
			return false
		}
		allowed = true
	}
	return allowed
}

// concerns reports whether the statement has its effect on the request. Where that cannot be told for sure, a statement
// that denies does and one that allows does not.
func (s *statement) concerns(r *Request) bool {
	if !s.principals.include(r, s.deny) || !matchAny(s.actions, strings.ToLower(r.Action)) || !matchAny(s.resources, r.Key) {
		return false
	}
	for i := range s.conditions {
		holds, sure := s.conditions[i].holds(r.Context)
		if !sure {
			holds = s.deny
		}
		if !holds {
			return false
		}
	}
	return true
}

// Users returns the ARNs of the users whom the policy names, ordered.
func (p *Policy) Users() []string {
	all := map[string]bool{}
	for _, s := range p.statements {
		maps.Copy(all, s.principals.users)
	}
	return slices.Sorted(maps.Keys(all))
}

// only refuses names other than the given ones.
func only(fields map[string]any, names ...string) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%q is not supported", name)
		}
	}
	return nil
}

func stringOrNone(fields map[string]any, name string) error {
	v, there := fields[name]
	if _, ok := v.(string); there && !ok {
		return fmt.Errorf("%s is not a string", name)
	}
	return nil
}

// stringList returns a string or a list of strings as a list that is not empty.
func stringList(v any) ([]string, error) {
	if s, ok := v.(string); ok {
		return []string{s}, nil
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("must be a string or a list of strings")
	}
	var all []string
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			return nil, errors.New("must be a string or a list of strings")
		}
		all = append(all, s)
	}
	return all, nil
}

// noVariables refuses policy variables, which would have to be replaced.
func noVariables(s string) error {
	if strings.Contains(s, "${") {
		return fmt.Errorf("%q: policy variables are not supported", s)
	}
	return nil
}
