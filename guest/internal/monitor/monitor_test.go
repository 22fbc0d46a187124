package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/goldentest"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/proc"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// The test binary is the monitor when its first argument says so.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "monitor" {
		os.Exit(Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// runtimeScript is a runtime that does what the files `create`, `start` and `delete` of its bundle say, the first two when
// it is to run its container, which is the file `init` and like a real one begins with start. No shell is left by then: it
// would collect a container that ends at once.
const runtimeScript = `#!/bin/sh
bundle=$(dirname "$0")
[ "$1" = --debug ] && shift
echo "$@" >>"$bundle/calls"
case $1 in
run)
	shift
	while [ $# -gt 0 ]; do
		[ "$1" = --pid-file ] && pid_file=$2
		shift
	done
	. "$bundle/create"
	. "$bundle/start"
	exec touch "$bundle/started"
	;;
delete) . "$bundle/delete" ;;
esac
`

// makeContainer is the usual create.
const makeContainer = `"$bundle/init" & echo $! >"$pid_file"`

// watched is one run of a monitor.
type watched struct {
	t       *testing.T
	folder  string
	spec    spec
	command *exec.Cmd
	ended   chan error
	stderr  bytes.Buffer
}

func newWatched(t *testing.T, scripts map[string]string) *watched {
	t.Helper()
	folder := t.TempDir()
	all := map[string]string{
		"runtime": runtimeScript, "create": makeContainer, "start": "", "delete": "", "init": "exit 0", "stdin": "the config", "runtime.log": "",
	}
	for name, text := range scripts {
		all[name] = text
	}
	all["init"] = "#!/bin/sh\nuntil [ -e \"$(dirname \"$0\")/started\" ]; do sleep 0.01; done\n" + all["init"]
	for name, text := range all {
		if err := os.WriteFile(folder+"/"+name, []byte(text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &watched{t: t, folder: folder, spec: spec{
		Runtime: []string{folder + "/runtime"}, ID: "box", Bundle: folder, StdinFile: folder + "/stdin",
		LogFile: folder + "/log", PassFiles: []passFile{}, EnterTasks: []string{}, CounterFiles: []string{},
		StartTimeoutMs: 10_000, DeleteTimeoutMs: 10_000,
	}}
}

func (w *watched) start() *watched {
	w.t.Helper()
	text, err := json.Marshal(w.spec)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.folder+"/monitor.json", text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	w.command = exec.Command(self, "monitor", w.folder+"/monitor.json")
	w.command.Stderr = &w.stderr
	if err := w.command.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.ended = make(chan error, 1)
	go func() { w.ended <- w.command.Wait() }()
	w.t.Cleanup(func() {
		_ = w.command.Process.Kill()
		<-w.ended
	})
	return w
}

// wait returns the exit code of the monitor.
func (w *watched) wait() int {
	w.t.Helper()
	select {
	case err := <-w.ended:
		w.ended <- err
		return w.command.ProcessState.ExitCode()
	case <-time.After(patience):
		w.t.Fatal("the monitor does not end")
	}
	return -1
}

// document waits for a file that the monitor publishes.
func (w *watched) document(name string, into any) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		text, err := os.ReadFile(w.folder + "/" + name)
		if err == nil {
			if err := message.Decode(bytes.NewReader(text), 1<<20, into); err != nil {
				w.t.Fatalf("%s: %v: %s", name, err, text)
			}
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("there is no %s: %s", name, w.stderr.String())
		}
	}
}

func (w *watched) text(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.folder + "/" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *watched) missing(name string) {
	w.t.Helper()
	if _, err := os.Lstat(w.folder + "/" + name); err == nil {
		w.t.Errorf("there is %s: %s", name, w.text(name))
	}
}

func alive(pid int) bool {
	stat, err := proc.ReadStat(pid)
	return err == nil && !stat.Dead()
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); alive(pid); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d lives", pid)
		}
	}
}

func TestMessagesAreThoseOfTheProtocol(t *testing.T) {
	goldentest.Decodes[spec](t, "monitor-spec", "open is a text", "passFiles.0.open is a text", "passFiles[0].open is a text")
	goldentest.RoundTrips[running](t, "monitor-status", "form 1")
	goldentest.RoundTrips[failed](t, "monitor-status", "form 2")
	goldentest.RoundTrips[ended](t, "monitor-exit")
}

