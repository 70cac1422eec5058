package policy

import (
	"fmt"
	"strings"
	"testing"
)

const (
	account = "000000000000"
	key     = "arn:aws:kms:us-east-1:000000000000:key/6f1c0f0e-3a5b-4c7d-8e9f-a0b1c2d3e4f5"
)

func user(name string) string { return "arn:aws:iam::" + account + ":user/" + name }

// statementOf returns a policy of one statement.
func statementOf(effect, principal, rest string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":%q,"Principal":%s,%s}]}`, effect, principal, rest)
}

const all = `"Action":"kms:*","Resource":"*"`

func aws(names ...string) string { return `{"AWS":["` + strings.Join(names, `","`) + `"]}` }

func parse(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := Parse(text, account)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return p
}

func TestDefault(t *testing.T) {
	p := parse(t, Default(account))
	if !p.Allows(&Request{User: user("root"), Admin: true, Action: "kms:PutKeyPolicy", Key: key}) {
		t.Error("an administrator may not")
	}
	if p.Allows(&Request{User: user("alice"), Action: "kms:Decrypt", Key: key}) {
		t.Error("an ordinary user may")
	}
}

func TestPrincipalsActionsResources(t *testing.T) {
	for _, c := range []struct {
		principal, rest string
		action          string
		admin, want     bool
	}{
		{`"*"`, all, "kms:Decrypt", false, true},
		{`{"AWS":"*"}`, all, "kms:Decrypt", false, true},
		{aws(user("alice")), all, "kms:Decrypt", false, true},
		{aws(user("bob"), user("alice")), all, "kms:Decrypt", false, true},
		{aws(user("bob")), all, "kms:Decrypt", false, false},
		{aws(user("Alice")), all, "kms:Decrypt", false, false},
		{aws(account), all, "kms:Decrypt", true, true},
		{aws(account), all, "kms:Decrypt", false, false},
		{aws("arn:aws:iam::" + account + ":root"), all, "kms:Decrypt", true, true},
		{`"*"`, `"Action":["kms:Encrypt","KMS:deCRYPT"],"Resource":"*"`, "kms:Decrypt", false, true},
		{`"*"`, `"Action":"kms:GenerateDataKey*","Resource":"*"`, "kms:GenerateDataKeyWithoutPlaintext", false, true},
		{`"*"`, `"Action":"kms:GenerateDataKey","Resource":"*"`, "kms:GenerateDataKeyWithoutPlaintext", false, false},
		{`"*"`, `"Action":"kms:?ecrypt","Resource":"*"`, "kms:Decrypt", false, true},
		{`"*"`, `"Action":"*","Resource":"*"`, "kms:Decrypt", false, true},
		{`"*"`, `"Action":"kms:*","Resource":"` + key + `"`, "kms:Decrypt", false, true},
		{`"*"`, `"Action":"kms:*","Resource":["arn:aws:kms:*:*:key/*"]`, "kms:Decrypt", false, true},
		{`"*"`, `"Action":"kms:*","Resource":"arn:aws:kms:us-east-1:000000000000:key/other"`, "kms:Decrypt", false, false},
	} {
		p := parse(t, statementOf("Allow", c.principal, c.rest))
		if got := p.Allows(&Request{User: user("alice"), Admin: c.admin, Action: c.action, Key: key}); got != c.want {
			t.Errorf("%s %s: %s (admin %v): %v", c.principal, c.rest, c.action, c.admin, got)
		}
	}
}

func TestDenyWins(t *testing.T) {
	for _, denied := range []string{`"*"`, aws(user("alice")), aws(account)} {
		p := parse(t, fmt.Sprintf(`{"Statement":[
			{"Effect":"Deny","Principal":%s,"Action":"kms:Decrypt","Resource":"*"},
			{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`, denied))
		r := Request{User: user("alice"), Action: "kms:Decrypt", Key: key}
		if p.Allows(&r) {
			t.Errorf("%s: what is denied is allowed", denied)
		}
		r.Action = "kms:Encrypt"
		if !p.Allows(&r) {
			t.Errorf("%s: what is not denied is not allowed", denied)
		}
	}
}

