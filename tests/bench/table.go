package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"envfs/tests/bench/lab"
)

// writeTables writes a table for each store, in Markdown, with what was measured on and the command before them.
func (r *results) writeTables(out io.Writer, about, args string) error {
	var b bytes.Buffer
	cmd := "make bench"
	if args != "" {
		cmd = "scripts/bench.sh " + args
	}
	fmt.Fprintf(&b, "`%s`: %s.\n", cmd, about)
	for i, w := range r.Rows {
		if i == 0 || w.Where != r.Rows[i-1].Where {
			r.head(&b, w.Where)
		}
		r.row(&b, w)
	}
	_, err := out.Write(b.Bytes())
	return err
}

// compared are the peers that a table compares with gocryptfs.
func (r *results) compared() []kind {
	var all []kind
	for _, name := range r.Peers {
		if strings.HasPrefix(name, "envfs") {
			k, _ := kindOf(name)
			all = append(all, k)
		}
	}
	return all
}

func (r *results) head(b *bytes.Buffer, store string) {
	cells := []string{"store on " + store, ""}
	for _, name := range r.Peers {
		k, _ := kindOf(name)
		cells = append(cells, k.title)
	}
	for _, k := range r.compared() {
		cells = append(cells, k.title+" : "+lab.GocryptfsName)
	}
	b.WriteByte('\n')
	lab.Line(b, cells)
	lab.Line(b, append([]string{"---", "---"}, strings.Split(strings.Repeat(" ---:", len(cells)-2), " ")[1:]...))
}

func (r *results) row(b *bytes.Buffer, w *lab.Row) {
	cells := []string{w.Step, string(w.Unit)}
	for _, name := range r.Peers {
		cell := "-"
		if s := w.Peers[name]; s != nil {
			cell = lab.SpreadOf(s.Values).String()
		}
		cells = append(cells, cell)
	}
	for _, k := range r.compared() {
		cell := "-"
		if s, ok := w.Ratio(k.name, lab.GocryptfsName); ok {
			cell = s.String()
		}
		cells = append(cells, cell)
	}
	lab.Line(b, cells)
}
