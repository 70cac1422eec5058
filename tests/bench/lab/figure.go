package lab

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Unit is what a figure is in.
type Unit string

// The units.
const (
	Megabytes Unit = "MB/s"
	PerSecond Unit = "/s"
	Seconds   Unit = "s"
	Mebibytes Unit = "MiB" // of memory
	Requests  Unit = "requests"
)

// MoreIsBetter tells rates from costs.
func (u Unit) MoreIsBetter() bool { return u == Megabytes || u == PerSecond }

// Spread is the middle of some figures, and how far they are apart.
type Spread struct{ Median, Low, High float64 }

// SpreadOf returns the spread of at least one value.
func SpreadOf(values []float64) Spread {
	v := slices.Sorted(slices.Values(values))
	return Spread{Median: (v[(len(v)-1)/2] + v[len(v)/2]) / 2, Low: v[0], High: v[len(v)-1]}
}

// String is the median, and the lowest and the highest if they differ in what is shown of them.
func (s Spread) String() string {
	low, high := Figure(s.Low), Figure(s.High)
	if low == high {
		return Figure(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", Figure(s.Median), low, high)
}

// Figure formats a figure with the three digits that mean something.
func Figure(x float64) string {
	rounded := strconv.FormatFloat(x, 'e', 2, 64)
	_, power, ok := strings.Cut(rounded, "e")
	if !ok { // not finite
		return rounded
	}
	exponent, _ := strconv.Atoi(power)          // it is one
	value, _ := strconv.ParseFloat(rounded, 64) // it is one
	if exponent > 2 {
		return Count(int(value))
	}
	return strconv.FormatFloat(value, 'f', min(2-exponent, 3), 64)
}

// Count formats a number for people: 10,000.
func Count(n int) string {
	s := fmt.Sprint(n)
	var groups []string
	for len(s) > 3 {
		groups = append([]string{s[len(s)-3:]}, groups...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, groups...), ",")
}

// Line writes a row of a table in Markdown.
func Line(b *bytes.Buffer, cells []string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}