func TestConditions(t *testing.T) {
	type m = map[string]string
	for _, c := range []struct {
		condition string
		context   m
		want      bool
	}{
		{`"StringEquals":{"kms:EncryptionContext:app":"demo"}`, m{"app": "demo"}, true},
		{`"StringEquals":{"kms:EncryptionContext:app":["x","demo"]}`, m{"app": "demo", "more": "1"}, true},
		{`"StringEquals":{"kms:EncryptionContext:app":"demo"}`, m{"app": "Demo"}, false},
		{`"StringEquals":{"kms:EncryptionContext:app":"demo"}`, m{"APP": "demo"}, true},
		{`"StringEquals":{"kms:EncryptionContext:app":"demo"}`, m{"other": "demo"}, false},
		{`"StringEquals":{"kms:EncryptionContext:app":"demo"}`, nil, false},
		{`"StringEqualsIfExists":{"kms:EncryptionContext:app":"demo"}`, nil, true},
		{`"StringEqualsIfExists":{"kms:EncryptionContext:app":"demo"}`, m{"app": "x"}, false},
		{`"StringNotEquals":{"kms:EncryptionContext:app":"demo"}`, m{"app": "x"}, true},
		{`"StringNotEquals":{"kms:EncryptionContext:app":"demo"}`, m{"app": "demo"}, false},
		{`"StringNotEquals":{"kms:EncryptionContext:app":"demo"}`, nil, true},
		{`"StringEqualsIgnoreCase":{"kms:EncryptionContext:app":"demo"}`, m{"app": "DEMO"}, true},
		{`"StringNotEqualsIgnoreCase":{"kms:EncryptionContext:app":"demo"}`, m{"app": "DEMO"}, false},
		{`"StringLike":{"kms:EncryptionContext:app":"de*"}`, m{"app": "demo"}, true},
		{`"StringLike":{"kms:EncryptionContext:app":"de?"}`, m{"app": "demo"}, false},
		{`"StringNotLike":{"kms:EncryptionContext:app":"de*"}`, m{"app": "demo"}, false},
		{`"StringEquals":{"kms:EncryptionContext:a":"1","kms:EncryptionContext:b":"2"}`, m{"a": "1", "b": "2"}, true},
		{`"StringEquals":{"kms:EncryptionContext:a":"1","kms:EncryptionContext:b":"2"}`, m{"a": "1"}, false},
		{`"StringEquals":{"kms:EncryptionContext:a":"1"},"StringLike":{"kms:EncryptionContext:b":"*"}`, m{"a": "1"}, false},
		{`"StringEquals":{"kms:EncryptionContext:aws:s3:arn":"x"}`, m{"aws:s3:arn": "x"}, true},
		{`"Null":{"kms:EncryptionContext:app":"true"}`, nil, true},
		{`"Null":{"kms:EncryptionContext:app":"true"}`, m{"app": ""}, false},
		{`"Null":{"kms:EncryptionContext:app":false}`, m{"app": ""}, true},
		{`"Null":{"kms:EncryptionContextKeys":"false"}`, nil, false},
		{`"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}`, m{"a": "1"}, true},
		{`"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}`, m{"a": "1", "c": "1"}, false},
		{`"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}`, m{"A": "1"}, false},
		{`"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}`, nil, true},
		{`"ForAllValues:StringNotEquals":{"kms:EncryptionContextKeys":"a"}`, m{"a": "1", "b": ""}, false},
		{`"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"a"}`, m{"a": "1", "b": "2"}, true},
		{`"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"a"}`, m{"b": "2"}, false},
		{`"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"a"}`, nil, false},
		{`"ForAnyValue:StringLike":{"kms:EncryptionContextKeys":"a*"}`, m{"about": "2"}, true},
	} {
		p := parse(t, statementOf("Allow", `"*"`, all+`,"Condition":{`+c.condition+`}`))
		if got := p.Allows(&Request{User: user("alice"), Action: "kms:Decrypt", Key: key, Context: c.context}); got != c.want {
			t.Errorf("%s of %v: %v", c.condition, c.context, got)
		}
	}
}

// TestNamesThatDifferInCase: of two values for one condition key neither may let through what the other would stop.
func TestNamesThatDifferInCase(t *testing.T) {
	r := &Request{User: user("alice"), Action: "kms:Decrypt", Key: key, Context: map[string]string{"app": "demo", "App": "x"}}
	for _, op := range []string{"StringEquals", "StringNotEquals", "StringEqualsIfExists"} {
		condition := fmt.Sprintf(`,"Condition":{%q:{"kms:EncryptionContext:app":"demo"}}`, op)
		if parse(t, statementOf("Allow", `"*"`, all+condition)).Allows(r) {
			t.Errorf("%s: allowed", op)
		}
		deny := `{"Effect":"Deny","Principal":"*",` + all + condition + `},{"Effect":"Allow","Principal":"*",` + all + `}`
		if parse(t, `{"Statement":[`+deny+`]}`).Allows(r) {
			t.Errorf("%s: not denied", op)
		}
	}
}

