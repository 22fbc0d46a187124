package channel

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"time"

	"pyro.dev/agent/internal/http2"
	"pyro.dev/agent/internal/message"
)

// serve answers one request for a sandbox without a link.
func serveFor(t *testing.T, sandbox *fakeSandbox, path, body string) *recorded {
	t.Helper()
	commands, err := registry()
	if err != nil {
		t.Fatal(err)
	}
	return serveWith(t, Routes(commands, sandbox, log.New(io.Discard, "", 0)), path, strings.NewReader(body))
}

func TestEveryKindOfErrorHasAStatus(t *testing.T) {
	for kind, status := range map[message.ErrorKind]int{
		message.KindInvalid: 400, message.KindUnsafeEntry: 400, message.KindTruncated: 400, message.KindOutsideRoot: 400,
		message.KindNotFound: 404, message.KindExists: 409, message.KindNotAFile: 409, message.KindTextMismatch: 409,
		message.KindTooLarge: 413, message.KindLimit: 429, message.KindNoSpace: 507, message.KindFailed: 500,
	} {
		sandbox := &fakeSandbox{problem: message.Errorf(kind, "why")}
		for _, path := range []string{"/v1/status", "/v1/flush"} {
			if problem := wantError(t, serveFor(t, sandbox, path, "{}"), status, kind); problem.Message != "why" {
				t.Errorf("%s: got %q", path, problem.Message)
			}
		}
	}
	wantError(t, serveFor(t, &fakeSandbox{problem: errors.New("some errno")}, "/v1/status", "{}"), 500, message.KindFailed)
}

func TestRequestsThatAreNotUnderstoodAreRefused(t *testing.T) {
	sandbox := &fakeSandbox{shutdown: make(chan time.Duration, 1)}
	for path, bodies := range map[string][]string{
		"/v1/shutdown":           {"", "{", `{"graceMs":-1}`, `{"graceMs":1,"x":1}`, `{"graceMs":"1"}`},
		"/v1/commands/new/start": {"", "[]", `{"argv":["true"],"cwd":"/","unknown":1}`, `{"cwd":"/"}`, `{"argv":["true"],"shell":"true"}`},
		"/v1/commands/x/attach":  {"", `{"cursor":"0"}`, `{"cursor":1.5}`, `{"cursor":0,"x":0}`},
		"/v1/commands/x/signal":  {"", `{"signal":"NONE"}`, `{"signal":"TERM","graceMs":-1}`, `{"signal":""}`, `{"signal":"65"}`, `{"signal":"0"}`},
		"/v1/commands/a=b/start": {`{"argv":["true"],"cwd":"/"}`},
	} {
		for _, body := range bodies {
			wantError(t, serveFor(t, sandbox, path, body), 400, message.KindInvalid)
		}
	}
	wantError(t, serveFor(t, sandbox, "/v1/commands/new/start", `{"cwd":"`+strings.Repeat("x", requestLimitBytes)), 413, message.KindTooLarge)
	if len(sandbox.shutdown) > 0 {
		t.Error("the sandbox was shut down")
	}
}

func TestWhatDoesNotExistIsNotFound(t *testing.T) {
	for path, body := range map[string]string{
		"/v1/commands/none/attach": `{"cursor":0}`, "/v1/commands/none/signal": `{"signal":"TERM","graceMs":null}`,
		"/v1/commands/none/stdin": "text",
	} {
		wantError(t, serveFor(t, &fakeSandbox{}, path, body), 404, message.KindNotFound)
	}
	for _, path := range []string{"/v1/unknown", "/v1", "", "/v1/commands/x", "/v1/commands/x/y", "/v1/commands//start/", "/v2/status"} {
		wantError(t, serveFor(t, &fakeSandbox{}, path, "{}"), 404, message.KindNotFound)
	}
	answer := &recorded{}
	Routes(nil, nil, log.New(io.Discard, "", 0))(answer, &http2.Request{Method: "GET", Path: "/v1/status", Body: strings.NewReader(""), Context: t.Context()})
	wantError(t, answer, 404, message.KindNotFound)
}

