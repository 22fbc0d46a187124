// Package counter measures the rate of the processor's time stamp counter, which an emulated guest reads and cannot
// measure itself on a host under load. /proc/cpuinfo tells another rate: that of the core now.
package counter

import (
	"fmt"
	"os"
	"time"
)

const (
	window = 50 * time.Millisecond
	// tries is how often one moment is looked at: the look that took least was not interrupted.
	tries = 100
)

// moment is one instant on both scales.
type moment struct{ stamp, ns uint64 }

// Main prints the rate in kHz.
func Main(args []string) int {
	if len(args) != 0 {
		fmt.Fprintln(os.Stderr, "pyro-agent: counter takes no arguments")
		return 2
	}
	if !supported {
		fmt.Fprintln(os.Stderr, "pyro-agent: this processor has no counter that is known here")
		return 1
	}
	fmt.Println(measure())
	return 0
}

func measure() uint64 {
	from := look()
	time.Sleep(window)
	to := look()
	return (to.stamp - from.stamp) * 1_000_000 / (to.ns - from.ns)
}

func look() moment {
	var best moment
	least := ^uint64(0)
	for range tries {
		before := stamp()
		ns := monotonicNs()
		after := stamp()
		if after-before < least {
			least = after - before
			best = moment{stamp: before + least/2, ns: ns}
		}
	}
	return best
}
