package channel

import (
	"strings"
	"testing"
)

func TestTheEngineLineIsFoundAmidWhatCameBefore(t *testing.T) {
	line := "PYRO " + strings.Repeat("ab", 16) + "\n"
	for _, before := range []string{"", "P", "PYRO ", "PYRO PYRO ", "PPPYR", "rest of an old session\x00\xff", "PYRO " + strings.Repeat("zz", 16) + "\n"} {
		stream := before + line + "what follows belongs to the session"
		seen := ""
		for at := 0; FindResync([]byte(seen)) < 0; {
			n := ResyncWants([]byte(seen))
			if n < 1 || at+n > len(before)+len(line) {
				t.Fatalf("after %q: reads %d bytes, beyond the line", seen, n)
			}
			seen += stream[at : at+n]
			at += n
		}
		if seen != before+line {
			t.Errorf("%q: stopped at %q", before, seen)
		}
	}
}
