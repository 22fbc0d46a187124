package channel

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"strings"
	"time"

	"pyro.dev/agent/internal/exec"
	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/http2"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/signals"
)

const (
	// requestLimitBytes bounds a JSON body; file contents have their own limit.
	requestLimitBytes = 8 << 20
	// smallRequestBytes bounds bodies that hold a few numbers.
	smallRequestBytes = 64 << 10
	statusOK          = 200
	jsonType          = "application/json"
)

// Sandbox is what the routes need of PID 1.
type Sandbox interface {
	Status() (message.AgentStatus, error)
	Flush() error
	// Uptime is how long the agent runs.
	Uptime() time.Duration
	// SetClock fails where the clock is the host's.
	SetClock(now time.Time) (jumped bool, err error)
	// Freeze stops all writing to the disk until Thaw, or until the agent finds that nobody thaws it.
	Freeze() error
	// Thaw reports whether the disk stood still until now.
	Thaw() (held bool, err error)
	// Role runs a one-shot role of this binary on the sandbox's own disks.
	Role(ctx context.Context, name string, stdin io.Reader, stdout io.Writer) error
	// Shutdown ends everything and then the process.
	Shutdown(grace time.Duration)
}

// Routes serves /v1.
func Routes(commands *exec.Registry, sandbox Sandbox, logger *log.Logger) http2.Handler {
	s := &server{
		commands: commands, sandbox: sandbox, log: logger,
		files: make(chan struct{}, fileRequests), extracts: make(chan struct{}, fileRequests),
	}
	s.plain = map[string]handler{
		"/v1/status":        s.status,
		"/v1/flush":         s.flush,
		"/v1/clock":         s.clock,
		"/v1/set-clock":     s.setClock,
		"/v1/freeze":        s.freeze,
		"/v1/thaw":          s.thaw,
		"/v1/shutdown":      s.shutdown,
		"/v1/commands":      s.list,
		"/v1/release":       s.release,
		"/v1/files/read":    s.readFile,
		"/v1/files/write":   s.writeFile,
		"/v1/files/extract": s.extract,
	}
	s.ofCommand = map[string]handler{
		"start":  s.start,
		"attach": s.attach,
		"stdin":  s.stdin,
		"signal": s.signal,
	}
	return s.serve
}

// handler answers, or says what the answer is as an error.
type handler func(http2.Answer, *request) error

// request is one to a route. item is what the path names: a command or a role.
type request struct {
	*http2.Request
	item string
}

type server struct {
	commands *exec.Registry
	sandbox  Sandbox
	log      *log.Logger
	// plain has whole paths, ofCommand what follows /v1/commands/ID/.
	plain, ofCommand map[string]handler
	// files and extracts are held by the requests under way.
	files, extracts chan struct{}
}

func (s *server) find(method, path string) (handle handler, item string) {
	if method != "POST" {
		return s.unknown, ""
	}
	handle = s.plain[path]
	if rest, isOfCommand := strings.CutPrefix(path, "/v1/commands/"); isOfCommand {
		id, what, _ := strings.Cut(rest, "/")
		handle, item = s.ofCommand[what], id
	}
	if name, isRole := strings.CutPrefix(path, "/v1/roles/"); isRole {
		handle, item = s.role, name
	}
	if handle == nil {
		return s.unknown, ""
	}
	return handle, item
}

func (s *server) unknown(_ http2.Answer, r *request) error {
	return message.Errorf(message.KindNotFound, "there is no request %s %s", message.Clip(r.Method, 16), message.Clip(r.Path, 256))
}

// serve sends a handler's error as the protocol says, unless the answer has begun.
func (s *server) serve(w http2.Answer, asked *http2.Request) {
	handle, item := s.find(asked.Method, asked.Path)
	err := handle(w, &request{asked, item})
	if err == nil || asked.Context.Err() != nil {
		return
	}
	problem := message.AsError(err)
	if problem.Kind == message.KindFailed {
		s.log.Printf("%s: %s", asked.Path, problem.Message)
	}
	var streamed streamedError
	if errors.As(err, &streamed) {
		// Should the link fail as well, the missing last frame tells.
		_ = frames.WriteJSON(w, frames.Error, problem)
		return
	}
	w.Begin(statusOf(problem.Kind), jsonType)
	_ = json.NewEncoder(w).Encode(message.ErrorBody{Error: problem})
}

// streamedError is an error after the first frame of an answer.
type streamedError struct{ error }

func (e streamedError) Unwrap() error { return e.error }

func statusOf(kind message.ErrorKind) int {
	switch kind {
	case message.KindInvalid, message.KindUnsafeEntry, message.KindTruncated, message.KindOutsideRoot:
		return 400
	case message.KindNotFound:
		return 404
	case message.KindExists, message.KindNotAFile, message.KindTextMismatch:
		return 409
	case message.KindTooLarge:
		return 413
	case message.KindLimit:
		return 429
	case message.KindNoSpace:
		return 507
	case message.KindFailed:
		return 500
	}
	return 500
}

func answer(w http2.Answer, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Begin(statusOK, jsonType)
	_, err = w.Write(body)
	return err
}

type empty struct{}

func (s *server) status(w http2.Answer, r *request) error {
	status, err := s.sandbox.Status()
	if err != nil {
		return err
	}
	return answer(w, status)
}

func (s *server) flush(w http2.Answer, r *request) error {
	if err := s.sandbox.Flush(); err != nil {
		return err
	}
	return answer(w, empty{})
}

func (s *server) clock(w http2.Answer, r *request) error {
	return answer(w, message.ClockReading{UptimeUs: s.sandbox.Uptime().Microseconds()})
}

