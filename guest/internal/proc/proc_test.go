package proc

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestALineOfStatIsUnderstood(t *testing.T) {
	const rest = " S 11 22 33 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654321 1000 200"
	for name, want := range map[string]Stat{
		"12 (sh)":                  {12, 11, 33, 'S', "987654321", false},
		"1 ()":                     {1, 11, 33, 'S', "987654321", false},
		"12 (a b) (c)":             {12, 11, 33, 'S', "987654321", false},
		"12 () R 1 1 1 1 (x) Z 2)": {12, 11, 33, 'S', "987654321", false},
		"12 (line\nbreak)":         {12, 11, 33, 'S', "987654321", false},
	} {
		if got, err := ParseStat([]byte(name + rest)); err != nil || got != want {
			t.Errorf("%q: got %+v %v", name, got, err)
		}
	}
	for _, line := range []string{"", "12", "12 (sh", "12 sh)" + rest, "x (sh)" + rest, "(sh)" + rest, "12 (sh) S 1 2", "12 (sh) SS 1 2 3 " + rest, "12 (sh) S x 2 3" + rest, "12 (sh) S 1 2 x" + rest, ") ("} {
		if got, err := ParseStat([]byte(line)); err == nil {
			t.Errorf("%q is %+v", line, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (sh) S 11 22 33 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654321 1000 200"))
	f.Add([]byte("12 (a) (b) Z 1"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if stat, err := ParseStat(line); err == nil && (stat.State == 0 || stat.StartTime == "") {
			t.Errorf("%q is %+v", line, stat)
		}
	})
}

func TestThisProcessIsFoundWithItsParentAndSession(t *testing.T) {
	pids, err := Pids()
	if err != nil || !slices.Contains(pids, os.Getpid()) {
		t.Errorf("%d is not among %d processes, %v", os.Getpid(), len(pids), err)
	}
	stat, err := ReadStat(os.Getpid())
	session, sessionErr := unix.Getsid(0)
	if err != nil || sessionErr != nil || stat.Pid != os.Getpid() || stat.Parent != os.Getppid() || stat.Session != session || stat.Dead() {
		t.Errorf("got %+v, %v, %v", stat, err, sessionErr)
	}
	if again, err := ReadStat(os.Getpid()); err != nil || again.StartTime != stat.StartTime {
		t.Errorf("the start time was %s and is %s", stat.StartTime, again.StartTime)
	}
}

func TestADeadProcessIsDead(t *testing.T) {
	child := exec.Command("true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	// It stays as a zombie until it is waited for.
	pid := child.Process.Pid
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if stat, err := ReadStat(pid); err != nil || !stat.Dead() {
		t.Errorf("got %+v, %v", stat, err)
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if stat, err := ReadStat(pid); err == nil && !stat.Dead() {
		t.Errorf("got %+v", stat)
	}
}

func TestEnvironmentsOfAnySizeAreReadWhole(t *testing.T) {
	for _, size := range []int{0, 100, 5000, 120_000} {
		child := exec.Command("cat")
		child.Env = []string{"FIRST=1", "LARGE=" + strings.Repeat("x", size), "LAST=é"}
		stdin, _ := child.StdinPipe()
		stdout, _ := child.StdoutPipe()
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// Only once it runs does the kernel know where its environment lies: an answer proves that.
		if _, err := stdin.Write([]byte{'?'}); err != nil {
			t.Fatal(err)
		}
		if _, err := stdout.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		environ, err := Environ(child.Process.Pid, make([]byte, 0, 16))
		killed := child.Process.Kill()
		_ = child.Wait()
		if err != nil || killed != nil {
			t.Fatal(err, killed)
		}
		if want := strings.Join(child.Env, "\x00") + "\x00"; string(environ) != want {
			t.Errorf("of %d bytes %d were read", len(want), len(environ))
		}
		uid, _, err := Owner(os.Getpid())
		if err != nil || uid != os.Geteuid() {
			t.Errorf("the owner is %d, %v", uid, err)
		}
	}
}
