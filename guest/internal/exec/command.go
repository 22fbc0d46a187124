package exec

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/prefork"
	"pyro.dev/agent/internal/signals"
)

// Command is one command, from its start until it is released.
type Command struct {
	id       string
	registry *Registry
	ring     *ring
	started  time.Time
	// pid is 0 when the start failed.
	pid int
	// before is what was counted when the command began; nil when it never did.
	before *counts

	// launched is closed when pid and stdin are settled.
	launched chan struct{}
	// ended is closed when the main process was collected, done when its output is complete, too.
	ended, done chan struct{}
	// writer is held by the one request that may write to stdin.
	writer chan struct{}

	mu       sync.Mutex
	stdin    *os.File
	status   syscall.WaitStatus
	endedAt  time.Time
	timedOut bool
	exit     *message.CommandExit
}

func newCommand(id string, registry *Registry) *Command {
	return &Command{
		id: id, registry: registry, ring: newRing(&registry.budget), started: time.Now(),
		launched: make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{}), writer: make(chan struct{}, 1),
	}
}

// Pid of the main process; 0 when the start failed.
func (c *Command) Pid() int { return c.pid }

// launch starts the main process. A failure is how the command ended, not an error of the call.
func (c *Command) launch(request *message.StartCommand) {
	if failure := c.tryLaunch(request); failure != nil {
		c.endedAt = time.Now()
		close(c.ended)
		c.finish(failure)
	}
}

func (c *Command) tryLaunch(request *message.StartCommand) *message.StartError {
	who, failure := c.registry.accounts.lookUp(request.User)
	if failure != nil {
		return failure
	}
	if failure := examineFolder(request.Cwd); failure != nil {
		return failure
	}
	argv := request.Argv
	if request.Shell != nil {
		argv = []string{"/bin/sh", "-lc", *request.Shell}
	}
	env := environment(request.Env, who, c.id)
	path, failure := lookUpProgram(argv[0], request.Cwd, env)
	if failure != nil {
		return failure
	}
	null := c.registry.null
	begun, err := c.registry.spares.take(request.Stdin, null)
	if err != nil {
		return startError(message.StartCannotRun, "%s: cannot make its pipes: %s", argv[0], reason(err))
	}
	ends := begun.pipes
	out, err := newPump(c.ring, frames.Stdout, ends.stdout, c.registry.growth)
	errOut, err2 := newPump(c.ring, frames.Stderr, ends.stderr, c.registry.growth)
	if err := errors.Join(err, err2); err != nil {
		c.registry.giveUp(begun)
		return startError(message.StartCannotRun, "%s: cannot read its output: %s", argv[0], err)
	}
	c.stdin = ends.stdin
	program := &prefork.Program{
		Path: path, Argv: argv, Env: env, Dir: request.Cwd, UID: who.uid, GID: who.gid, Groups: who.groups,
	}
	before := c.registry.counts()
	c.before = &before
	pid, err := c.registry.begin(begun.process, program, ends.theirs, c.collected)
	ends.closeTheirs(null)
	if err != nil {
		c.stdin = nil
		ends.closeOurs()
		return explainFork(err, argv[0], request.Cwd, who)
	}
	c.pid = pid
	go c.supervise(out, errOut, request.TimeoutMs)
	return nil
}

// counts are of forks that were refused to the agent, and of limits that commands hit.
type counts struct {
	refusals int64
	hits     LimitHits
}

// environment completes what the request says with the user's own variables and the marker.
func environment(given []string, who account, id string) []string {
	env := make([]string, 0, len(given)+4)
	has := map[string]bool{}
	env = append(env, markerName+"="+id)
	for _, entry := range given {
		for _, name := range [...]string{"HOME", "USER", "LOGNAME", markerName} {
			if len(entry) > len(name) && entry[:len(name)] == name && entry[len(name)] == '=' {
				has[name] = true
				if name == markerName {
					entry = markerName + "=" + id
				}
			}
		}
		env = append(env, entry)
	}
	for _, own := range [...]struct{ name, value string }{{"HOME", who.home}, {"USER", who.name}, {"LOGNAME", who.name}} {
		if !has[own.name] {
			env = append(env, own.name+"="+own.value)
		}
	}
	return env
}

