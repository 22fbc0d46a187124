// Package monitor is the role `monitor`: on the host, one per OCI sandbox. It starts the sandbox through the runtime,
// waits for its end as the sub-reaper and leaves behind how it ended. It outlives the engine.
package monitor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/proc"
	"pyro.dev/agent/internal/signals"
)

const (
	// counterLimitBytes bounds what is kept of one counter file, tailLimitBytes what is quoted of a log.
	counterLimitBytes = 64 << 10
	tailLimitBytes    = 2 << 10
	messageLimitBytes = 8 << 10
	// leftoversLimit is how long children beside the main process may take to end after it.
	leftoversLimit = 2 * time.Second
	leftoversPause = 5 * time.Millisecond

	collectorPercent = 20
	memoryLimitBytes = 16 << 20
)

// stages of a start, as in monitorStatus.
const (
	stageSpec  = "spec"
	stageFiles = "files"
	stageStart = "start"
)

// Main runs one sandbox to its end.
func Main(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: pyro-agent monitor FILE")
		return 2
	}
	debug.SetGCPercent(collectorPercent)
	debug.SetMemoryLimit(memoryLimitBytes)
	runtime.GOMAXPROCS(1)
	signalled := make(chan os.Signal, 1)
	signals.Catch(signalled)

	folder := filepath.Dir(args[0])
	m := &monitor{folder: folder, children: newChildren(signalled)}
	if err := m.start(args[0]); err != nil {
		return m.reportFailure(err)
	}
	return m.see()
}

type monitor struct {
	folder   string
	spec     *spec
	children *children
	files    *files
	made     bool
	pid      int
}

// stageError says which step failed.
type stageError struct {
	stage string
	err   error
}

func (e *stageError) Error() string { return e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

func at(stage string, err error) error {
	if err == nil {
		return nil
	}
	return &stageError{stage, err}
}

func (m *monitor) start(path string) error {
	// The leader of a process group, as a shell makes them, is refused a session; it is detached well enough.
	if _, err := unix.Setsid(); err != nil && !errors.Is(err, unix.EPERM) {
		return at(stageFiles, os.NewSyscallError("setsid", err))
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return at(stageFiles, os.NewSyscallError("prctl", err))
	}
	var err error
	if m.spec, err = readSpec(path); err != nil {
		return at(stageSpec, err)
	}
	if m.files, err = openFiles(m.spec); err != nil {
		return at(stageFiles, err)
	}
	if err := m.children.enter(m.spec); err != nil {
		return at(stageFiles, err)
	}
	return at(stageStart, m.run())
}

// run makes and starts the container in one call of the runtime: with two, gVisor takes 25 ms longer.
func (m *monitor) run() error {
	pidFile := filepath.Join(m.folder, "init.pid")
	if err := os.Remove(pidFile); err != nil && !os.IsNotExist(err) {
		return err
	}
	args := []string{"run", "--detach", "--bundle", m.spec.Bundle, "--pid-file", pidFile}
	if len(m.files.passed) > 0 {
		args = append(args, "--preserve-fds", strconv.Itoa(len(m.files.passed)))
	}
	m.made = true
	if err := m.call(m.spec.RunThrough, m.spec.StartTimeoutMs, m.files.passed, append(args, m.spec.ID)...); err != nil {
		return err
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return fmt.Errorf("the runtime wrote no pid file: %w", err)
	}
	m.pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || m.pid <= 1 {
		return fmt.Errorf("the runtime's pid file holds %.32q", text)
	}
	stat, err := proc.ReadStat(m.pid)
	if err == nil && stat.Parent != os.Getpid() {
		return fmt.Errorf("process %d of the pid file is a child of %d, not of the monitor", m.pid, stat.Parent)
	}
	if err != nil && !m.children.has(m.pid) {
		return fmt.Errorf("process %d of the pid file is not there: %w", m.pid, err)
	}
	return nil
}

// call runs the runtime to its end within a deadline, through a program that becomes it.
func (m *monitor) call(program []string, timeoutMs int64, passed []int, args ...string) error {
	argv := slices.Concat(program, m.spec.Runtime, args)
	status, err := m.children.run(argv, m.files.stdio(), passed, time.Duration(timeoutMs)*time.Millisecond)
	verb := args[0]
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s %s did not end within %d ms", m.spec.Runtime[0], verb, timeoutMs)
	case err != nil:
		return fmt.Errorf("cannot run %s %s: %w", m.spec.Runtime[0], verb, err)
	case status.Signaled():
		return fmt.Errorf("%s %s was ended by SIG%s", m.spec.Runtime[0], verb, signals.Name(status.Signal()))
	case status.ExitStatus() != 0:
		return fmt.Errorf("%s %s ended with exit code %d", m.spec.Runtime[0], verb, status.ExitStatus())
	}
	return nil
}

