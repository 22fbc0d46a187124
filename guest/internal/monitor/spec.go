package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"pyro.dev/agent/internal/message"
)

// specLimitBytes bounds FILE.
const specLimitBytes = 1 << 20

// logLeastBytes is the least that a log may be bound to.
const logLeastBytes = 4096

// spec mirrors monitorSpec in packages/protocol/src/guest/monitor.ts.
type spec struct {
	Runtime         []string   `json:"runtime"`
	ID              string     `json:"id"`
	Bundle          string     `json:"bundle"`
	RunThrough      []string   `json:"runThrough"`
	StdinFile       string     `json:"stdinFile"`
	LogFile         string     `json:"logFile"`
	LogLimitBytes   *int64     `json:"logLimitBytes"`
	RuntimeLogFile  *string    `json:"runtimeLogFile"`
	PassFiles       []passFile `json:"passFiles"`
	EnterTasks      []string   `json:"enterTasks"`
	EnterDirectory  *string    `json:"enterDirectory"`
	CounterFiles    []string   `json:"counterFiles"`
	StartTimeoutMs  int64      `json:"startTimeoutMs"`
	DeleteTimeoutMs int64      `json:"deleteTimeoutMs"`
}

type passFile struct {
	Path string `json:"path"`
	Open string `json:"open"`
}

// running, failed and ended mirror monitorStatus and monitorExit.
type running struct {
	State            string `json:"state"`
	Pid              int    `json:"pid"`
	StartTime        string `json:"startTime"`
	MonitorPid       int    `json:"monitorPid"`
	MonitorStartTime string `json:"monitorStartTime"`
	At               string `json:"at"`
}

type failed struct {
	State   string `json:"state"`
	Stage   string `json:"stage"`
	Message string `json:"message"`
	Cleaned bool   `json:"cleaned"`
	At      string `json:"at"`
}

type ended struct {
	ExitCode *int               `json:"exitCode"`
	Signal   *string            `json:"signal"`
	Counters map[string]*string `json:"counters"`
	At       string             `json:"at"`
}

func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") }

func readSpec(path string) (*spec, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var s spec
	if err := message.Decode(file, specLimitBytes, &s); err != nil {
		return nil, err
	}
	return &s, s.validate()
}

func (s *spec) validate() error {
	switch {
	case len(s.Runtime) == 0 || s.Runtime[0] == "":
		return errors.New("runtime is empty")
	case s.ID == "" || s.Bundle == "" || s.StdinFile == "" || s.LogFile == "":
		return errors.New("id, bundle, stdinFile and logFile are wanted")
	case s.LogLimitBytes != nil && *s.LogLimitBytes < logLeastBytes:
		return fmt.Errorf("a log keeps at least %d bytes", logLeastBytes)
	case s.StartTimeoutMs <= 0 || s.DeleteTimeoutMs <= 0:
		return errors.New("every call of the runtime needs a deadline")
	}
	for _, file := range s.PassFiles {
		if file.Open != "write" && file.Open != "directory" {
			return fmt.Errorf("cannot open %s for %q", file.Path, file.Open)
		}
	}
	return nil
}

// publish writes a document beside the spec in one step.
func publish(folder, name string, document any) error {
	text, err := json.Marshal(document)
	if err != nil {
		return err
	}
	temporary := filepath.Join(folder, "."+name)
	if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(folder, name))
}

// tail is the end of a file, for messages.
func tail(path string, limit int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	status, err := file.Stat()
	if err != nil {
		return ""
	}
	from := max(0, status.Size()-limit)
	text := make([]byte, status.Size()-from)
	n, err := file.ReadAt(text, from)
	if n == 0 && err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text[:n]))
}
