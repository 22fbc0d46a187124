// Package exec runs commands: it starts them in the right cgroup as the right user, keeps their output in rings and ends
// whole trees of processes.
package exec

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/prefork"
	"pyro.dev/agent/internal/reap"
	"pyro.dev/agent/internal/shield"
)

const (
	// commandsLimit bounds commands that are known, running or not: the engine releases what it has seen end.
	commandsLimit = 20_000
	idLimitBytes  = 64
	// longestTimeoutMs is a hundred years, as in the contract: a count of nanoseconds holds it.
	longestTimeoutMs = 100 * 365 * 24 * 60 * 60 * 1000
	longestHoldMs    = 1000
)

// Registry holds the commands of the sandbox.
type Registry struct {
	reaper     *reap.Reaper
	forker     *forker
	freezer    *freezer
	growth     growth
	budget     budget
	maxRunning int
	// null is a descriptor of /dev/null from before any user could replace it.
	null     int
	running  atomic.Int64
	limits   Limits
	accounts accounts
	spares   spares

	mu       sync.Mutex
	commands map[string]*Command
	closed   bool
}

// Limits are those of user commands on a kernel of the sandbox's own.
type Limits interface {
	// Hits is how often they were hit so far.
	Hits() LimitHits
	// DiskFull is true while the disk has next to no space.
	DiskFull() bool
}

// LimitHits counts kills for lack of memory, and refused forks.
type LimitHits struct{ Memory, Pids int64 }

// noLimits is where the engine counts, from outside.
type noLimits struct{}

func (noLimits) Hits() LimitHits { return LimitHits{} }
func (noLimits) DiskFull() bool  { return false }

// NewRegistry takes over all forking. limits is nil where this sandbox does not count.
func NewRegistry(reaper *reap.Reaper, cgroup message.Cgroup, maxRunning int, limits Limits) (*Registry, error) {
	growth, keepsSpare, forksAhead := sharedKernelGrowth, false, limits != nil
	if shield.Needed() || limits != nil {
		growth, keepsSpare = ownKernelGrowth, true
	}
	if limits == nil {
		limits = noLimits{}
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	forker, err := startForker(cgroup)
	if err != nil {
		return nil, err
	}
	return &Registry{
		growth: growth, reaper: reaper, forker: forker, freezer: newFreezer(cgroup), maxRunning: maxRunning, null: null, limits: limits,
		accounts: accounts{passwd: "/etc/passwd", group: "/etc/group"}, commands: map[string]*Command{},
		spares: spares{keeps: keepsSpare, forks: forksAhead},
	}, nil
}

// Start begins a command under a new id. That it cannot run is how it ends, not an error here.
func (r *Registry) Start(id string, request *message.StartCommand) (*Command, error) {
	if err := validate(id, request); err != nil {
		return nil, err
	}
	command := newCommand(id, r)
	if err := r.enter(command); err != nil {
		return nil, err
	}
	command.launch(request)
	close(command.launched)
	return command, nil
}

func (r *Registry) enter(command *Command) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return message.Errorf(message.KindFailed, "the sandbox is shutting down")
	case r.commands[command.id] != nil:
		return message.Errorf(message.KindExists, "command %s exists", command.id)
	case r.running.Load() >= int64(r.maxRunning):
		return message.Errorf(message.KindLimit, "%d commands are running already", r.maxRunning)
	case len(r.commands) >= commandsLimit:
		return message.Errorf(message.KindLimit, "%d commands wait to be released", commandsLimit)
	}
	r.commands[command.id] = command
	r.running.Add(1)
	r.budget.rings.Add(1)
	return nil
}

// begin makes a process a command: one that was forked ahead, unless it stands still or is gone, or a new one.
func (r *Registry) begin(ahead *waiting, program *prefork.Program, files [3]int, ended func(syscall.WaitStatus)) (int, error) {
	if ahead != nil {
		switch err := r.become(ahead, program); {
		case err == nil:
			ahead.inherit(ended)
			return ahead.Pid, nil
		case errors.Is(err, prefork.ErrStuck):
			r.end(ahead)
		case !errors.Is(err, prefork.ErrGone):
			return 0, err
		}
	}
	return r.spawn(func() (int, error) { return r.forker.fork(program, files) }, ended)
}

// become waits for commands that stand still, like spawn. Where root inside has frozen them, the process is found to stand still.
func (r *Registry) become(ahead *waiting, program *prefork.Program) error {
	r.freezer.forking.Lock()
	defer r.freezer.forking.Unlock()
	if err := ahead.Become(program); err != nil {
		return err
	}
	r.forker.giveUpProtection(ahead.Pid)
	return nil
}