// reportFailure undoes what was made and says what happened.
func (m *monitor) reportFailure(err error) int {
	stage := stageFiles
	var staged *stageError
	if errors.As(err, &staged) {
		stage = staged.stage
	}
	text := err.Error()
	cleaned := true
	if m.made {
		// The logs come first: the clean-up writes to them, too.
		if m.spec.RuntimeLogFile != nil {
			text += "\n" + tail(*m.spec.RuntimeLogFile, tailLimitBytes)
		}
		m.files.drainLog()
		text += "\n" + tail(m.spec.LogFile, tailLimitBytes)
		cleaned = m.call(nil, m.spec.DeleteTimeoutMs, nil, "delete", "--force", m.spec.ID) == nil
		cleaned = m.children.killAll(leftoversLimit) && cleaned
	}
	fmt.Fprintln(os.Stderr, "monitor:", text)
	err = publish(m.folder, "status.json", failed{
		State: "failed", Stage: stage, Message: message.Clip(text, messageLimitBytes), Cleaned: cleaned, At: now(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "monitor:", err)
	}
	return 1
}

// see publishes that the sandbox runs, waits for its end and publishes that.
func (m *monitor) see() int {
	m.files.close()
	if err := m.publishRunning(); err != nil {
		fmt.Fprintln(os.Stderr, "monitor:", err)
		return 1
	}
	status := m.children.wait(m.pid)
	exit := ended{Counters: readCounters(m.spec.CounterFiles), At: now()}
	describe(status, &exit)
	if err := publish(m.folder, "exit.json", exit); err != nil {
		fmt.Fprintln(os.Stderr, "monitor:", err)
		return 1
	}
	m.children.awaitAll(leftoversLimit)
	return 0
}

func (m *monitor) publishRunning() error {
	own, err := proc.ReadStat(os.Getpid())
	if err != nil {
		return err
	}
	startTime := ""
	// A sandbox that ended already has no start time any more unless nobody collected it; exit.json follows at once.
	if stat, err := proc.ReadStat(m.pid); err == nil {
		startTime = stat.StartTime
	}
	return publish(m.folder, "status.json", running{
		State: "running", Pid: m.pid, StartTime: startTime, MonitorPid: own.Pid, MonitorStartTime: own.StartTime, At: now(),
	})
}

func describe(status syscall.WaitStatus, exit *ended) {
	if status.Signaled() {
		name := signals.Name(status.Signal())
		exit.Signal = &name
		return
	}
	code := status.ExitStatus()
	exit.ExitCode = &code
}

func readCounters(paths []string) map[string]*string {
	counters := make(map[string]*string, len(paths))
	buffer := make([]byte, counterLimitBytes)
	for _, path := range paths {
		counters[path] = nil
		file, err := os.Open(path)
		if err != nil {
			continue
		}
		n, err := file.Read(buffer)
		file.Close()
		if err == nil || n > 0 {
			text := string(buffer[:n])
			counters[path] = &text
		}
	}
	return counters
}
