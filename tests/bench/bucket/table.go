package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"envfs/tests/bench/lab"
)

// figures are all that was measured.
type figures struct {
	lab.Results
	targets map[string]target            // by row
	kinds   map[string]map[string]counts // of requests, in the first round, by row and peer
}

func newFigures(peers []string, z sizes) *figures {
	f := &figures{Results: lab.Results{Peers: peers}, targets: make(map[string]target), kinds: make(map[string]map[string]counts)}
	for _, chapter := range chapters(z) {
		for _, s := range chapter {
			for part, t := range s.targets(false) {
				f.targets[rowName(where(0), s.figure(part))] = t
			}
		}
	}
	f.targets[rowName(where(0), memoryStep)] = atMost(300)
	return f
}

func rowName(where, step string) string { return where + "; " + step }

// where says how far away the server was.
func where(latency time.Duration) string {
	if latency == 0 {
		return "no latency"
	}
	return "latency of " + latency.String()
}

func (f *figures) add(latency time.Duration, step string, u lab.Unit, peer string, value float64) {
	f.Add(where(latency), step, u, peer, value, 0)
}

// note adds the figures of a step, and returns that of its work alone.
func (f *figures) note(latency time.Duration, s *step, peer string, m measurement) float64 {
	value := func(took time.Duration) float64 {
		if s.unit.MoreIsBetter() {
			return m.amount / took.Seconds()
		}
		return took.Seconds()
	}
	f.add(latency, s.figure(returnedPart), s.unit, peer, value(m.returned))
	if s.saves {
		f.add(latency, s.figure(safePart), s.unit, peer, value(m.safe))
	}
	f.count(latency, s.figure(requestsPart), peer, m.requests)
	if s.cold && m.mounted > 0 {
		f.add(latency, s.figure(mountPart), lab.Seconds, peer, m.mounted.Seconds())
		f.count(latency, s.figure(askedPart), peer, m.asked)
	}
	if latency > 0 {
		for part, t := range s.targets(true) {
			f.targets[rowName(where(latency), s.figure(part))] = t
		}
	}
	return value(m.returned)
}

// count adds a row of requests.
func (f *figures) count(latency time.Duration, row, peer string, c counts) {
	f.add(latency, row, lab.Requests, peer, float64(c.total()))
	key := rowName(where(latency), row)
	if f.kinds[key] == nil {
		f.kinds[key] = make(map[string]counts)
	}
	if _, ok := f.kinds[key][peer]; !ok {
		f.kinds[key][peer] = c
	}
}

// judge says what envfs was to reach in a row, and whether it has.
func (f *figures) judge(w *lab.Row) (want, verdict string) {
	t := f.targets[rowName(w.Where, w.Step)]
	ours := w.Peers[envfsName]
	if t.none() {
		return "", ""
	}
	met, known := false, ours != nil
	if t.relative() {
		k, _ := kindOf(t.other)
		want = fmt.Sprintf("%g × %s", t.factor, k.title)
		ratio, ok := w.Ratio(t.other, envfsName) // how many times as long envfs takes
		met, known = ratio.Median <= t.factor, known && ok
		verdict = fmt.Sprintf(" (%s ×)", lab.Figure(ratio.Median))
	} else if w.Unit.MoreIsBetter() {
		want = fmt.Sprintf("≥ %g", t.limit)
		met = known && lab.SpreadOf(ours.Values).Median >= t.limit
	} else {
		want = fmt.Sprintf("≤ %g", t.limit)
		met = known && lab.SpreadOf(ours.Values).Median <= t.limit
	}
	switch {
	case !known:
		return want, ""
	case met:
		return want, "met" + verdict
	default:
		return want, "missed" + verdict
	}
}

// writeTables writes two tables for each distance, in Markdown: figures, and requests by kind.
func (f *figures) writeTables(out io.Writer, about, args string) error {
	var b bytes.Buffer
	cmd := "make bench-bucket"
	if args != "" {
		cmd = "scripts/bench.sh bucket " + args
	}
	fmt.Fprintf(&b, "`%s`: %s.\n", cmd, about)
	for i, w := range f.Rows {
		if i > 0 && w.Where == f.Rows[i-1].Where {
			continue
		}
		f.table(&b, w.Where, []string{w.Where, "", "envfs is to reach", ""}, func(row *lab.Row) []string {
			want, verdict := f.judge(row)
			return []string{row.Step, string(row.Unit), want, verdict}
		}, cell)
		f.table(&b, w.Where, []string{"requests, " + w.Where}, func(row *lab.Row) []string {
			if row.Unit != lab.Requests {
				return nil
			}
			return []string{strings.TrimSuffix(row.Step, ": "+requestsPart)}
		}, func(row *lab.Row, peer string) string { return f.kinds[rowName(row.Where, row.Step)][peer].String() })
	}
	_, err := out.Write(b.Bytes())
	return err
}

// cell is a peer's figure; requests are counted, not measured.
func cell(row *lab.Row, peer string) string {
	s := lab.SpreadOf(row.Peers[peer].Values)
	if row.Unit == lab.Requests {
		return lab.Count(int(s.Median))
	}
	return s.String()
}

// table writes a table of the rows of a distance for which first returns the first cells.
func (f *figures) table(b *bytes.Buffer, where string, head []string, first func(*lab.Row) []string, cell func(row *lab.Row, peer string) string) {
	rule := strings.Split(strings.Repeat("--- ", len(head)-1)+"---", " ")
	for _, name := range f.Peers {
		k, _ := kindOf(name)
		head, rule = append(head, k.title), append(rule, "---:")
	}
	b.WriteByte('\n')
	lab.Line(b, head)
	lab.Line(b, rule)
	for _, row := range f.Rows {
		if row.Where != where {
			continue
		}
		cells := first(row)
		if cells == nil {
			continue
		}
		for _, name := range f.Peers {
			text := "-"
			if row.Peers[name] != nil {
				text = cell(row, name)
			}
			cells = append(cells, text)
		}
		lab.Line(b, cells)
	}
}

// result is a peer's figures for a step as JSON has it.
type result struct {
	Where  string         `json:"where"`
	Step   string         `json:"step"`
	Unit   lab.Unit       `json:"unit"`
	Peer   string         `json:"peer"`
	Median float64        `json:"median"`
	Min    float64        `json:"min"`
	Max    float64        `json:"max"`
	Values []float64      `json:"values"`
	Kinds  map[string]int `json:"kinds,omitempty"` // of requests, in the first round
}

// writeJSON writes one object a line.
func (f *figures) writeJSON(out io.Writer) error {
	enc := json.NewEncoder(out)
	return f.Each(func(w *lab.Row, peer string, s *lab.Series) error {
		v := lab.SpreadOf(s.Values)
		return enc.Encode(result{Where: w.Where, Step: w.Step, Unit: w.Unit, Peer: peer, Median: v.Median, Min: v.Low, Max: v.High,
			Values: s.Values, Kinds: f.kinds[rowName(w.Where, w.Step)][peer].kinds})
	})
}
