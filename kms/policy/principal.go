package policy

import (
	"errors"
	"fmt"
	"strings"
)

// principals is whom a statement is about.
type principals struct {
	anyone  bool
	account bool            // the account itself, in AWS's words its root
	users   map[string]bool // ARNs
}

// include reports whether r's user is meant. The account allows its administrators, as in AWS it allows whom IAM's policies
// allow; it denies all its users.
func (p *principals) include(r *Request, deny bool) bool {
	return p.anyone || p.users[r.User] || p.account && (deny || r.Admin)
}

func parsePrincipals(v any, account string) (p principals, err error) {
	if v == "*" {
		return principals{anyone: true}, nil
	}
	fields, ok := v.(map[string]any)
	if !ok {
		return p, errors.New(`must be "*" or {"AWS": ...}`)
	}
	if err := only(fields, "AWS"); err != nil {
		return p, err
	}
	names, err := stringList(fields["AWS"])
	if err != nil {
		return p, fmt.Errorf("AWS: %w", err)
	}
	p.users = map[string]bool{}
	arn := "arn:aws:iam::" + account
	for _, name := range names {
		user, isUser := strings.CutPrefix(name, arn+":user/")
		switch {
		case name == "*":
			p.anyone = true
		case name == account, name == arn+":root":
			p.account = true
		case isUser && user != "" && !strings.ContainsAny(user, "*?$"):
			p.users[name] = true
		default:
			return p, fmt.Errorf("%q is not a user of account %s", name, account)
		}
	}
	return p, nil
}