// collected is called by the reaper, under its lock's shadow: it must not block.
func (c *Command) collected(status syscall.WaitStatus) {
	c.mu.Lock()
	c.status, c.endedAt = status, time.Now()
	c.mu.Unlock()
	close(c.ended)
}

// supervise sees the command through.
func (c *Command) supervise(out, errOut *pump, timeoutMs *int64) {
	var pumps sync.WaitGroup
	for _, p := range []*pump{out, errOut} {
		pumps.Add(1)
		go func() {
			open := p.run()
			if open {
				pumps.Done()
				p.drain()
				return
			}
			// The pipes of most commands end with the command: no need to wait for the signal that says so.
			if !c.hasEnded() {
				c.registry.reaper.Collect()
			}
			p.over.Store(true)
			pumps.Done()
		}()
	}
	var timeout <-chan time.Time
	if timeoutMs != nil {
		timer := time.NewTimer(time.Until(c.started.Add(time.Duration(*timeoutMs) * time.Millisecond)))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-c.ended:
	case <-timeout:
		c.mu.Lock()
		c.timedOut = true
		c.mu.Unlock()
		go c.Kill()
		<-c.ended
	}
	c.closeStdin()
	out.mainEnded(c.endedAt)
	errOut.mainEnded(c.endedAt)
	pumps.Wait()
	c.finish(nil)
	// Whoever waits for the end goes first.
	runtime.Gosched()
	for _, p := range []*pump{out, errOut} {
		if p.over.Load() {
			p.file.Close()
		}
	}
	c.registry.prepareSpare()
}

func (c *Command) finish(failure *message.StartError) {
	_, stdoutBytes, stderrBytes := c.ring.progress()
	c.mu.Lock()
	exit := &message.CommandExit{
		TimedOut:    c.timedOut,
		StartError:  failure,
		DurationMs:  c.endedAt.Sub(c.started).Milliseconds(),
		StdoutBytes: stdoutBytes,
		StderrBytes: stderrBytes,
	}
	if failure != nil || c.status != 0 {
		if before := c.before; before != nil {
			now := c.registry.counts()
			exit.PidsLimited = now.refusals > before.refusals || now.hits.Pids > before.hits.Pids
			exit.MemoryLimited = now.hits.Memory > before.hits.Memory
		}
		exit.DiskLimited = c.registry.limits.DiskFull()
	}
	switch {
	case failure != nil:
		exit.PidsLimited = exit.PidsLimited || failure.Kind == message.StartLimitPids
	case c.status.Signaled():
		name := signals.Name(c.status.Signal())
		exit.Signal = &name
	default:
		code := c.status.ExitStatus()
		exit.ExitCode = &code
	}
	c.exit = exit
	c.mu.Unlock()
	c.ring.close()
	close(c.done)
	c.registry.noteEnd()
}

// Exit is how the command ended, nil while it runs or its output is not complete.
func (c *Command) Exit() *message.CommandExit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exit
}

// CheckCursor refuses a cursor that lies behind the output.
func (c *Command) CheckCursor(cursor int64) error {
	if _, exists := c.ring.first(cursor); !exists {
		return message.Errorf(message.KindInvalid, "the cursor %d is behind the end of the output", cursor)
	}
	return nil
}

