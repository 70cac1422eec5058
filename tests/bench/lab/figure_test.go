package lab

import "testing"

func TestFigure(t *testing.T) {
	for x, want := range map[float64]string{0.0004: "0.000", 0.12345: "0.123", 1.004: "1.00", 1000: "1,000", 999.6: "1,000", 0: "0.00", 9.999: "10.0", 99.95: "100", 1234: "1,230", 1_234_567: "1,230,000"} {
		if got := Figure(x); got != want {
			t.Errorf("%v: %s, want %s", x, got, want)
		}
	}
}
