// Package message mirrors the schemas in packages/protocol/src/guest/: what engine and agent say to each other.
package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Protocol is the generation of the guest protocol.
const Protocol = 3

// AgentVersion is part of the hello.
const AgentVersion = "0.1.0"

// AgentConfig is what init reads from its stdin.
type AgentConfig struct {
	Protocol    int    `json:"protocol"`
	SandboxID   string `json:"sandboxId"`
	WorkspaceID string `json:"workspaceId"`
	Generation  int    `json:"generation"`
	Token       string `json:"token"`
	Socket      string `json:"socket"`
	Hostname    string `json:"hostname"`
	Cgroup      Cgroup `json:"cgroup"`
	Flush       string `json:"flush"`
	MaxCommands int    `json:"maxCommands"`
}

// Cgroup says how commands get into the cgroup for user commands.
type Cgroup struct {
	Mode        string `json:"mode"`
	TasksFds    []int  `json:"tasksFds,omitempty"`
	DirectoryFd *int   `json:"directoryFd,omitempty"`
}

// Hello answers a resync.
type Hello struct {
	Nonce        string `json:"nonce"`
	Protocol     int    `json:"protocol"`
	AgentVersion string `json:"agentVersion"`
	BootID       string `json:"bootId"`
	Token        string `json:"token"`
	Role         string `json:"role"`
	SandboxID    string `json:"sandboxId"`
	UptimeUs     int64  `json:"uptimeUs"`
}

// AgentStatus answers /v1/status.
type AgentStatus struct {
	BootID    string `json:"bootId"`
	UptimeMs  int64  `json:"uptimeMs"`
	Commands  int    `json:"commands"`
	Processes int    `json:"processes"`
}

// Thawed answers /v1/thaw.
type Thawed struct {
	// Held is false when the disk was written to before the engine allowed it.
	Held bool `json:"held"`
}

// StartCommand is the body of start.
type StartCommand struct {
	Argv      []string `json:"argv"`
	Shell     *string  `json:"shell"`
	Cwd       string   `json:"cwd"`
	User      *string  `json:"user"`
	Env       []string `json:"env"`
	TimeoutMs *int64   `json:"timeoutMs"`
	Stdin     bool     `json:"stdin"`
	HoldMs    int64    `json:"holdMs"`
}

// ReleaseCommands is the body of release.
type ReleaseCommands struct {
	IDs []string `json:"ids"`
}

// StartErrorKind says why a command never ran.
type StartErrorKind string

// The kinds of commandStartError.
const (
	StartNotFound  StartErrorKind = "not-found"
	StartCannotRun StartErrorKind = "cannot-run"
	StartLimitPids StartErrorKind = "limit-pids"
	StartBadCwd    StartErrorKind = "bad-cwd"
	StartBadUser   StartErrorKind = "bad-user"
)

// StartError is why a command never ran.
type StartError struct {
	Kind    StartErrorKind `json:"kind"`
	Message string         `json:"message"`
}

func (e *StartError) Error() string { return e.Message }

// CommandExit is how a command ended.
type CommandExit struct {
	ExitCode      *int        `json:"exitCode"`
	Signal        *string     `json:"signal"`
	TimedOut      bool        `json:"timedOut"`
	StartError    *StartError `json:"startError"`
	DurationMs    int64       `json:"durationMs"`
	StdoutBytes   int64       `json:"stdoutBytes"`
	StderrBytes   int64       `json:"stderrBytes"`
	PidsLimited   bool        `json:"pidsLimited"`
	DiskLimited   bool        `json:"diskLimited"`
	MemoryLimited bool        `json:"memoryLimited"`
}

// Started is the event after a good start.
type Started struct {
	Type string `json:"type"`
	Pid  int    `json:"pid"`
}

// Attached is the event that says where the output begins.
type Attached struct {
	Type   string `json:"type"`
	Cursor int64  `json:"cursor"`
}

// AttachCommand is the body of attach.
type AttachCommand struct {
	Cursor int64 `json:"cursor"`
}

// SignalCommand is the body of signal.
type SignalCommand struct {
	Signal  string `json:"signal"`
	GraceMs *int64 `json:"graceMs"`
}

// CommandListing answers /v1/commands.
type CommandListing struct {
	Commands []CommandEntry `json:"commands"`
}

// CommandEntry is one command of a listing.
type CommandEntry struct {
	ID      string       `json:"id"`
	Running bool         `json:"running"`
	Exit    *CommandExit `json:"exit"`
	Cursor  int64        `json:"cursor"`
}

// ClockReading answers clock: how long the agent runs, by a clock that nobody sets.
type ClockReading struct {
	UptimeUs int64 `json:"uptimeUs"`
}

// SetClock is the body of set-clock: what time it was at a reading, in microseconds since 1970.
type SetClock struct {
	UptimeUs int64 `json:"uptimeUs"`
	UnixUs   int64 `json:"unixUs"`
}

