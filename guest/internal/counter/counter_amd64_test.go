package counter

import "testing"

func TestRateIsSteady(t *testing.T) {
	first, second := measure(), measure()
	if first < 500_000 || first > 10_000_000 {
		t.Fatalf("%d kHz is no rate of a processor", first)
	}
	if difference := max(first, second) - min(first, second); difference > first/1000 {
		t.Fatalf("two measurements differ by more than a thousandth: %d and %d kHz", first, second)
	}
}
