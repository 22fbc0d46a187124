package exec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/gvisortest"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/proc"
	"pyro.dev/agent/internal/reap"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// reaper is the one of this process, which collects orphans of commands as PID 1 does.
var reaper = sync.OnceValue(func() *reap.Reaper {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	return reap.Start(child)
})

func newTestRegistry(t *testing.T) *Registry {
	t.Helper()
	return newRegistryIn(t, message.Cgroup{Mode: "none"})
}

func newRegistryIn(t *testing.T, cgroup message.Cgroup) *Registry {
	t.Helper()
	registry, err := NewRegistry(reaper(), cgroup, 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv(aheadVariable) != "" {
		registry.spares.keeps, registry.spares.forks = true, true
		registry.prepareSpare()
	}
	t.Cleanup(func() {
		// What ended commands left behind their tests end themselves: each walk of a full host takes its time.
		for _, command := range registry.Close() {
			if command.Exit() == nil {
				_ = command.Kill()
			}
		}
		if registry.forker.jobs != nil {
			close(registry.forker.jobs)
		}
		unix.Close(registry.null)
		if registry.freezer.fd >= 0 {
			unix.Close(registry.freezer.fd)
		}
	})
	return registry
}

func argv(words ...string) *message.StartCommand {
	return &message.StartCommand{Argv: words, Cwd: "/", Env: []string{"PATH=" + fallbackPath}}
}

// script runs in plain sh, without a profile.
func script(text string) *message.StartCommand { return argv("/bin/sh", "-c", text) }

// own is an id that no other test and no other run of these tests has: a kill looks for its tree on the whole host, and may
// still look when its test is over.
func own(t *testing.T, id string) string {
	return fmt.Sprintf("%s-%x-%d", id, crc32.ChecksumIEEE([]byte(t.Name())), os.Getpid())
}

func start(t *testing.T, registry *Registry, id string, request *message.StartCommand) *Command {
	t.Helper()
	command, err := registry.Start(own(t, id), request)
	if err != nil {
		t.Fatal(err)
	}
	return command
}

// reading is what a reader of a command got.
type reading struct {
	// cursors are those of the attached events.
	cursors        []int64
	stdout, stderr string
	// turns has one letter a frame, neighbours of one stream joined.
	turns string
	bytes int64
	exit  *message.CommandExit
}

// parse understands frames up to where they end, also amid output.
func parse(t *testing.T, stream []byte) reading {
	t.Helper()
	var got reading
	var stdout, stderr strings.Builder
	for len(stream) >= frames.HeaderBytes {
		kind, n, err := frames.NewReader(bytes.NewReader(stream)).Header()
		if err != nil {
			t.Fatal(err)
		}
		stream = stream[frames.HeaderBytes:]
		if len(stream) < n && !kind.Bytes() {
			break
		}
		payload := stream[:min(n, len(stream))]
		stream = stream[len(payload):]
		turn := ""
		switch kind {
		case frames.Event:
			var attached message.Attached
			if err := json.Unmarshal(payload, &attached); err != nil || attached.Type != "attached" {
				t.Fatalf("event %s: %v", payload, err)
			}
			got.cursors = append(got.cursors, attached.Cursor)
		case frames.Stdout:
			stdout.Write(payload)
			turn = "o"
		case frames.Stderr:
			stderr.Write(payload)
			turn = "e"
		case frames.Result:
			got.exit = &message.CommandExit{}
			if err := json.Unmarshal(payload, got.exit); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("unexpected frame %d %q", kind, payload)
		}
		got.bytes += int64(len(payload)) * int64(len(turn))
		if !strings.HasSuffix(got.turns, turn) {
			got.turns += turn
		}
	}
	got.stdout, got.stderr = stdout.String(), stderr.String()
	return got
}

func attach(t *testing.T, command *Command, cursor int64) reading {
	t.Helper()
	cx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var stream bytes.Buffer
	if err := command.Stream(cx, cursor, 0, &stream, func() error { return nil }); err != nil {
		t.Fatalf("after %d bytes: %v", stream.Len(), err)
	}
	return parse(t, stream.Bytes())
}

func run(t *testing.T, request *message.StartCommand) reading {
	t.Helper()
	return attach(t, start(t, newTestRegistry(t), "cmd", request), 0)
}

func wantCode(t *testing.T, got reading, code int) {
	t.Helper()
	if got.exit == nil || got.exit.ExitCode == nil || *got.exit.ExitCode != code || got.exit.Signal != nil || got.exit.StartError != nil {
		t.Fatalf("got %s, want code %d", describe(got.exit), code)
	}
}

func wantSignal(t *testing.T, got reading, name string) {
	t.Helper()
	if got.exit == nil || got.exit.Signal == nil || *got.exit.Signal != name || got.exit.ExitCode != nil {
		t.Fatalf("got %s, want signal %s", describe(got.exit), name)
	}
}

func describe(exit *message.CommandExit) string {
	text, err := json.Marshal(exit)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func wantKind(t *testing.T, err error, kind message.ErrorKind) {
	t.Helper()
	var typed *message.Error
	if !errors.As(err, &typed) || typed.Kind != kind {
		t.Fatalf("got %v, want an error of kind %s", err, kind)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// alive reports whether the process runs, judged by something else than what is tested.
func alive(pid int) bool {
	stat, err := proc.ReadStat(pid)
	return err == nil && !stat.Dead()
}

func pidIn(t *testing.T, path string) int {
	t.Helper()
	var pid int
	eventually(t, path+" holds a pid", func() bool {
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(string(text), "\n") {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	return pid
}

func pointer[T any](value T) *T { return &value }

func TestEverythingHoldsInGvisor(t *testing.T) {
	words := gvisortest.Arguments(t, "^Test")
	if words == nil {
		return
	}
	request := argv(words...)
	request.Env = append(request.Env, "TMPDIR="+t.TempDir())
	request.TimeoutMs = pointer[int64](90_000)
	command := start(t, newTestRegistry(t), "gvisor", request)
	var stream bytes.Buffer
	if err := command.Stream(context.Background(), 0, 0, &stream, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	got := parse(t, stream.Bytes())
	if got.exit.ExitCode == nil || *got.exit.ExitCode != 0 {
		t.Fatalf("%s\n%s%s", describe(got.exit), got.stdout, got.stderr)
	}
	gvisortest.Passed(t, got.stdout)
}

func TestOutputArrivesInOrder(t *testing.T) {
	got := run(t, script("printf a; sleep 0.05; printf b >&2; sleep 0.05; printf c"))
	wantCode(t, got, 0)
	if got.turns != "oeo" || got.stdout != "ac" || got.stderr != "b" {
		t.Errorf("got %s %q %q", got.turns, got.stdout, got.stderr)
	}
	if got.exit.StdoutBytes != 2 || got.exit.StderrBytes != 1 || fmt.Sprint(got.cursors) != "[0]" {
		t.Errorf("got %s, attached at %v", describe(got.exit), got.cursors)
	}
}

func TestACommandEndsWithItsCodeOrSignal(t *testing.T) {
	wantCode(t, run(t, script("exit 0")), 0)
	wantCode(t, run(t, script("exit 42")), 42)
	wantCode(t, run(t, script("exit 255")), 255)
	wantSignal(t, run(t, script("kill -TERM $$")), "TERM")
	wantSignal(t, run(t, script("kill -KILL $$")), "KILL")
	wantSignal(t, run(t, script("kill -SEGV $$")), "SEGV")
}

func TestArgumentsArePassedAsTheyAre(t *testing.T) {
	words := []string{"", " ", "a b", "'", `"`, "$HOME", "*", "\n", "--", "ü", "\xff\xfe"}
	got := run(t, argv(append([]string{"/bin/sh", "-c", `for word; do printf '%s\0' "$word"; done`, "sh"}, words...)...))
	wantCode(t, got, 0)
	if want := strings.Join(words, "\x00") + "\x00"; got.stdout != want {
		t.Errorf("got %q, want %q", got.stdout, want)
	}
}

func TestShellTextRunsInALoginShell(t *testing.T) {
	request := &message.StartCommand{Shell: pointer(`echo "$0 $(echo 1 | tr 1 2) $-"`), Cwd: "/", Env: []string{"PATH=" + fallbackPath}}
	got := run(t, request)
	wantCode(t, got, 0)
	if !strings.HasPrefix(got.stdout, "/bin/sh 2 ") && !strings.HasPrefix(got.stdout, "-sh 2 ") {
		t.Errorf("got %q", got.stdout)
	}
}

func TestACommandHasAnEnvironmentOfItsOwn(t *testing.T) {
	t.Setenv("OF_THE_AGENT", "1")
	registry := newTestRegistry(t)
	request := argv("env", "-0")
	request.Env = append(request.Env, "A=1", "A=2", "EMPTY=", "HOME=/mine", "PYRO_COMMAND_ID=forged", "LINES=a\nb")
	got := attach(t, start(t, registry, "cmd-x", request), 0)
	wantCode(t, got, 0)
	has := map[string]string{}
	for entry := range strings.SplitSeq(strings.TrimSuffix(got.stdout, "\x00"), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		has[name] = value
	}
	want := map[string]string{
		"PATH": fallbackPath, "A": "2", "EMPTY": "", "HOME": "/mine", "PYRO_COMMAND_ID": own(t, "cmd-x"), "LINES": "a\nb",
		"USER": "root", "LOGNAME": "root",
	}
	if fmt.Sprint(has) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", has, want)
	}
}

func TestACommandInheritsNothingOfTheAgent(t *testing.T) {
	// What the test was started with, as PID 1 does with what it was.
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil && err != unix.ENOSYS {
		t.Fatal(err)
	}
	folder := t.TempDir()
	request := script(`echo "$(pwd)"; umask; ls /proc/$$/fd; ps -o sid= -p $$ | tr -d ' '; echo $$`)
	request.Cwd = folder
	got := run(t, request)
	wantCode(t, got, 0)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	sid, pid := lines[len(lines)-2], lines[len(lines)-1]
	want := []string{folder, fmt.Sprintf("%04o", umask()), "0", "1", "2", pid, pid}
	if sid != pid || strings.Join(lines, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", lines, want)
	}
	got = run(t, argv("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"))
	// gVisor does not tell.
	if got.stdout != "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n" && !gvisortest.Inside() {
		t.Errorf("signals are not as usual: %q", got.stdout)
	}
}

func umask() int {
	old := unix.Umask(0)
	unix.Umask(old)
	return old
}

func TestWhyACommandCouldNotStartIsSaid(t *testing.T) {
	folder := t.TempDir()
	for path, text := range map[string]string{
		"plain": "text", "garbage": "\x7fnot a program", "no-interpreter": "#!/no/such/interpreter\n", "bin/found": "#!/bin/sh\necho found\n",
	} {
		if err := os.MkdirAll(folder+"/bin", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(folder+"/"+path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(folder+"/plain", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(folder+"/fifo", 0o777); err != nil {
		t.Fatal(err)
	}
	openToAll(t, folder)
	if err := os.Mkdir(folder+"/closed", 0o700); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*message.StartCommand)) *message.StartCommand {
		request := argv("true")
		request.Cwd = folder
		change(request)
		return request
	}
	for name, c := range map[string]struct {
		request *message.StartCommand
		kind    message.StartErrorKind
		says    string
	}{
		"unknown name":   {argv("no-such-program"), message.StartNotFound, "no-such-program: not found in PATH"},
		"unknown path":   {argv("/no/such/program"), message.StartNotFound, "/no/such/program"},
		"control bytes":  {argv("no\x1b[2Jprogram"), message.StartNotFound, `"no\x1b[2Jprogram": not found`},
		"below a file":   {argv(folder + "/plain/x"), message.StartNotFound, "plain/x"},
		"empty":          {argv(""), message.StartNotFound, "empty"},
		"no execute bit": {argv(folder + "/plain"), message.StartCannotRun, "not executable"},
		"a folder":       {argv(folder), message.StartCannotRun, "folder"},
		"a FIFO":         {argv(folder + "/fifo"), message.StartCannotRun, "regular"},
		"no program":     {argv(folder + "/garbage"), message.StartCannotRun, "neither a program"},
		"no interpreter": {argv(folder + "/no-interpreter"), message.StartCannotRun, "interpreter"},
		"too long":       {argv("true", strings.Repeat("x", 4<<20)), message.StartCannotRun, "128 KiB"},
		"just too long":  {argv("true", strings.Repeat("x", 128<<10)), message.StartCannotRun, "128 KiB"},
		"long variable":  {with(func(r *message.StartCommand) { r.Env = []string{"V=" + strings.Repeat("x", 128<<10)} }), message.StartCannotRun, "128 KiB"},
		"too many":       {argv(slices.Repeat([]string{"true", strings.Repeat("x", 64<<10)}, 100)...), message.StartCannotRun, "128 KiB"},
		"no folder":      {with(func(r *message.StartCommand) { r.Cwd += "/gone" }), message.StartBadCwd, "gone"},
		"file as folder": {with(func(r *message.StartCommand) { r.Cwd += "/plain" }), message.StartBadCwd, "plain"},
		"relative":       {with(func(r *message.StartCommand) { r.Cwd = "bin" }), message.StartBadCwd, "absolute"},
		"closed folder":  {with(func(r *message.StartCommand) { r.Cwd += "/closed"; r.User = pointer("12345") }), message.StartBadCwd, "may not enter"},
		"unknown user":   {with(func(r *message.StartCommand) { r.User = pointer("no-such-user") }), message.StartBadUser, "no-such-user"},
		"unknown group":  {with(func(r *message.StartCommand) { r.User = pointer("root:no-such-group") }), message.StartBadUser, "no-such-group"},
	} {
		got := run(t, c.request)
		if got.exit == nil || got.exit.StartError == nil || got.exit.StartError.Kind != c.kind || got.exit.ExitCode != nil {
			t.Errorf("%s: got %s, want %s", name, describe(got.exit), c.kind)
		} else if !strings.Contains(got.exit.StartError.Message, c.says) {
			t.Errorf("%s: %q does not say %q", name, got.exit.StartError.Message, c.says)
		}
	}
	found := with(func(r *message.StartCommand) {
		r.Argv, r.Env = []string{"found"}, []string{"PATH=/no/such:" + folder + "/plain:bin:/bin"}
	})
	if got := run(t, found); got.stdout != "found\n" {
		t.Errorf("a relative PATH is not searched from the working folder: %s", describe(got.exit))
	}
}

// openToAll lets every user get to a temporary folder.
func openToAll(t *testing.T, folder string) {
	t.Helper()
	for at := folder; at != "/" && at != "/tmp"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAStartAtTheLimitOfProcessesSaysSo(t *testing.T) {
	if gvisortest.Inside() {
		return // It has no limit of processes but that of the host.
	}
	registry := newTestRegistry(t)
	request := argv("sleep", "100")
	request.User = pointer("54321")
	start(t, registry, "1", request)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NPROC, &before)
	got := attach(t, start(t, registry, "2", request), 0)
	if got.exit.StartError == nil || got.exit.StartError.Kind != message.StartLimitPids || !got.exit.PidsLimited {
		t.Errorf("got %s", describe(got.exit))
	}
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	registry := newTestRegistry(t)
	for name, request := range map[string]*message.StartCommand{
		"nothing to run":     {Cwd: "/"},
		"argv and shell":     {Cwd: "/", Argv: []string{"true"}, Shell: pointer("true")},
		"NUL in argv":        argv("a\x00b"),
		"NUL in cwd":         {Cwd: "/\x00", Argv: []string{"true"}},
		"NUL in shell":       {Cwd: "/", Shell: pointer("a\x00")},
		"no name in env":     {Cwd: "/", Argv: []string{"true"}, Env: []string{"=x"}},
		"no value in env":    {Cwd: "/", Argv: []string{"true"}, Env: []string{"A"}},
		"a timeout of none":  {Cwd: "/", Argv: []string{"true"}, TimeoutMs: pointer[int64](0)},
		"too long a timeout": {Cwd: "/", Argv: []string{"true"}, TimeoutMs: pointer[int64](longestTimeoutMs + 1)},
	} {
		if _, err := registry.Start("cmd", request); err == nil {
			t.Errorf("%s is accepted", name)
		} else {
			wantKind(t, err, message.KindInvalid)
		}
	}
	for _, id := range []string{"", "a/b", "a=b", "a\x00", strings.Repeat("x", idLimitBytes+1)} {
		_, err := registry.Start(id, argv("true"))
		wantKind(t, err, message.KindInvalid)
	}
	if len(registry.List().Commands) != 0 || registry.Running() != 0 {
		t.Error("a refused command is kept")
	}
}

func TestCommandsAreListedUntilTheyAreReleased(t *testing.T) {
	registry := newTestRegistry(t)
	first := start(t, registry, "z-first", script("printf abc; printf d >&2"))
	attach(t, first, 0)
	second := start(t, registry, "a-second", argv("sleep", "100"))
	_, err := registry.Start(own(t, "z-first"), argv("true"))
	wantKind(t, err, message.KindExists)
	listing := registry.List().Commands
	if len(listing) != 2 || listing[0].ID != own(t, "z-first") || listing[0].Running || listing[0].Cursor != 4 || *listing[0].Exit.ExitCode != 0 {
		t.Errorf("got %+v", listing)
	}
	if listing[1].ID != own(t, "a-second") || !listing[1].Running || listing[1].Exit != nil || registry.Running() != 1 {
		t.Errorf("got %+v", listing[1])
	}
	wantKind(t, registry.Release(own(t, "a-second")), message.KindInvalid)
	for _, id := range []string{"unknown", own(t, "z-first"), own(t, "z-first")} {
		if err := registry.Release(id); err != nil {
			t.Fatal(err)
		}
	}
	_, err = registry.Find(own(t, "z-first"))
	wantKind(t, err, message.KindNotFound)
	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	wantSignal(t, attach(t, second, 0), "KILL")
	if err := registry.Release(own(t, "a-second")); err != nil || len(registry.List().Commands) != 0 {
		t.Errorf("got %v %v", err, registry.List())
	}
}

func TestNoMoreCommandsRunThanAllowed(t *testing.T) {
	registry := newTestRegistry(t)
	registry.maxRunning = 2
	first := start(t, registry, "1", argv("sleep", "100"))
	start(t, registry, "2", argv("sleep", "100"))
	_, err := registry.Start("3", argv("true"))
	wantKind(t, err, message.KindLimit)
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	attach(t, first, 0)
	wantCode(t, attach(t, start(t, registry, "3", argv("true")), 0), 0)
}

func TestAClosedRegistryStartsNothingAndEndsWhatRuns(t *testing.T) {
	registry := newTestRegistry(t)
	folder := t.TempDir()
	polite := start(t, registry, "polite", script("trap 'echo bye; exit 3' TERM; echo $$ >"+folder+"/polite; while :; do sleep 0.01; done"))
	stubborn := start(t, registry, "stubborn", script("trap '' TERM; echo $$ >"+folder+"/stubborn; while :; do sleep 0.01; done"))
	pids := []int{pidIn(t, folder+"/polite"), pidIn(t, folder+"/stubborn")}
	registry.SignalAll(3 * time.Second)
	got := attach(t, polite, 0)
	wantCode(t, got, 3)
	if got.stdout != "bye\n" {
		t.Errorf("got %q", got.stdout)
	}
	wantSignal(t, attach(t, stubborn, 0), "KILL")
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("%d lives", pid)
		}
	}
	_, err := registry.Start("late", argv("true"))
	wantKind(t, err, message.KindFailed)
}

func TestCommandsRunAsWhomTheyShould(t *testing.T) {
	request := script("id -u; id -g; id -G; echo $HOME $USER")
	request.User = pointer("12345:23456")
	got := run(t, request)
	wantCode(t, got, 0)
	if got.stdout != "12345\n23456\n23456\n/ 12345\n" {
		t.Errorf("got %q", got.stdout)
	}
	got = run(t, script("id -u; echo $HOME $USER"))
	if got.stdout != "0\n/root root\n" {
		t.Errorf("got %q", got.stdout)
	}
}

func TestManyCommandsAtOnceKeepTheirOutputApart(t *testing.T) {
	registry := newTestRegistry(t)
	var all sync.WaitGroup
	for n := range 40 {
		all.Add(1)
		go func() {
			defer all.Done()
			command, err := registry.Start(fmt.Sprint(n), script(fmt.Sprintf("echo out %d; echo err %d >&2; exit %d", n, n, n)))
			if err != nil {
				t.Error(err)
				return
			}
			var stream bytes.Buffer
			if err := command.Stream(context.Background(), 0, 0, &stream, func() error { return nil }); err != nil {
				t.Error(err)
				return
			}
			got := parse(t, stream.Bytes())
			if got.stdout != fmt.Sprintf("out %d\n", n) || got.stderr != fmt.Sprintf("err %d\n", n) || *got.exit.ExitCode != n {
				t.Errorf("%d: got %q %q %s", n, got.stdout, got.stderr, describe(got.exit))
			}
		}()
	}
	all.Wait()
	if registry.Running() != 0 {
		t.Errorf("%d are said to run", registry.Running())
	}
}

func TestEndedCommandsLeaveNoDescriptorsAndNoGoroutines(t *testing.T) {
	registry := newTestRegistry(t)
	count := func() (int, int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), runtime.NumGoroutine()
	}
	attach(t, start(t, registry, "warm", script("echo x")), 0)
	eventually(t, "what the next command begins with is made", func() bool { return registry.hasSpare() })
	files, goroutines := count()
	for n := range 20 {
		id := fmt.Sprint(n)
		request := script("cat; echo x >&2")
		request.Stdin = n%2 == 0
		command := start(t, registry, id, request)
		if request.Stdin {
			if err := command.WriteStdin(context.Background(), strings.NewReader("in")); err != nil {
				t.Fatal(err)
			}
		}
		attach(t, command, 0)
		attach(t, start(t, registry, id+"-fails", argv("/no/such")), 0)
		if err := errors.Join(registry.Release(own(t, id)), registry.Release(own(t, id+"-fails"))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "everything is given back", func() bool {
		filesNow, goroutinesNow := count()
		return filesNow <= files && goroutinesNow <= goroutines
	})
}
