package signals

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
)

// The test binary catches every signal when its first argument says so, and answers each line.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "catch" {
		child := make(chan os.Signal, 1)
		Catch(child)
		fmt.Println("ready")
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			switch lines.Text() {
			case "fault":
				var nothing *int
				fmt.Println(*nothing)
			case "child":
				if err := exec.Command("true").Run(); err != nil {
					fmt.Println(err)
				}
				fmt.Println((<-child).String())
			default:
				fmt.Println(lines.Text())
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestSignalsAreSurvivedInGvisor(t *testing.T) { gvisortest.Run(t, "^Test(N|P|A|What)") }

func TestNamesAndNumbersAgree(t *testing.T) {
	for number := syscall.Signal(1); number <= lastSignal; number++ {
		name := Name(number)
		for _, text := range []string{name, strings.ToLower(name), "SIG" + name, fmt.Sprint(int(number))} {
			if got, known := Parse(text); !known || got != number {
				t.Errorf("%q is %d, %t, want %d", text, got, known, number)
			}
		}
	}
	for number, name := range map[syscall.Signal]string{1: "HUP", 9: "KILL", 15: "TERM", 17: "CHLD", 34: "RTMIN+0", 64: "RTMIN+30", 32: "32"} {
		if got := Name(number); got != name {
			t.Errorf("%d is %s, want %s", number, got, name)
		}
	}
	if number, known := Parse("RTMIN"); !known || number != 34 {
		t.Errorf("RTMIN is %d", number)
	}
}

func TestWhatIsNoSignalIsNotTakenForOne(t *testing.T) {
	for _, text := range []string{"", "0", "65", "-1", "NONE", "SIG", "RTMIN+31", "RTMIN-1", "RTMIN+x", "RTMINX", "TERM ", " 9", "1e1", "9999999999999999999"} {
		if number, known := Parse(text); known {
			t.Errorf("%q is %d", text, number)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("SIGTERM")
	f.Add("RTMIN+5")
	f.Add("9")
	f.Fuzz(func(t *testing.T, text string) {
		if number, known := Parse(text); known && (number < 1 || number > lastSignal) {
			t.Errorf("%q is %d", text, number)
		}
	})
}

// catcher is a process that must outlive every signal.
type catcher struct {
	t       *testing.T
	command *exec.Cmd
	in      io.Writer
	out     *bufio.Reader
}

func startCatcher(t *testing.T) *catcher {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &catcher{t: t, command: exec.Command(self, "catch")}
	if c.in, err = c.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.command.Process.Kill()
		_ = c.command.Wait()
	})
	if line := c.line(); line != "ready" {
		t.Fatalf("it says %q", line)
	}
	return c
}

func (c *catcher) line() string {
	c.t.Helper()
	late := time.AfterFunc(20*time.Second, func() { _ = c.command.Process.Kill() })
	defer late.Stop()
	line, err := c.out.ReadString('\n')
	if err != nil {
		return fmt.Sprint(err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (c *catcher) ask(text string) string {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, text); err != nil {
		return err.Error()
	}
	return c.line()
}

// siginfo is as much of siginfo_t as a sender fills in.
type siginfo struct {
	number, errno, code int32
	_                   [29]int32
}

func queue(pid int, number syscall.Signal, code int32) error {
	info := siginfo{number: int32(number), code: code}
	_, _, errno := unix.Syscall(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(number), uintptr(unsafe.Pointer(&info)))
	if errno != 0 {
		return errno
	}
	return nil
}

func TestAProcessSurvivesEverySignalHoweverItIsSent(t *testing.T) {
	const siQueue, siMesgq, siAsyncio, siTkill = -1, -3, -4, -6
	for name, send := range map[string]func(pid int, number syscall.Signal) error{
		"kill":     func(pid int, number syscall.Signal) error { return unix.Kill(pid, number) },
		"tgkill":   func(pid int, number syscall.Signal) error { return unix.Tgkill(pid, pid, number) },
		"sigqueue": func(pid int, number syscall.Signal) error { return queue(pid, number, siQueue) },
		"mesgq":    func(pid int, number syscall.Signal) error { return queue(pid, number, siMesgq) },
		"asyncio":  func(pid int, number syscall.Signal) error { return queue(pid, number, siAsyncio) },
		"tkill":    func(pid int, number syscall.Signal) error { return queue(pid, number, siTkill) },
	} {
		c := startCatcher(t)
		for number := syscall.Signal(1); number <= lastSignal; number++ {
			if number == unix.SIGKILL || number == unix.SIGSTOP {
				continue
			}
			if err := send(c.command.Process.Pid, number); err != nil && err != unix.EPERM && err != unix.EINVAL {
				t.Fatalf("%s %d: %v", name, number, err)
			}
			if text := fmt.Sprintf("%s %d", name, number); c.ask(text) != text {
				t.Fatalf("after %s it is gone: %v", text, c.command.Wait())
			}
		}
	}
}

func TestAFaultOfItsOwnStillEndsAProcess(t *testing.T) {
	c := startCatcher(t)
	if answer := c.ask("fault"); answer != "EOF" {
		t.Errorf("it says %q", answer)
	}
	if err := c.command.Wait(); err == nil || c.command.ProcessState.ExitCode() != 2 {
		t.Errorf("it ends with %v", c.command.ProcessState)
	}
}

func TestAChildThatEndsIsStillHeardOf(t *testing.T) {
	if answer := startCatcher(t).ask("child"); answer != "child exited" {
		t.Errorf("it says %q", answer)
	}
}
