package channel

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"time"

	"pyro.dev/agent/internal/exec"
	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/signals"
)

const (
	// requestLimitBytes bounds a JSON body; file contents have their own limit.
	requestLimitBytes = 8 << 20
	// smallRequestBytes bounds bodies that hold a few numbers.
	smallRequestBytes = 64 << 10
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
func Routes(commands *exec.Registry, sandbox Sandbox, logger *log.Logger) http.Handler {
	s := &server{
		commands: commands, sandbox: sandbox, log: logger,
		files: make(chan struct{}, fileRequests), extracts: make(chan struct{}, fileRequests),
	}
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /v1/status":                s.status,
		"POST /v1/flush":                 s.flush,
		"POST /v1/clock":                 s.clock,
		"POST /v1/set-clock":             s.setClock,
		"POST /v1/freeze":                s.freeze,
		"POST /v1/thaw":                  s.thaw,
		"POST /v1/roles/{name}":          s.role,
		"POST /v1/shutdown":              s.shutdown,
		"POST /v1/commands":              s.list,
		"POST /v1/commands/{id}/start":   s.start,
		"POST /v1/commands/{id}/attach":  s.attach,
		"POST /v1/commands/{id}/stdin":   s.stdin,
		"POST /v1/commands/{id}/signal":  s.signal,
		"POST /v1/commands/{id}/release": s.release,
		"POST /v1/files/read":            s.readFile,
		"POST /v1/files/write":           s.writeFile,
		"POST /v1/files/extract":         s.extract,
	} {
		mux.HandleFunc(pattern, s.answering(handle))
	}
	return mux
}

type server struct {
	commands *exec.Registry
	sandbox  Sandbox
	log      *log.Logger
	// files and extracts are held by the requests under way.
	files, extracts chan struct{}
}

// answering sends a handler's error as the protocol says, unless the answer has begun.
func (s *server) answering(handle func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := handle(w, r)
		if err == nil || r.Context().Err() != nil {
			return
		}
		problem := message.AsError(err)
		if problem.Kind == message.KindFailed {
			s.log.Printf("%s: %s", r.URL.Path, problem.Message)
		}
		var streamed streamedError
		if errors.As(err, &streamed) {
			// Should the link fail as well, the missing last frame tells.
			_ = frames.WriteJSON(w, frames.Error, problem)
			return
		}
		w.Header().Set("content-type", "application/json")
		w.WriteHeader(statusOf(problem.Kind))
		_ = json.NewEncoder(w).Encode(message.ErrorBody{Error: problem})
	}
}

// streamedError is an error after the first frame of an answer.
type streamedError struct{ error }

func (e streamedError) Unwrap() error { return e.error }