// Stream writes the output from cursor on, as frames, and how the command ended. flush is called whenever what was
// written should be seen and more follows; the beginning waits up to hold for what follows.
func (c *Command) Stream(ctx context.Context, cursor int64, hold time.Duration, w io.Writer, flush func() error) error {
	first, exists := c.ring.first(cursor)
	if !exists {
		return message.Errorf(message.KindInvalid, "the cursor %d is behind the end of the output", cursor)
	}
	if err := frames.WriteJSON(w, frames.Event, message.Attached{Type: "attached", Cursor: first}); err != nil {
		return err
	}
	if !c.ring.comesWithin(ctx, hold, first) {
		if err := flush(); err != nil {
			return err
		}
	}
	cursor = first
	var taken batch
	for {
		if err := c.ring.take(ctx, cursor, &taken); err != nil {
			return err
		}
		ended := taken.ended
		err := writeBatch(w, cursor, &taken)
		c.ring.giveBack(&taken, err == nil)
		if err != nil {
			return err
		}
		cursor = taken.to
		if ended {
			break
		}
		if err := flush(); err != nil {
			return err
		}
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return frames.WriteJSON(w, frames.Result, c.Exit())
}

// writeBatch writes neighbouring frames of one block in one go. A gap before the batch is announced by another event.
func writeBatch(w io.Writer, cursor int64, taken *batch) error {
	if taken.from > cursor {
		if err := frames.WriteJSON(w, frames.Event, message.Attached{Type: "attached", Cursor: taken.from}); err != nil {
			return err
		}
		cursor = taken.from
	}
	segments := taken.segments
	if len(segments) > 0 && segments[0].cursor < cursor {
		s := segments[0]
		skip := int(cursor - s.cursor)
		if err := frames.Write(w, s.stream, s.block.buffer[s.from+frames.HeaderBytes+skip:s.to]); err != nil {
			return err
		}
		segments = segments[1:]
	}
	for len(segments) > 0 {
		run := 1
		for run < len(segments) && segments[run].block == segments[0].block && segments[run].from == segments[run-1].to {
			run++
		}
		if _, err := w.Write(segments[0].block.buffer[segments[0].from:segments[run-1].to]); err != nil {
			return err
		}
		segments = segments[run:]
	}
	return nil
}

// WriteStdin copies from until its end, then closes stdin. When from fails stdin stays open for another writer; a
// command that does not read any more ends the copy quietly.
func (c *Command) WriteStdin(ctx context.Context, from io.Reader) error {
	select {
	case c.writer <- struct{}{}:
		defer func() { <-c.writer }()
	default:
		return message.Errorf(message.KindExists, "command %s has a writer on its stdin", c.id)
	}
	c.mu.Lock()
	stdin := c.stdin
	c.mu.Unlock()
	if stdin == nil {
		return nil
	}
	if err := stdin.SetWriteDeadline(time.Time{}); err != nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = stdin.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer := stdinBuffers.Get().(*[stdinBufferBytes]byte)
	defer stdinBuffers.Put(buffer)
	for {
		n, readErr := from.Read(buffer[:])
		if n > 0 {
			if _, err := stdin.Write(buffer[:n]); err != nil {
				return endOfStdin(ctx, err)
			}
		}
		if readErr == io.EOF {
			c.closeStdin()
			return nil
		}
		if readErr != nil {
			return message.Errorf(message.KindTruncated, "stdin of command %s broke off: %s", c.id, readErr)
		}
	}
}

func endOfStdin(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// stdinBufferBytes is what one write to a command's stdin carries at most.
const stdinBufferBytes = 64 << 10

var stdinBuffers = sync.Pool{New: func() any { return new([stdinBufferBytes]byte) }}

func (c *Command) closeStdin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stdin != nil {
		c.stdin.Close()
		c.stdin = nil
	}
}

func (c *Command) tree() *tree {
	return newTree(c.id, c.pid, func() bool { return !c.hasEnded() })
}

// send signals one process of the tree; the main process only as long as it is certain to be it.
func (c *Command) send(pid int, number syscall.Signal) {
	// Whoever is gone meanwhile needs no signal.
	if pid == c.pid {
		_ = c.registry.reaper.Signal(pid, number)
		return
	}
	_ = unix.Kill(pid, number)
}

func (c *Command) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the whole tree. What is left of it after grace is killed; a negative grace is for ever.
func (c *Command) Signal(number syscall.Signal, grace time.Duration) error {
	if c.pid == 0 {
		return nil
	}
	if number == unix.SIGKILL {
		return c.Kill()
	}
	if err := c.tree().signal(number, c.send); err != nil {
		return err
	}
	if grace >= 0 {
		time.AfterFunc(grace, func() { _ = c.Kill() })
	}
	return nil
}

// Kill ends the whole tree.
func (c *Command) Kill() error {
	gone, err := c.tree().kill(c.send, c.registry.freezer)
	if err != nil {
		return message.Errorf(message.KindFailed, "cannot walk the processes of command %s: %s", c.id, err)
	}
	if !gone {
		return message.Errorf(message.KindFailed, "processes of command %s survived SIGKILL for %s", c.id, killLimit)
	}
	return nil
}
