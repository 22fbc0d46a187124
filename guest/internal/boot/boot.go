// Package boot is the role `init`: PID 1 of a sandbox.
package boot

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/channel"
	"pyro.dev/agent/internal/exec"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/reap"
	"pyro.dev/agent/internal/signals"
)

const (
	configLimitBytes = 1 << 20
	// memoryLimitBytes is where the collector begins to work hard.
	memoryLimitBytes = 128 << 20
	collectorPercent = 50
	processors       = 2
	// earlyThreads are made at the start, when nobody can have used up the processes; threadsLimit is never reached by
	// what the agent does and ends it when it is.
	earlyThreads = 12
	threadsLimit = 96
)

// Main never returns unless the sandbox cannot begin.
func Main(args []string) int {
	logger := log.New(os.Stderr, "pyro-agent: ", log.LUTC|log.Ldate|log.Lmicroseconds)
	if len(args) != 0 {
		logger.Print("init takes no arguments")
		return 2
	}
	child := make(chan os.Signal, 1)
	signals.Catch(child)
	config, err := readConfig(os.Stdin)
	if err != nil {
		logger.Printf("config: %s", err)
		return 1
	}
	link := &channel.Link{Dial: channel.DialSocket(config.Socket)}
	if err := Settle(); err != nil {
		logger.Print(err)
		return 1
	}
	if err := Serve(config, link, child, nil, logger); err != nil {
		logger.Print(err)
		return 1
	}
	return 0
}

// Serve makes the process, which is settled, the PID 1 that the config describes and never returns when it can. The link
// says how to reach the engine; child gets SIGCHLD; machine is nil in a sandbox that shares its kernel.
func Serve(config *message.AgentConfig, link *channel.Link, child <-chan os.Signal, machine *Machine, logger *log.Logger) error {
	// Nothing that was handed in goes on to commands.
	if err := unix.CloseRange(0, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return os.NewSyscallError("close_range", err)
	}
	takeName(config.Hostname, logger)
	reaper := reap.Start(child)
	cgroup, limits := config.Cgroup, exec.Limits(nil)
	if machine != nil {
		cgroup, limits = machine.Cgroup, machine.Limits
	}
	commands, err := exec.NewRegistry(reaper, cgroup, config.MaxCommands, limits)
	if err != nil {
		return err
	}
	bootID, err := newBootID()
	if err != nil {
		return err
	}
	sandbox := &sandbox{
		bootID: bootID, started: time.Now(), commands: commands, sync: config.Flush == "sync",
		machine: machine, reaper: reaper, log: logger,
	}
	link.Hello = message.Hello{
		Protocol: message.Protocol, AgentVersion: message.AgentVersion, BootID: bootID, Token: config.Token,
		Role: "serve", SandboxID: config.SandboxID,
	}
	link.Uptime = sandbox.Uptime
	link.Handler = channel.Routes(commands, sandbox, logger)
	link.Log = logger
	go commands.GetReady()
	link.Run()
	return nil
}

// readConfig reads the config and makes stdin harmless.
func readConfig(stdin *os.File) (*message.AgentConfig, error) {
	var config message.AgentConfig
	if err := message.Decode(stdin, configLimitBytes, &config); err != nil {
		return nil, err
	}
	if config.Protocol != message.Protocol {
		return nil, fmt.Errorf("the engine speaks protocol %d, this agent %d", config.Protocol, message.Protocol)
	}
	if config.Socket == "" || config.MaxCommands < 1 {
		return nil, fmt.Errorf("socket and maxCommands are wanted")
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null)
	if err := unix.Dup3(null, int(stdin.Fd()), unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("dup3", err)
	}
	return &config, nil
}

// Settle makes the process what any PID 1 has to be.
func Settle() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	unix.Umask(0o022)
	if err := os.Chdir("/"); err != nil {
		return err
	}
	debug.SetGCPercent(collectorPercent)
	debug.SetMemoryLimit(memoryLimitBytes)
	debug.SetMaxThreads(threadsLimit)
	runtime.GOMAXPROCS(processors)
	startThreads()
	return nil
}

// takeName does what the runtime does where there is one that can.
func takeName(wanted string, logger *log.Logger) {
	if name, err := os.Hostname(); wanted == "" || err == nil && name == wanted {
		return
	}
	if err := unix.Sethostname([]byte(wanted)); err != nil {
		logger.Printf("hostname: %s", err)
	}
}

// startThreads makes the runtime create its threads now: at the limit of processes it could not, and would abort.
func startThreads() {
	var running, done sync.WaitGroup
	release := make(chan struct{})
	for range earlyThreads {
		running.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			running.Done()
			<-release
		}()
	}
	running.Wait()
	close(release)
	done.Wait()
}

// newBootID is random: the kernel's own may be the host's.
func newBootID() (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	text := hex.EncodeToString(id[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:], nil
}