func TestRefused(t *testing.T) {
	ok := statementOf("Allow", `"*"`, all)
	for _, text := range []string{
		``, `[]`, `"x"`, `{`, `{}`, ok + ok, ok + "x", "{\"Statement\":\"\xff\"}",
		strings.Replace(ok, "2012-10-17", "2012-10-18", 1),
		strings.Replace(ok, `"Version"`, `"version"`, 1),
		strings.Replace(ok, `"Effect":"Allow"`, `"Effect":"Allow","Effect":"Deny"`, 1),
		strings.Replace(ok, `"Effect":"Allow"`, `"Effect":"allow"`, 1),
		strings.Replace(ok, `"Effect":"Allow"`, `"Effect":["Allow"]`, 1),
		strings.Replace(ok, `"Effect":"Allow"`, `"Effect":"Allow","Sid":1`, 1),
		`{"Statement":[]}`, `{"Statement":[[]]}`, `{"Statement":["x"]}`,
		statementOf("Allow", `"*"`, `"Action":"kms:*"`),
		statementOf("Allow", `"*"`, `"Resource":"*"`),
		statementOf("Allow", `"*"`, `"NotAction":"kms:Decrypt","Resource":"*"`),
		statementOf("Allow", `"*"`, `"Action":"kms:*","NotResource":"*"`),
		strings.Replace(ok, `"Principal"`, `"NotPrincipal"`, 1),
		statementOf("Allow", `"x"`, all), statementOf("Allow", `{}`, all), statementOf("Allow", `{"AWS":[]}`, all), statementOf("Allow", `{"AWS":[1]}`, all),
		statementOf("Allow", `{"Service":"s3.amazonaws.com"}`, all),
		statementOf("Allow", `{"AWS":"*","Service":"s3.amazonaws.com"}`, all),
		statementOf("Allow", aws("arn:aws:iam::111111111111:root"), all),
		statementOf("Allow", aws("arn:aws:iam::000000000000:role/x"), all),
		statementOf("Allow", aws("arn:aws:iam::000000000000:user/*"), all),
		statementOf("Allow", aws("arn:aws:iam::000000000000:user/"), all),
		statementOf("Allow", `"*"`, `"Action":"kms:Decrpyt","Resource":"*"`),
		statementOf("Allow", `"*"`, `"Action":"s3:*","Resource":"*"`),
		statementOf("Allow", `"*"`, `"Action":[],"Resource":"*"`),
		statementOf("Allow", `"*"`, `"Action":"kms:*","Resource":"arn:aws:s3:::x"`),
		statementOf("Allow", `"*"`, `"Action":"kms:*","Resource":"arn:aws:kms:${aws:username}"`),
		strings.Repeat(" ", MaxSize) + ok,
		strings.Repeat(`{"Statement":`, 100) + strings.Repeat(`}`, 100),
	} {
		if _, err := Parse(text, account); err == nil {
			t.Errorf("taken: %.200s", text)
		}
	}
	for _, condition := range []string{
		`[]`, `"x"`, `{"StringEquals":[]}`, `{"StringEquals":{}}`,
		`{"StringEquals":{"kms:ViaService":"x"}}`,
		`{"StringEquals":{"aws:SourceIp":"x"}}`,
		`{"StringEquals":{"kms:EncryptionContext:":"x"}}`,
		`{"StringEquals":{"kms:EncryptionContext:a":1}}`,
		`{"StringEquals":{"kms:EncryptionContext:a":[]}}`,
		`{"StringEquals":{"kms:EncryptionContext:a":"${aws:username}"}}`,
		`{"StringEquals":{"kms:EncryptionContextKeys":"a"}}`,
		`{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"b"}}`,
		`{"ForSomeValues:StringEquals":{"kms:EncryptionContextKeys":"b"}}`,
		`{"ForAllValues:Null":{"kms:EncryptionContextKeys":"true"}}`,
		`{"Null":{"kms:EncryptionContext:a":"maybe"}}`,
		`{"NullIfExists":{"kms:EncryptionContext:a":"true"}}`,
		`{"Bool":{"kms:EncryptionContext:a":"true"}}`,
		`{"IpAddress":{"kms:EncryptionContext:a":"10.0.0.0/8"}}`,
		`{"stringequals":{"kms:EncryptionContext:a":"b"}}`,
		`{"StringEquals":{"kms:EncryptionContext:a":"b","kms:EncryptionContext:a":"c"}}`,
	} {
		if _, err := Parse(statementOf("Allow", `"*"`, all+`,"Condition":`+condition), account); err == nil {
			t.Errorf("taken: condition %s", condition)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"*", "", true}, {"*", "abc", true}, {"a*c", "abbc", true}, {"a*c", "abbd", false}, {"a**", "a", true},
		{"*a*b*", "xxaxxbxx", true}, {"?", "é", true}, {"?", "", false}, {"a?c", "abc", true}, {"*.x.*x", ".x.x.x", true}, {"ab", "abc", false},
	} {
		if got := match(c.pattern, c.s); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
}

// FuzzParse: nothing makes the parser panic, and what it takes never allows what an explicit statement denies.
func FuzzParse(f *testing.F) {
	f.Add(Default(account), "app", "demo")
	f.Add(statementOf("Allow", aws(user("alice")), all+`,"Condition":{"ForAnyValue:StringLikeIfExists":{"kms:EncryptionContextKeys":["a*"]}}`), "a", "b")
	f.Add(statementOf("Deny", `"*"`, all+`,"Condition":{"Null":{"kms:EncryptionContext:x":true}}`), "x", "")
	f.Fuzz(func(t *testing.T, text, name, value string) {
		p, err := Parse(text, account)
		if err != nil {
			return
		}
		r := &Request{User: user("alice"), Action: "kms:Decrypt", Key: key, Context: map[string]string{name: value}}
		p.Allows(r)
		p.statements = append(p.statements, parse(t, statementOf("Deny", `"*"`, all)).statements...)
		if p.Allows(r) {
			t.Fatal("allowed what is denied")
		}
	})
}
