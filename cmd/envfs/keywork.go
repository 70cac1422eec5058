package main

import (
	"context"
	"errors"
	"fmt"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
)

// workOnKeys does what a request asks of the data keys of an open vault.
func workOnKeys(ctx context.Context, f *fs.FS, r control.Request, reply func(control.Reply)) error {
	var pace audience
	pace.join(func(p control.Progress) { reply(control.Reply{Progress: &p}) })
	switch r.Verb {
	case control.Rewrap:
		res, err := f.Rewrap(ctx, func(done, total int64) { pace.progress("rewrapping", done, total) })
		reply(control.Reply{Rewrapped: &res})
		return err
	case control.Reencrypt:
		res, err := f.Reencrypt(ctx, r.Path, func(done int64) { pace.progress("reencrypting", done, 0) })
		reply(control.Reply{Reencrypted: &res})
		return err
	case control.KeyUse:
		use, err := f.KeyUse(ctx)
		if err != nil {
			return err
		}
		reply(control.Reply{KeyUse: &use})
		return nil
	}
	return fmt.Errorf("%w: keys are not worked on by %q", errUsage, r.Verb)
}

// askVault has a request answered: by the daemon that has the vault mounted for this user to write, else by the vault opened
// here. One that only reads may show a moment before the keys were changed.
func (a *app) askVault(ctx context.Context, path string, src *secret.Source, o openOptions, r control.Request, each func(control.Reply)) error {
	b := a.newBar()
	defer b.clear()
	hear := func(r control.Reply) {
		b.tell(r)
		each(r)
	}
	clients, err := control.Find(func(h control.Hello) bool {
		return h.Store == storeName(path) && h.Root == "" && !h.ReadOnly
	})
	if err != nil {
		return err
	}
	for _, c := range clients {
		defer c.Close()
	}
	if len(clients) > 0 {
		return clients[0].Do(ctx, r, hear)
	}
	kf, _, err := peek(ctx, path, "")
	if err != nil {
		return err
	}
	secrets, err := a.secrets(ctx, src, kf)
	if err != nil {
		return err
	}
	o.Places = a.at
	v, err := open(ctx, path, &secrets, o, a.tellingLog(), nil)
	if err != nil {
		return err
	}
	return errors.Join(workOnKeys(ctx, v.FS, r, hear), v.Close(context.WithoutCancel(ctx)))
}
