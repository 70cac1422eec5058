package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// writeTables writes a table for each store, in Markdown, with what was measured on and the command before them.
func (r *results) writeTables(out io.Writer, about, args string) error {
	var b bytes.Buffer
	cmd := "make bench"
	if args != "" {
		cmd = "scripts/bench.sh " + args
	}
	fmt.Fprintf(&b, "`%s`: %s.\n", cmd, about)
	for i, w := range r.rows {
		if i == 0 || w.store != r.rows[i-1].store {
			r.head(&b, w.store)
		}
		r.row(&b, w)
	}
	_, err := out.Write(b.Bytes())
	return err
}

// compared are the peers that a table compares with gocryptfs.
func (r *results) compared() []kind {
	var all []kind
	for _, name := range r.peers {
		if strings.HasPrefix(name, "envfs") {
			k, _ := kindOf(name)
			all = append(all, k)
		}
	}
	return all
}

func (r *results) head(b *bytes.Buffer, store string) {
	cells := []string{"store on " + store, ""}
	for _, name := range r.peers {
		k, _ := kindOf(name)
		cells = append(cells, k.title)
	}
	for _, k := range r.compared() {
		cells = append(cells, k.title+" : "+gocryptfsName)
	}
	b.WriteByte('\n')
	line(b, cells)
	line(b, append([]string{"---", "---"}, strings.Split(strings.Repeat(" ---:", len(cells)-2), " ")[1:]...))
}

func (r *results) row(b *bytes.Buffer, w *row) {
	cells := []string{w.step, string(w.unit)}
	for _, name := range r.peers {
		cell := "-"
		if s := w.peers[name]; s != nil {
			cell = spreadOf(s.values).String()
		}
		cells = append(cells, cell)
	}
	for _, k := range r.compared() {
		cell := "-"
		if s, ok := w.ratio(k.name, gocryptfsName); ok {
			cell = s.String()
		}
		cells = append(cells, cell)
	}
	line(b, cells)
}

func line(b *bytes.Buffer, cells []string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

// String is the median, and the lowest and the highest if they differ in what is shown of them.
func (s spread) String() string {
	low, high := figure(s.low), figure(s.high)
	if low == high {
		return figure(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", figure(s.median), low, high)
}

// figure formats a figure with the three digits that mean something.
func figure(x float64) string {
	rounded := strconv.FormatFloat(x, 'e', 2, 64)
	_, power, ok := strings.Cut(rounded, "e")
	if !ok { // not finite
		return rounded
	}
	exponent, _ := strconv.Atoi(power)          // it is one
	value, _ := strconv.ParseFloat(rounded, 64) // it is one
	if exponent > 2 {
		return count(int(value))
	}
	return strconv.FormatFloat(value, 'f', min(2-exponent, 3), 64)
}
