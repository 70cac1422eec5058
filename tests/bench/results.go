package main

import (
	"encoding/json"
	"io"
	"slices"
)

// results are all figures, in the order in which they first came.
type results struct {
	peers []string
	rows  []*row
}

// row is one step on one store.
type row struct {
	store, step string
	unit        unit
	peers       map[string]*series
}

// series are the figures of one peer, one for each round.
type series struct {
	values []float64
	after  []float64 // seconds that unmounting and syncing took
}

func newResults(peers []string) *results { return &results{peers: peers} }

// add adds the figure of a round.
func (r *results) add(store, step string, u unit, peer string, m measurement) {
	i := slices.IndexFunc(r.rows, func(w *row) bool { return w.store == store && w.step == step })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row{store: store, step: step, unit: u, peers: make(map[string]*series)})
	}
	s := r.rows[i].peers[peer]
	if s == nil {
		s = &series{}
		r.rows[i].peers[peer] = s
	}
	s.values = append(s.values, m.value)
	s.after = append(s.after, m.after.Seconds())
}

// spread is the middle of some figures, and how far they are apart.
type spread struct{ median, low, high float64 }

func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	return spread{median: (v[(len(v)-1)/2] + v[len(v)/2]) / 2, low: v[0], high: v[len(v)-1]}
}

// ratio returns how many times as good a peer is as another: of the medians, and the lowest and highest of the rounds.
func (w *row) ratio(peer, other string) (spread, bool) {
	a, b := w.peers[peer], w.peers[other]
	if a == nil || b == nil {
		return spread{}, false
	}
	times := func(x, y float64) float64 {
		if w.unit.moreIsBetter() {
			return x / y
		}
		return y / x
	}
	rounds := make([]float64, min(len(a.values), len(b.values)))
	for i := range rounds {
		rounds[i] = times(a.values[i], b.values[i])
	}
	s := spreadOf(rounds)
	s.median = times(spreadOf(a.values).median, spreadOf(b.values).median)
	return s, true
}

// result is a peer's figures for a step as JSON has it.
type result struct {
	Store  string    `json:"store"`
	Step   string    `json:"step"`
	Unit   unit      `json:"unit"`
	Peer   string    `json:"peer"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Ratio  float64   `json:"times_gocryptfs,omitempty"` // above 1 is better than gocryptfs, also for costs
	After  float64   `json:"after_s"`                   // median of what unmounting and syncing the store took
	Values []float64 `json:"values"`
}

// writeJSON writes one object a line.
func (r *results) writeJSON(out io.Writer) error {
	enc := json.NewEncoder(out)
	for _, w := range r.rows {
		for _, peer := range r.peers {
			s := w.peers[peer]
			if s == nil {
				continue
			}
			v := spreadOf(s.values)
			ratio, _ := w.ratio(peer, gocryptfsName)
			err := enc.Encode(result{Store: w.store, Step: w.step, Unit: w.unit, Peer: peer, Median: v.median, Min: v.low,
				Max: v.high, Ratio: ratio.median, After: spreadOf(s.after).median, Values: s.values})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
