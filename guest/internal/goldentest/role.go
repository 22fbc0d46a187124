package goldentest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/message"
)

// roleLimit is how long a one-shot of a test may take.
const roleLimit = 60 * time.Second

var agent string

// WithAgent builds the agent for the tests of a package, runs them and returns their exit code: a role needs the whole
// program, without cgo.
func WithAgent(run func() int) int {
	folder, err := os.MkdirTemp("", "pyro-agent-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	agent = folder + "/pyro-agent"
	build := exec.Command("go", "build", "-o", agent, "pyro.dev/agent/cmd/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	return run()
}

// Agent is the program that WithAgent built.
func Agent() string { return agent }

// Answer is what a one-shot role said.
type Answer struct {
	Code     int
	Progress int
	Data     []byte
	Result   json.RawMessage
	Error    *message.Error
	Stderr   string
}

// RunRole runs the agent in a role and reads its frames, of which exactly one is a result or an error and the last.
func RunRole(t *testing.T, stdin io.Reader, role string, args ...string) Answer {
	t.Helper()
	command := exec.Command(agent, append([]string{role}, args...)...)
	command.Stdin = stdin
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(roleLimit, func() { _ = command.Process.Kill() })
	err := command.Wait()
	if !late.Stop() {
		t.Fatalf("%s takes longer than %s", role, roleLimit)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	answer := Answer{Code: command.ProcessState.ExitCode(), Stderr: stderr.String()}
	answer.read(t, &stdout)
	return answer
}

func (a *Answer) read(t *testing.T, stdout io.Reader) {
	t.Helper()
	reader := frames.NewReader(stdout)
	for {
		kind, payload, err := reader.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if a.Result != nil || a.Error != nil {
			t.Fatalf("a frame of type %d follows the last one", kind)
		}
		switch kind {
		case frames.Event:
			a.Progress++
		case frames.Data:
			a.Data = append(a.Data, payload...)
		case frames.Result:
			a.Result = bytes.Clone(payload)
		case frames.Error:
			a.Error = &message.Error{}
			if err := json.Unmarshal(payload, a.Error); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("an unexpected frame of type %d", kind)
		}
	}
}

// MustResult decodes the result of an answer that has to have one.
func MustResult[T any](t *testing.T, answer Answer) T {
	t.Helper()
	var result T
	if answer.Code != 0 || answer.Result == nil || answer.Error != nil {
		t.Fatalf("code %d, error %+v, stderr %s", answer.Code, answer.Error, answer.Stderr)
	}
	if err := message.Decode(bytes.NewReader(answer.Result), limitBytes, &result); err != nil {
		t.Fatal(err)
	}
	return result
}

// WantError checks how an answer that has to be an error failed.
func WantError(t *testing.T, answer Answer, kind message.ErrorKind) *message.Error {
	t.Helper()
	if answer.Code != 1 || answer.Error == nil || answer.Result != nil {
		t.Fatalf("code %d, result %s, stderr %s", answer.Code, answer.Result, answer.Stderr)
	}
	if answer.Error.Kind != kind {
		t.Fatalf("got kind %s (%s), want %s", answer.Error.Kind, answer.Error.Message, kind)
	}
	return answer.Error
}
