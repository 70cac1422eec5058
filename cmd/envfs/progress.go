package main

import (
	"github.com/schollz/progressbar/v3"

	"envfs/cmd/envfs/internal/control"
)

// bar shows how far long work is, on a terminal only. The zero bar of a terminal-less app shows nothing.
type bar struct {
	a     *app
	stage string
	bar   *progressbar.ProgressBar
}

func (a *app) newBar() *bar { return &bar{a: a} }

// show shows p.
func (b *bar) show(p control.Progress) {
	if !b.a.talking() {
		return
	}
	if b.bar == nil || b.stage != p.Stage {
		b.clear()
		total := p.Total
		if total <= 0 {
			total = -1 // a spinner
		}
		b.stage = p.Stage
		b.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(b.a.talk),
			progressbar.OptionSetDescription(p.Stage), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(progressPeriod))
	}
	if p.Total > 0 {
		b.bar.ChangeMax64(p.Total)
	}
	_ = b.bar.Set64(p.Done) // only a drawing
}

// tell shows what a daemon says while it works: progress, and words.
func (b *bar) tell(r control.Reply) {
	switch {
	case r.Progress != nil:
		b.show(*r.Progress)
	case r.Notice != "":
		b.clear()
		b.a.say("%s", r.Notice)
	}
}

// clear takes the bar off the screen.
func (b *bar) clear() {
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}
