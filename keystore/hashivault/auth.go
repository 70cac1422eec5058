package hashivault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// auth is who asks: a token that is there, or an AppRole, which gets one. It is safe for concurrent use.
type auth struct {
	given    string // the token that is there
	role     string
	secret   string
	rolePath string // what AppRole is mounted at

	turn   chan struct{} // holds a token while nobody sees to what follows
	got    string        // AppRole's token
	looked bool          // whether the given token was looked at
}

func (a *auth) configure(getenv func(string) string) error {
	a.turn = make(chan struct{}, 1)
	a.turn <- struct{}{}
	a.given = variable(getenv, "TOKEN")
	a.role, a.secret = variable(getenv, "ROLE_ID"), variable(getenv, "SECRET_ID")
	if a.rolePath = variable(getenv, "APPROLE_PATH"); a.rolePath == "" {
		a.rolePath = "approle"
	}
	if _, err := parseName(a.rolePath + "/login"); err != nil {
		return fmt.Errorf("VAULT_APPROLE_PATH: %w", err)
	}
	if a.given != "" || a.role != "" {
		return a.check()
	}
	home := getenv("HOME")
	text, err := os.ReadFile(filepath.Join(home, ".vault-token"))
	if home == "" || errors.Is(err, os.ErrNotExist) {
		return errors.New("nobody is named who asks: set VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID, or log in by `vault login`")
	}
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	a.given = strings.TrimSpace(string(text))
	return a.check()
}

func (a *auth) check() error {
	if a.given != "" && !headerSafe(a.given) {
		return errors.New("the token has characters that no token has")
	}
	return nil
}

// token returns the token to ask with. again, if it is not nil, gets another one in place of one that is refused.
func (a *auth) token(ctx context.Context, c *client) (token string, again func() (string, error), err error) {
	done, err := a.wait(ctx)
	if err != nil {
		return "", nil, err
	}
	defer done()
	if a.given != "" {
		a.renew(ctx, c)
		return a.given, nil, nil
	}
	if a.got == "" {
		err = a.login(ctx, c)
		return a.got, nil, err
	}
	old := a.got
	return old, func() (string, error) {
		done, err := a.wait(ctx)
		if err != nil {
			return "", err
		}
		defer done()
		if a.got != old { // somebody else was refused, too, and has logged in
			return a.got, nil
		}
		err = a.login(ctx, c)
		return a.got, err
	}, nil
}

// wait waits until nobody else is at it.
func (a *auth) wait(ctx context.Context) (done func(), err error) {
	select {
	case <-a.turn:
		return func() { a.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, unreached(ctx, ctx.Err())
	}
}

// login gets a token for the AppRole.
func (a *auth) login(ctx context.Context, c *client) error {
	a.got = ""
	var r struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	credentials := map[string]string{"role_id": a.role, "secret_id": a.secret}
	if err := c.do(ctx, http.MethodPost, "auth/"+a.rolePath+"/login", "", credentials, &r); err != nil {
		return fmt.Errorf("AppRole login: %w", err)
	}
	if !headerSafe(r.Auth.Token) {
		return fmt.Errorf("AppRole login: %w", errReply)
	}
	a.got = r.Auth.Token
	return nil
}

// renew renews the given token at its first use, if less than half of its time is left and it can be renewed. Whether
// that works only the next request tells: a policy may forbid it, and the token still opens.
func (a *auth) renew(ctx context.Context, c *client) {
	if a.looked {
		return
	}
	a.looked = true
	var is struct {
		TTL       int64 `json:"ttl"` // seconds
		Whole     int64 `json:"creation_ttl"`
		Renewable bool  `json:"renewable"`
	}
	if err := c.data(ctx, http.MethodGet, "auth/token/lookup-self", a.given, nil, &is); err != nil {
		return
	}
	if is.Renewable && is.TTL < is.Whole/2 {
		_ = c.do(ctx, http.MethodPost, "auth/token/renew-self", a.given, map[string]int64{"increment": is.Whole}, &struct{}{})
	}
}