// spawn waits for commands that stand still before it takes the reaper's lock, which a kill takes while they do. Those that
// root inside has frozen go on: the new one would stand still with them, and all who wait for its start.
func (r *Registry) spawn(start func() (int, error), ended func(syscall.WaitStatus)) (int, error) {
	r.freezer.forking.Lock()
	defer r.freezer.forking.Unlock()
	r.freezer.thaw()
	return r.reaper.Spawn(start, ended)
}

func (r *Registry) counts() counts { return counts{r.forker.refusals.Load(), r.limits.Hits()} }

func (r *Registry) noteEnd() { r.running.Add(-1) }

// Running counts commands that have not ended.
func (r *Registry) Running() int { return int(r.running.Load()) }

// Find returns a known command, once it is launched.
func (r *Registry) Find(id string) (*Command, error) {
	r.mu.Lock()
	command := r.commands[id]
	r.mu.Unlock()
	if command != nil {
		<-command.launched
		return command, nil
	}
	return nil, message.Errorf(message.KindNotFound, "there is no command %s", message.Clip(id, idLimitBytes))
}

// Release forgets a command whose main process ended, and its output. One that is not known was forgotten already.
func (r *Registry) Release(id string) error {
	command, err := r.Find(id)
	if err != nil {
		return nil
	}
	select {
	case <-command.ended:
	default:
		return message.Errorf(message.KindInvalid, "command %s is running", id)
	}
	r.mu.Lock()
	known := r.commands[id] == command
	delete(r.commands, id)
	r.mu.Unlock()
	if known {
		r.budget.rings.Add(-1)
		command.ring.drop()
	}
	return nil
}

// List describes all commands in the order of their start.
func (r *Registry) List() message.CommandListing {
	r.mu.Lock()
	commands := make([]*Command, 0, len(r.commands))
	for _, command := range r.commands {
		commands = append(commands, command)
	}
	r.mu.Unlock()
	slices.SortFunc(commands, func(a, b *Command) int { return cmp.Or(a.started.Compare(b.started), cmp.Compare(a.id, b.id)) })
	listing := message.CommandListing{Commands: make([]message.CommandEntry, 0, len(commands))}
	for _, command := range commands {
		exit := command.Exit()
		cursor, _, _ := command.ring.progress()
		listing.Commands = append(listing.Commands, message.CommandEntry{
			ID: command.id, Running: exit == nil, Exit: exit, Cursor: cursor,
		})
	}
	return listing
}

// Close refuses further starts and returns the commands that are known.
func (r *Registry) Close() []*Command {
	if last := r.spares.close(); last != nil {
		r.giveUp(last)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	commands := make([]*Command, 0, len(r.commands))
	for _, command := range r.commands {
		commands = append(commands, command)
	}
	return commands
}

// WaitingPid is the process that waits to be a command, and is none of the user's; 0 when there is none.
func (r *Registry) WaitingPid() int { return r.spares.waitingPid() }

// SignalAll is for agents that are not PID 1 and so must not signal everything there is.
func (r *Registry) SignalAll(grace time.Duration) {
	var all sync.WaitGroup
	for _, command := range r.Close() {
		all.Add(1)
		go func() {
			defer all.Done()
			<-command.launched
			terminate(command, grace)
		}()
	}
	all.Wait()
}

func validate(id string, request *message.StartCommand) error {
	if id == "" || len(id) > idLimitBytes || strings.ContainsAny(id, "/\x00=") {
		return message.Errorf(message.KindInvalid, "%q is no command id", message.Clip(id, idLimitBytes))
	}
	if (len(request.Argv) > 0) == (request.Shell != nil) {
		return message.Errorf(message.KindInvalid, "exactly one of argv and shell is wanted")
	}
	if request.TimeoutMs != nil && (*request.TimeoutMs <= 0 || *request.TimeoutMs > longestTimeoutMs) {
		return message.Errorf(message.KindInvalid, "timeoutMs must be from 1 to %d", longestTimeoutMs)
	}
	if request.HoldMs < 0 || request.HoldMs > longestHoldMs {
		return message.Errorf(message.KindInvalid, "holdMs must be from 0 to %d", longestHoldMs)
	}
	texts := append(slices.Clone(request.Argv), request.Cwd)
	texts = append(texts, request.Env...)
	if request.Shell != nil {
		texts = append(texts, *request.Shell)
	}
	for _, text := range texts {
		if strings.IndexByte(text, 0) >= 0 {
			return message.Errorf(message.KindInvalid, "argv, cwd and env cannot hold NUL: %s", fmt.Sprintf("%.60q", text))
		}
	}
	for _, entry := range request.Env {
		if strings.IndexByte(entry, '=') < 1 {
			return message.Errorf(message.KindInvalid, "env holds NAME=value only, not %s", fmt.Sprintf("%.60q", entry))
		}
	}
	return nil
}