func statusOf(kind message.ErrorKind) int {
	switch kind {
	case message.KindInvalid, message.KindUnsafeEntry, message.KindTruncated, message.KindOutsideRoot:
		return http.StatusBadRequest
	case message.KindNotFound:
		return http.StatusNotFound
	case message.KindExists, message.KindNotAFile, message.KindTextMismatch:
		return http.StatusConflict
	case message.KindTooLarge:
		return http.StatusRequestEntityTooLarge
	case message.KindLimit:
		return http.StatusTooManyRequests
	case message.KindNoSpace:
		return http.StatusInsufficientStorage
	case message.KindFailed:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

func answer(w http.ResponseWriter, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("content-type", "application/json")
	_, err = w.Write(body)
	return err
}

type empty struct{}

func (s *server) status(w http.ResponseWriter, r *http.Request) error {
	status, err := s.sandbox.Status()
	if err != nil {
		return err
	}
	return answer(w, status)
}

func (s *server) flush(w http.ResponseWriter, r *http.Request) error {
	if err := s.sandbox.Flush(); err != nil {
		return err
	}
	return answer(w, empty{})
}

func (s *server) clock(w http.ResponseWriter, r *http.Request) error {
	return answer(w, message.ClockReading{UptimeUs: s.sandbox.Uptime().Microseconds()})
}

func (s *server) setClock(w http.ResponseWriter, r *http.Request) error {
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

func (s *server) freeze(w http.ResponseWriter, r *http.Request) error {
	if err := s.sandbox.Freeze(); err != nil {
		return err
	}
	return answer(w, empty{})
}

func (s *server) thaw(w http.ResponseWriter, r *http.Request) error {
	held, err := s.sandbox.Thaw()
	if err != nil {
		return err
	}
	return answer(w, message.Thawed{Held: held})
}

// role passes frames on as they come: those of the request to the role, its own to the engine.
func (s *server) role(w http.ResponseWriter, r *http.Request) error {
	to := &roleAnswer{ResponseWriter: w, flush: http.NewResponseController(w).Flush}
	err := s.sandbox.Role(r.Context(), r.PathValue("name"), r.Body, to)
	if err != nil && to.begun {
		return streamedError{err}
	}
	return err
}

// roleAnswer sends each piece at once.
type roleAnswer struct {
	http.ResponseWriter
	flush func() error
	begun bool
}

func (a *roleAnswer) Write(piece []byte) (int, error) {
	if !a.begun {
		a.begun = true
		a.Header().Set("content-type", frames.ContentType)
	}
	n, err := a.ResponseWriter.Write(piece)
	if err == nil {
		err = a.flush()
	}
	return n, err
}

func (s *server) shutdown(w http.ResponseWriter, r *http.Request) error {
	var request message.Shutdown
	if err := message.Decode(r.Body, smallRequestBytes, &request); err != nil {
		return err
	}
	if request.GraceMs < 0 {
		return message.Errorf(message.KindInvalid, "graceMs must not be negative")
	}
	err := answer(w, empty{})
	if flushErr := http.NewResponseController(w).Flush(); err == nil {
		err = flushErr
	}
	go s.sandbox.Shutdown(time.Duration(request.GraceMs) * time.Millisecond)
	return err
}

func (s *server) list(w http.ResponseWriter, r *http.Request) error {
	return answer(w, s.commands.List())
}

func (s *server) start(w http.ResponseWriter, r *http.Request) error {
	var request message.StartCommand
	if err := message.Decode(r.Body, requestLimitBytes, &request); err != nil {
		return err
	}
	command, err := s.commands.Start(r.PathValue("id"), &request)
	if err != nil {
		return err
	}
	w.Header().Set("content-type", frames.ContentType)
	if pid := command.Pid(); pid != 0 {
		if err := frames.WriteJSON(w, frames.Event, message.Started{Type: "started", Pid: pid}); err != nil {
			return streamedError{err}
		}
	}
	return stream(w, r, command, 0)
}

func (s *server) attach(w http.ResponseWriter, r *http.Request) error {
	var request message.AttachCommand
	if err := message.Decode(r.Body, smallRequestBytes, &request); err != nil {
		return err
	}
	command, err := s.commands.Find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if request.Cursor < 0 {
		return message.Errorf(message.KindInvalid, "the cursor must not be negative")
	}
	if err := command.CheckCursor(request.Cursor); err != nil {
		return err
	}
	w.Header().Set("content-type", frames.ContentType)
	return stream(w, r, command, request.Cursor)
}

func stream(w http.ResponseWriter, r *http.Request, command *exec.Command, cursor int64) error {
	if err := command.Stream(r.Context(), cursor, w, http.NewResponseController(w).Flush); err != nil {
		return streamedError{err}
	}
	return nil
}

func (s *server) stdin(w http.ResponseWriter, r *http.Request) error {
	command, err := s.commands.Find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := command.WriteStdin(r.Context(), r.Body); err != nil {
		return err
	}
	return answer(w, empty{})
}

func (s *server) signal(w http.ResponseWriter, r *http.Request) error {
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
	command, err := s.commands.Find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := command.Signal(number, grace); err != nil {
		return err
	}
	return answer(w, empty{})
}

func (s *server) release(w http.ResponseWriter, r *http.Request) error {
	if err := s.commands.Release(r.PathValue("id")); err != nil {
		return err
	}
	return answer(w, empty{})
}
