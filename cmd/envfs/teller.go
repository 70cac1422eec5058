package main

import (
	"context"
	"log/slog"
	"strings"
)

// teller is a log whose warnings are also told to the user who waits for the mount.
type teller struct {
	slog.Handler
	tell func(string)
}

// Handle implements [slog.Handler].
func (t *teller) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var b strings.Builder
		b.WriteString("envfs: " + r.Message)
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "cause" || a.Key == "error" {
				b.WriteString(": " + spelled(a.Value.String()))
			} else {
				b.WriteString(", " + a.Key + " " + spelled(a.Value.String()))
			}
			return true
		})
		t.tell(b.String())
	}
	return t.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (t *teller) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &teller{t.Handler.WithAttrs(attrs), t.tell}
}

// WithGroup implements [slog.Handler].
func (t *teller) WithGroup(name string) slog.Handler {
	return &teller{t.Handler.WithGroup(name), t.tell}
}