// ClockSet answers set-clock.
type ClockSet struct {
	UptimeUs int64 `json:"uptimeUs"`
	Jumped   bool  `json:"jumped"`
}

// Shutdown is the body of shutdown.
type Shutdown struct {
	GraceMs int64 `json:"graceMs"`
}

// ReadFile is the body of files/read.
type ReadFile struct {
	Root      string `json:"root"`
	Path      string `json:"path"`
	StartLine *int64 `json:"startLine"`
	MaxLines  *int64 `json:"maxLines"`
	Offset    int64  `json:"offset"`
	MaxBytes  int64  `json:"maxBytes"`
}

// ReadFileResult answers files/read.
type ReadFileResult struct {
	SizeBytes  int64  `json:"sizeBytes"`
	Mode       string `json:"mode"`
	DataBase64 []byte `json:"dataBase64"`
	Offset     int64  `json:"offset"`
	StartLine  *int64 `json:"startLine"`
	Lines      *int64 `json:"lines"`
	TotalLines *int64 `json:"totalLines"`
	More       bool   `json:"more"`
}

// WriteFile is the body of files/write.
type WriteFile struct {
	Root          string  `json:"root"`
	Path          string  `json:"path"`
	DataBase64    []byte  `json:"dataBase64"`
	Mode          *string `json:"mode"`
	OldTextBase64 []byte  `json:"oldTextBase64"`
	ReplaceAll    bool    `json:"replaceAll"`
}

// WriteFileResult answers files/write.
type WriteFileResult struct {
	Created   bool   `json:"created"`
	SizeBytes int64  `json:"sizeBytes"`
	Mode      string `json:"mode"`
	Replaced  *int64 `json:"replaced"`
}

// ArchiveLimits bound an archive that goes in.
type ArchiveLimits struct {
	Entries   int64 `json:"entries"`
	Bytes     int64 `json:"bytes"`
	PathBytes int64 `json:"pathBytes"`
}

// ExtractInput is the first frame of files/extract.
type ExtractInput struct {
	Dest   string        `json:"dest"`
	Delete bool          `json:"delete"`
	Limits ArchiveLimits `json:"limits"`
}

// ExtractResult is the last frame of files/extract.
type ExtractResult struct {
	Files   int64 `json:"files"`
	Bytes   int64 `json:"bytes"`
	Deleted int64 `json:"deleted"`
}

// Progress is an event of a long transfer.
type Progress struct {
	Type  string `json:"type"`
	Files int64  `json:"files"`
	Bytes int64  `json:"bytes"`
}

// ErrorKind is the closed list of agentErrorKind.
type ErrorKind string

// The kinds of agentError.
const (
	KindInvalid      ErrorKind = "invalid"
	KindExists       ErrorKind = "exists"
	KindNotFound     ErrorKind = "not-found"
	KindNotAFile     ErrorKind = "not-a-file"
	KindOutsideRoot  ErrorKind = "outside-root"
	KindTextMismatch ErrorKind = "text-mismatch"
	KindLimit        ErrorKind = "limit"
	KindNoSpace      ErrorKind = "no-space"
	KindUnsafeEntry  ErrorKind = "unsafe-entry"
	KindTooLarge     ErrorKind = "too-large"
	KindTruncated    ErrorKind = "truncated"
	KindFailed       ErrorKind = "failed"
)

// messageLimitBytes bounds an error's text, as the schema does.
const messageLimitBytes = 4096

// Error is an agentError.
type Error struct {
	Kind    ErrorKind      `json:"kind"`
	Message string         `json:"message"`
	Data    map[string]any `json:"data,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error without data.
func Errorf(kind ErrorKind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: Clip(fmt.Sprintf(format, args...), messageLimitBytes)}
}

// ErrorBody wraps an Error for HTTP.
type ErrorBody struct {
	Error *Error `json:"error"`
}

// AsError turns any error into one that can be sent.
func AsError(err error) *Error {
	var sent *Error
	if errors.As(err, &sent) {
		return sent
	}
	return Errorf(KindFailed, "%s", err)
}

// Clip shortens text to at most limit bytes of valid UTF-8.
func Clip(text string, limit int) string {
	valid := string(bytes.ToValidUTF8([]byte(text), []byte("\uFFFD")))
	if len(valid) <= limit {
		return valid
	}
	end := limit
	for end > 0 && valid[end]&0xC0 == 0x80 {
		end--
	}
	return valid[:end]
}

// Decode reads one JSON document of at most limit bytes; unknown fields and anything behind it are errors.
func Decode(from io.Reader, limit int64, into any) error {
	limited := &io.LimitedReader{R: from, N: limit + 1}
	decoder := json.NewDecoder(limited)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		_, err = decoder.Token()
		if errors.Is(err, io.EOF) && limited.N > 0 {
			return nil
		}
		if err == nil {
			err = errors.New("more than one document")
		}
	}
	if limited.N <= 0 {
		return Errorf(KindTooLarge, "the message is larger than %d bytes", limit)
	}
	return Errorf(KindInvalid, "the message is not what the protocol says: %s", err)
}