func (s *server) setClock(w http2.Answer, r *request) error {
	var request message.SetClock
	if err := message.Decode(r.Body, smallRequestBytes, &request); err != nil {
		return err
	}
	if request.UnixUs <= 0 || request.UptimeUs < 0 {
		return message.Errorf(message.KindInvalid, "unixUs must be positive, uptimeUs not negative")
	}
	// The machine may have stood still with this message in its queue: what it says was true then.
	uptime := s.sandbox.Uptime()
	passed := uptime - time.Duration(request.UptimeUs)*time.Microsecond
	jumped, err := s.sandbox.SetClock(time.UnixMicro(request.UnixUs).Add(passed))
	if err != nil {
		return err
	}
	return answer(w, message.ClockSet{UptimeUs: uptime.Microseconds(), Jumped: jumped})
}

func (s *server) freeze(w http2.Answer, r *request) error {
	if err := s.sandbox.Freeze(); err != nil {
		return err
	}
	return answer(w, empty{})
}

func (s *server) thaw(w http2.Answer, r *request) error {
	held, err := s.sandbox.Thaw()
	if err != nil {
		return err
	}
	return answer(w, message.Thawed{Held: held})
}

// role passes frames on as they come: those of the request to the role, its own to the engine.
func (s *server) role(w http2.Answer, r *request) error {
	to := &roleAnswer{Answer: w}
	err := s.sandbox.Role(r.Context, r.item, r.Body, to)
	if err != nil && to.begun {
		return streamedError{err}
	}
	return err
}

// roleAnswer sends each piece at once.
type roleAnswer struct {
	http2.Answer
	begun bool
}

func (a *roleAnswer) Write(piece []byte) (int, error) {
	if !a.begun {
		a.begun = true
		a.Begin(statusOK, frames.ContentType)
	}
	n, err := a.Answer.Write(piece)
	if err == nil {
		err = a.Flush()
	}
	return n, err
}

func (s *server) shutdown(w http2.Answer, r *request) error {
	var request message.Shutdown
	if err := message.Decode(r.Body, smallRequestBytes, &request); err != nil {
		return err
	}
	if request.GraceMs < 0 {
		return message.Errorf(message.KindInvalid, "graceMs must not be negative")
	}
	err := answer(w, empty{})
	if flushErr := w.Flush(); err == nil {
		err = flushErr
	}
	go s.sandbox.Shutdown(time.Duration(request.GraceMs) * time.Millisecond)
	return err
}

func (s *server) list(w http2.Answer, r *request) error {
	return answer(w, s.commands.List())
}

func (s *server) start(w http2.Answer, r *request) error {
	var request message.StartCommand
	if err := message.Decode(r.Body, requestLimitBytes, &request); err != nil {
		return err
	}
	command, err := s.commands.Start(r.item, &request)
	if err != nil {
		return err
	}
	w.Begin(statusOK, frames.ContentType)
	if pid := command.Pid(); pid != 0 {
		if err := frames.WriteJSON(w, frames.Event, message.Started{Type: "started", Pid: pid}); err != nil {
			return streamedError{err}
		}
	}
	return stream(w, r, command, 0, time.Duration(request.HoldMs)*time.Millisecond)
}

func (s *server) attach(w http2.Answer, r *request) error {
	var request message.AttachCommand
	if err := message.Decode(r.Body, smallRequestBytes, &request); err != nil {
		return err
	}
	command, err := s.commands.Find(r.item)
	if err != nil {
		return err
	}
	if request.Cursor < 0 {
		return message.Errorf(message.KindInvalid, "the cursor must not be negative")
	}
	if err := command.CheckCursor(request.Cursor); err != nil {
		return err
	}
	w.Begin(statusOK, frames.ContentType)
	return stream(w, r, command, request.Cursor, 0)
}

func stream(w http2.Answer, r *request, command *exec.Command, cursor int64, hold time.Duration) error {
	if err := command.Stream(r.Context, cursor, hold, w, w.Flush); err != nil {
		return streamedError{err}
	}
	return nil
}

func (s *server) stdin(w http2.Answer, r *request) error {
	command, err := s.commands.Find(r.item)
	if err != nil {
		return err
	}
	if err := command.WriteStdin(r.Context, r.Body); err != nil {
		return err
	}
	return answer(w, empty{})
}

func (s *server) signal(w http2.Answer, r *request) error {
	var request message.SignalCommand
	if err := message.Decode(r.Body, smallRequestBytes, &request); err != nil {
		return err
	}
	number, known := signals.Parse(request.Signal)
	if !known {
		return message.Errorf(message.KindInvalid, "there is no signal %q", message.Clip(request.Signal, 32))
	}
	grace := time.Duration(-1)
	if request.GraceMs != nil {
		if *request.GraceMs < 0 {
			return message.Errorf(message.KindInvalid, "graceMs must not be negative")
		}
		grace = time.Duration(*request.GraceMs) * time.Millisecond
	}
	command, err := s.commands.Find(r.item)
	if err != nil {
		return err
	}
	if err := command.Signal(number, grace); err != nil {
		return err
	}
	return answer(w, empty{})
}

func (s *server) release(w http2.Answer, r *request) error {
	var request message.ReleaseCommands
	if err := message.Decode(r.Body, requestLimitBytes, &request); err != nil {
		return err
	}
	var refused error
	for _, id := range request.IDs {
		if err := s.commands.Release(id); err != nil {
			refused = err
		}
	}
	if refused != nil {
		return refused
	}
	return answer(w, empty{})
}