func TestASandboxIsWatchedToItsEnd(t *testing.T) {
	w := newWatched(t, map[string]string{"init": `read go <"$(dirname "$0")/pipe"; exit 7`})
	if err := unix.Mkfifo(w.folder+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	var status running
	w.document("status.json", &status)
	stat, err := proc.ReadStat(status.Pid)
	if err != nil || stat.StartTime != status.StartTime || stat.Parent != w.command.Process.Pid || status.State != "running" {
		t.Errorf("said %+v, is %+v, %v", status, stat, err)
	}
	own, err := proc.ReadStat(w.command.Process.Pid)
	if err != nil || status.MonitorPid != own.Pid || status.MonitorStartTime != own.StartTime || own.Session != own.Pid {
		t.Errorf("said %+v, the monitor is %+v, %v", status, own, err)
	}
	if _, err := time.Parse(time.RFC3339Nano, status.At); err != nil {
		t.Error(err)
	}
	want := fmt.Sprintf("run --detach --bundle %s --pid-file %s/init.pid box\n", w.folder, w.folder)
	if got := w.text("calls"); got != want {
		t.Errorf("the runtime was called as %q, want %q", got, want)
	}
	w.missing("exit.json")
	if err := os.WriteFile(w.folder+"/pipe", []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if code := w.wait(); code != 0 {
		t.Errorf("the monitor ends with %d", code)
	}
	var exit ended
	w.document("exit.json", &exit)
	if exit.ExitCode == nil || *exit.ExitCode != 7 || exit.Signal != nil {
		t.Errorf("got %s", w.text("exit.json"))
	}
	for _, name := range []string{"status.json", "exit.json"} {
		if info, err := os.Stat(w.folder + "/" + name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
		w.missing("." + name)
	}
}

func TestHowASandboxEndedIsTold(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0": `"exitCode":0,"signal":null`, "exit 255": `"exitCode":255,"signal":null`, "kill -KILL $$": `"exitCode":null,"signal":"KILL"`,
		"kill -TERM $$": `"exitCode":null,"signal":"TERM"`,
	} {
		w := newWatched(t, map[string]string{"init": script}).start()
		w.wait()
		if text := w.text("exit.json"); !strings.Contains(text, want) {
			t.Errorf("%s: got %s", script, text)
		}
	}
}

func TestTheSandboxGetsItsFilesAndNothingElse(t *testing.T) {
	w := newWatched(t, map[string]string{
		"create": `ls /proc/$$/fd >"$bundle/fds"; "$bundle/init" & echo $! >"$pid_file"`,
		"init":   `cat; echo out; echo err >&2; echo passed >&3; ls -d /proc/self/fd/4/.; true <&5 2>/dev/null || echo none`,
	})
	w.spec.PassFiles = []passFile{{Path: w.folder + "/first", Open: "write"}, {Path: w.folder, Open: "directory"}}
	if err := os.WriteFile(w.folder+"/first", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start().wait()
	// A background job of sh reads /dev/null.
	if got := w.text("log"); !strings.HasPrefix(got, "out\nerr\n/proc/self/fd/4/.\n") || !strings.Contains(got, "none") {
		t.Errorf("the log holds %q", got)
	}
	if got := w.text("first"); got != "passed\n" {
		t.Errorf("the passed file holds %q", got)
	}
	if got := w.text("calls"); !strings.Contains(got, " --preserve-fds 2 box\n") {
		t.Errorf("the runtime was called as %q", got)
	}
	if info, err := os.Stat(w.folder + "/log"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log is %v %v", info.Mode(), err)
	}
}

func TestCountersAreReadWhenTheSandboxEnded(t *testing.T) {
	w := newWatched(t, map[string]string{"init": `echo after >"$(dirname "$0")/counter"`, "counter": "before"})
	w.spec.CounterFiles = []string{w.folder + "/counter", w.folder + "/gone", w.folder, w.folder + "/large"}
	if err := os.WriteFile(w.folder+"/large", bytes.Repeat([]byte{'x'}, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start().wait()
	var exit ended
	w.document("exit.json", &exit)
	if text := exit.Counters[w.folder+"/counter"]; text == nil || *text != "after\n" {
		t.Errorf("got %v", exit.Counters)
	}
	for _, path := range []string{w.folder + "/gone", w.folder} {
		if text, listed := exit.Counters[path]; !listed || text != nil {
			t.Errorf("%s: %v, listed %t", path, text, listed)
		}
	}
	if text := exit.Counters[w.folder+"/large"]; text == nil || len(*text) != counterLimitBytes {
		t.Error("a large file is not cut")
	}
}

func TestAFailedStartIsCleanedUpAndExplained(t *testing.T) {
	for name, c := range map[string]struct {
		scripts map[string]string
		stage   string
		says    string
		deleted bool
		cleaned bool
	}{
		"create fails":            {map[string]string{"create": `echo "no rootfs" >&2; exit 3`}, "start", "ended with exit code 3", true, true},
		"create is killed":        {map[string]string{"create": `kill -KILL $$`}, "start", "SIGKILL", true, true},
		"create hangs":            {map[string]string{"create": `exec sleep 1000`}, "start", "did not end within", true, true},
		"no pid file":             {map[string]string{"create": ``}, "start", "no pid file", true, true},
		"a pid file of text":      {map[string]string{"create": `echo text >"$pid_file"`}, "start", `"text\n"`, true, true},
		"a pid file of another":   {map[string]string{"create": `echo 1 >"$pid_file"`}, "start", "pid file holds", true, true},
		"a process of another":    {map[string]string{"create": fmt.Sprintf(`echo %d >"$pid_file"`, os.Getpid())}, "start", "not of the monitor", true, true},
		"start fails":             {map[string]string{"start": "exit 4", "init": "exec sleep 1000"}, "start", "ended with exit code 4", true, true},
		"delete fails, too":       {map[string]string{"start": "exit 4", "delete": "exit 1", "init": "exec sleep 1000"}, "start", "exit code 4", true, false},
		"delete hangs, too":       {map[string]string{"start": "exit 4", "delete": "exec sleep 1000"}, "start", "exit code 4", true, false},
		"the log is quoted":       {map[string]string{"create": `echo "the reason" >&2; exit 1`}, "start", "the reason", true, true},
		"the runtime's log, too":  {map[string]string{"create": `echo deeper >"$bundle/runtime.log"; exit 1`}, "start", "deeper", true, true},
		"no runtime":              {map[string]string{"-runtime": ""}, "start", "cannot run", true, false},
		"no bundle for the input": {map[string]string{"-stdin": ""}, "files", "stdin", false, true},
	} {
		w := newWatched(t, c.scripts)
		for _, missing := range []string{"runtime", "stdin"} {
			if _, wanted := c.scripts["-"+missing]; wanted {
				if err := os.Remove(w.folder + "/" + missing); err != nil {
					t.Fatal(err)
				}
			}
		}
		log := w.folder + "/runtime.log"
		w.spec.RuntimeLogFile = &log
		if strings.Contains(name, "hangs") {
			w.spec.StartTimeoutMs, w.spec.DeleteTimeoutMs = 1000, 1000
		}
		if code := w.start().wait(); code != 1 {
			t.Errorf("%s: the monitor ends with %d", name, code)
		}
		var status failed
		w.document("status.json", &status)
		if status.State != "failed" || status.Stage != c.stage || !strings.Contains(status.Message, c.says) || status.Cleaned != c.cleaned {
			t.Errorf("%s: got %+v", name, status)
		}
		calls, _ := os.ReadFile(w.folder + "/calls")
		if _, runs := c.scripts["-runtime"]; !runs && strings.Contains(string(calls), "delete --force box\n") != c.deleted {
			t.Errorf("%s: the runtime was called as %q", name, calls)
		}
		w.missing("exit.json")
		if text, err := os.ReadFile(w.folder + "/init.pid"); err == nil && c.scripts["start"] != "" {
			var pid int
			if _, err := fmt.Sscan(string(text), &pid); err != nil {
				t.Fatal(err)
			}
			gone(t, pid)
		}
	}
}

func TestASpecThatMakesNoSenseIsRefused(t *testing.T) {
	for name, change := range map[string]func(*spec){
		"no runtime":  func(s *spec) { s.Runtime = nil },
		"no id":       func(s *spec) { s.ID = "" },
		"no deadline": func(s *spec) { s.StartTimeoutMs = 0 },
		"an opening":  func(s *spec) { s.PassFiles = []passFile{{Path: "/dev/null", Open: "read"}} },
	} {
		w := newWatched(t, nil)
		change(&w.spec)
		w.start().wait()
		var status failed
		w.document("status.json", &status)
		if status.Stage != "spec" || !status.Cleaned {
			t.Errorf("%s: got %+v", name, status)
		}
		w.missing("calls")
	}
}

func TestTheMonitorSurvivesSignalsAndItsParent(t *testing.T) {
	w := newWatched(t, map[string]string{"init": `read go <"$(dirname "$0")/pipe"`})
	if err := unix.Mkfifo(w.folder+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	var status running
	w.document("status.json", &status)
	for _, number := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGUSR1, unix.SIGSEGV, unix.SIGALRM} {
		if err := unix.Kill(status.MonitorPid, number); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if !alive(status.MonitorPid) || !alive(status.Pid) {
		t.Fatal("the monitor or its sandbox is gone")
	}
	if err := os.WriteFile(w.folder+"/pipe", []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if code := w.wait(); code != 0 {
		t.Errorf("the monitor ends with %d", code)
	}
}

func TestAMonitorThatIsKilledLeavesTheSandboxAndNoExit(t *testing.T) {
	w := newWatched(t, map[string]string{"init": `exec sleep 1000`}).start()
	var status running
	w.document("status.json", &status)
	if err := w.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.wait()
	if !alive(status.Pid) {
		t.Error("the sandbox is gone")
	}
	if err := unix.Kill(status.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, status.Pid)
	w.missing("exit.json")
}

func TestWhatTheSandboxLeavesBehindIsCollected(t *testing.T) {
	w := newWatched(t, map[string]string{"init": `(sleep 0.3; exit 5) & echo $! >"$(dirname "$0")/child"; exit 0`}).start()
	began := time.Now()
	if code := w.wait(); code != 0 {
		t.Errorf("the monitor ends with %d", code)
	}
	if took := time.Since(began); took > leftoversLimit+5*time.Second {
		t.Errorf("it takes %s", took)
	}
	var pid int
	if _, err := fmt.Sscan(w.text("child"), &pid); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("the child lives")
	}
}

func TestTheRuntimeIsFoundInPath(t *testing.T) {
	w := newWatched(t, nil)
	w.spec.Runtime = []string{"runtime", "--debug"}
	t.Setenv("PATH", "/no/such:"+w.folder+":"+os.Getenv("PATH"))
	if code := w.start().wait(); code != 0 {
		t.Errorf("the monitor ends with %d: %s", code, w.stderr.String())
	}
}