func TestShutdownIsAnsweredBeforeItHappens(t *testing.T) {
	sandbox := &fakeSandbox{shutdown: make(chan time.Duration, 1)}
	if answer := serveFor(t, sandbox, "/v1/shutdown", `{"graceMs":1500}`); answer.Code != http.StatusOK || answer.Body.String() != "{}" {
		t.Errorf("got %d %s", answer.Code, &answer.Body)
	}
	select {
	case grace := <-sandbox.shutdown:
		if grace != 1500*time.Millisecond {
			t.Errorf("the grace is %s", grace)
		}
	case <-time.After(patience):
		t.Error("nothing is shut down")
	}
}

func TestTheClockIsSetToWhatTimeItIsByNow(t *testing.T) {
	sandbox := &fakeSandbox{}
	if answer := serveFor(t, sandbox, "/v1/clock", "{}"); answer.Body.String() != `{"uptimeUs":5000000}` {
		t.Errorf("got %d %s", answer.Code, &answer.Body)
	}
	for body, code := range map[string]int{
		`{"uptimeUs":2000000,"unixUs":1764115200123456}`: http.StatusOK,
		`{"uptimeUs":2000000,"unixUs":-1}`:               http.StatusBadRequest,
		`{"uptimeUs":-1,"unixUs":1764115200123456}`:      http.StatusBadRequest,
		`{}`: http.StatusBadRequest,
	} {
		if answer := serveFor(t, sandbox, "/v1/set-clock", body); answer.Code != code {
			t.Errorf("%s: got %d %s", body, answer.Code, &answer.Body)
		}
	}
	if sandbox.clock.UnixMicro() != 1764115203123456 {
		t.Errorf("the clock is %s", sandbox.clock)
	}
}

func TestFlushFlushes(t *testing.T) {
	sandbox := &fakeSandbox{}
	if answer := serveFor(t, sandbox, "/v1/flush", "{}"); answer.Code != http.StatusOK || answer.Body.String() != "{}" || sandbox.flushed != 1 {
		t.Errorf("got %d %s, flushed %d times", answer.Code, &answer.Body, sandbox.flushed)
	}
}

func TestACommandIsStartedSignalledListedAndReleased(t *testing.T) {
	sandbox := &fakeSandbox{}
	answered := make(chan *recorded, 1)
	go func() {
		answered <- serveFor(t, sandbox, "/v1/commands/route/start", `{"argv":["sleep","1000"],"shell":null,"cwd":"/","user":null,"env":[],"timeoutMs":null,"stdin":false}`)
	}()
	listed := func() *message.CommandEntry {
		var listing message.CommandListing
		if err := json.Unmarshal(serveFor(t, sandbox, "/v1/commands", "{}").Body.Bytes(), &listing); err != nil {
			t.Fatal(err)
		}
		for _, entry := range listing.Commands {
			if entry.ID == "route" {
				return &entry
			}
		}
		return nil
	}
	for deadline := time.Now().Add(patience); listed() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the command is never listed")
		}
	}
	wantError(t, serveFor(t, sandbox, "/v1/commands/route/attach", `{"cursor":-1}`), 400, message.KindInvalid)
	wantError(t, serveFor(t, sandbox, "/v1/commands/route/attach", `{"cursor":99}`), 400, message.KindInvalid)
	wantError(t, serveFor(t, sandbox, "/v1/release", `{"ids":["route","none"]}`), 400, message.KindInvalid)
	if answer := serveFor(t, sandbox, "/v1/commands/route/signal", `{"signal":"SIGINT","graceMs":null}`); answer.Code != http.StatusOK {
		t.Fatalf("got %d %s", answer.Code, &answer.Body)
	}
	select {
	case answer := <-answered:
		if !strings.Contains(answer.Body.String(), `"signal":"INT"`) {
			t.Errorf("got %q", answer.Body)
		}
	case <-time.After(patience):
		t.Fatal("the command does not end")
	}
	if entry := listed(); entry.Running || entry.Exit == nil || *entry.Exit.Signal != "INT" {
		t.Errorf("got %+v", entry)
	}
	if answer := serveFor(t, sandbox, "/v1/release", `{"ids":["none","route","route"]}`); answer.Code != http.StatusOK || listed() != nil {
		t.Errorf("got %d %s", answer.Code, &answer.Body)
	}
}
