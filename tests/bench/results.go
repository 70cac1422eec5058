package main

import (
	"encoding/json"
	"io"

	"envfs/tests/bench/lab"
)

// results are all figures; where is the kind of store.
type results struct{ lab.Results }

func newResults(peers []string) *results { return &results{lab.Results{Peers: peers}} }

// result is a peer's figures for a step as JSON has it.
type result struct {
	Store  string    `json:"store"`
	Step   string    `json:"step"`
	Unit   lab.Unit  `json:"unit"`
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
	return r.Each(func(w *lab.Row, peer string, s *lab.Series) error {
		v := lab.SpreadOf(s.Values)
		ratio, _ := w.Ratio(peer, lab.GocryptfsName)
		return enc.Encode(result{Store: w.Where, Step: w.Step, Unit: w.Unit, Peer: peer, Median: v.Median, Min: v.Low,
			Max: v.High, Ratio: ratio.Median, After: lab.SpreadOf(s.After).Median, Values: s.Values})
	})
}
