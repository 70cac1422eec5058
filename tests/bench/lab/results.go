package lab

import "slices"

// Results are all figures, in the order in which they first came.
type Results struct {
	Peers []string // in the order of the table
	Rows  []*Row
}

// Row is one step under one condition, which is where the store lies or how far away it is.
type Row struct {
	Where, Step string
	Unit        Unit
	Peers       map[string]*Series
}

// Series are the figures of one peer, one for each round.
type Series struct {
	Values []float64
	After  []float64 // seconds that what was left to be done has taken
}

// Add adds the figure of a round.
func (r *Results) Add(where, step string, u Unit, peer string, value, after float64) {
	i := slices.IndexFunc(r.Rows, func(w *Row) bool { return w.Where == where && w.Step == step })
	if i < 0 {
		i = len(r.Rows)
		r.Rows = append(r.Rows, &Row{Where: where, Step: step, Unit: u, Peers: make(map[string]*Series)})
	}
	s := r.Rows[i].Peers[peer]
	if s == nil {
		s = &Series{}
		r.Rows[i].Peers[peer] = s
	}
	s.Values = append(s.Values, value)
	s.After = append(s.After, after)
}

// Each calls fn for each peer's series of each row, in the order of the table, until it returns an error.
func (r *Results) Each(fn func(w *Row, peer string, s *Series) error) error {
	for _, w := range r.Rows {
		for _, peer := range r.Peers {
			if s := w.Peers[peer]; s != nil {
				if err := fn(w, peer, s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Ratio returns how many times as good a peer is as another: of the medians, and the lowest and highest of the rounds.
func (w *Row) Ratio(peer, other string) (Spread, bool) {
	a, b := w.Peers[peer], w.Peers[other]
	if a == nil || b == nil {
		return Spread{}, false
	}
	times := func(x, y float64) float64 {
		if w.Unit.MoreIsBetter() {
			return x / y
		}
		return y / x
	}
	rounds := make([]float64, min(len(a.Values), len(b.Values)))
	for i := range rounds {
		rounds[i] = times(a.Values[i], b.Values[i])
	}
	s := SpreadOf(rounds)
	s.Median = times(SpreadOf(a.Values).Median, SpreadOf(b.Values).Median)
	return s, true
}
