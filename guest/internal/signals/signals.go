// Package signals names signals and keeps a process alive whatever it is sent.
package signals

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lastSignal is the highest number Linux has.
const lastSignal = 64

// Name is the name without SIG, or `RTMIN+n` or the number where there is none.
func Name(number syscall.Signal) string {
	if name := unix.SignalName(number); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	if number >= 34 && number <= lastSignal {
		return "RTMIN+" + strconv.Itoa(int(number)-34)
	}
	return strconv.Itoa(int(number))
}

// Parse takes a name with or without SIG, in any case, `RTMIN+n`, or a number from 1.
func Parse(text string) (syscall.Signal, bool) {
	upper := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if n, err := strconv.Atoi(upper); err == nil {
		return syscall.Signal(n), n >= 1 && n <= lastSignal
	}
	if rest, isRealtime := strings.CutPrefix(upper, "RTMIN"); isRealtime {
		n, err := strconv.Atoi(strings.TrimPrefix(rest, "+"))
		if rest == "" {
			n, err = 0, nil
		}
		return syscall.Signal(34 + n), err == nil && n >= 0 && 34+n <= lastSignal
	}
	number := unix.SignalNum("SIG" + upper)
	return number, number != 0
}

// Catch takes every signal that can be caught and hands SIGCHLD to child (which must have room for one); all others
// are dropped. It is called once, early: a Go process otherwise dies of TERM, QUIT or a SEGV that somebody sends.
func Catch(child chan<- os.Signal) {
	everything := make(chan os.Signal, 1)
	signal.Notify(everything)
	signal.Notify(child, syscall.SIGCHLD)
	go func() {
		for range everything { //nolint:revive // dropped on purpose
		}
	}()
	surviveForgedFaults()
}
