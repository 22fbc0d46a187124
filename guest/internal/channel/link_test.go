package channel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pyro.dev/agent/internal/exec"
	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/reap"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

var registry = sync.OnceValues(func() (*exec.Registry, error) {
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	return exec.NewRegistry(reap.Start(child), message.Cgroup{Mode: "none"}, 100, nil)
})

// fakeSandbox is PID 1 without a sandbox.
type fakeSandbox struct {
	flushed  int
	clock    time.Time
	frozen   bool
	problem  error
	shutdown chan time.Duration
}

func (s *fakeSandbox) Status() (message.AgentStatus, error) {
	return message.AgentStatus{BootID: "boot", UptimeMs: 1, Commands: 2, Processes: 3}, s.problem
}
func (s *fakeSandbox) Flush() error          { s.flushed++; return s.problem }
func (s *fakeSandbox) Uptime() time.Duration { return 5 * time.Second }
func (s *fakeSandbox) SetClock(now time.Time) (bool, error) {
	s.clock = now
	return true, s.problem
}
func (s *fakeSandbox) Freeze() error { s.frozen = true; return s.problem }
func (s *fakeSandbox) Thaw() (bool, error) {
	held := s.frozen
	s.frozen = false
	return held, s.problem
}

// Role answers with what it reads.
func (s *fakeSandbox) Role(_ context.Context, name string, stdin io.Reader, stdout io.Writer) error {
	if name != "echo" {
		return message.Errorf(message.KindInvalid, "there is no role %s here", name)
	}
	if _, err := io.Copy(stdout, stdin); err != nil {
		return err
	}
	return s.problem
}
func (s *fakeSandbox) Shutdown(grace time.Duration) { s.shutdown <- grace }

// engine is the other end of a link.
type engine struct {
	t        *testing.T
	socket   string
	listener net.Listener
	sandbox  *fakeSandbox
	commands *exec.Registry
}

// startLink starts an agent's link that is never ended: like the agent's it redials for ever.
func startLink(t *testing.T) *engine {
	t.Helper()
	commands, err := registry()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "link")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, socket: folder + "/engine.sock", sandbox: &fakeSandbox{shutdown: make(chan time.Duration, 1)}, commands: commands}
	e.listen()
	t.Cleanup(func() {
		e.listener.Close()
		os.RemoveAll(folder)
	})
	logger := log.New(io.Discard, "", 0)
	link := &Link{
		Dial: DialSocket(e.socket), Log: logger, Handler: Routes(commands, e.sandbox, logger), Uptime: e.sandbox.Uptime,
		Hello: message.Hello{
			Protocol: message.Protocol, AgentVersion: message.AgentVersion, BootID: "boot", Token: "token", Role: "serve", SandboxID: "s",
		},
	}
	go link.Run()
	return e
}

func (e *engine) listen() {
	e.t.Helper()
	var err error
	if e.listener, err = net.Listen("unix", e.socket); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) accept() net.Conn {
	e.t.Helper()
	if err := e.listener.(*net.UnixListener).SetDeadline(time.Now().Add(patience)); err != nil {
		e.t.Fatal(err)
	}
	conn, err := e.listener.Accept()
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { conn.Close() })
	return conn
}

const nonce = "0123456789abcdef0123456789abcdef"

// session resyncs a link that dialled and gives a client of it.
func (e *engine) session(nonce string) (*http.Client, net.Conn, message.Hello) {
	e.t.Helper()
	conn := e.accept()
	if _, err := fmt.Fprintf(conn, "PYRO %s\n", nonce); err != nil {
		e.t.Fatal(err)
	}
	line := readLine(e.t, conn)
	var hello message.Hello
	if err := message.Decode(strings.NewReader(strings.TrimPrefix(line, "PYRO ")), 4096, &hello); err != nil || !strings.HasPrefix(line, "PYRO {") {
		e.t.Fatalf("got %q: %v", line, err)
	}
	return clientOn(conn), conn, hello
}

// clientOn begins a session.
func clientOn(conn net.Conn) *http.Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	taken := false
	transport := &http.Transport{
		Protocols: &protocols,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 4096},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if taken {
				return nil, errors.New("the link is gone")
			}
			taken = true
			return conn, nil
		},
	}
	return &http.Client{Transport: transport}
}

// readLine reads no byte more: what follows belongs to HTTP/2.
func readLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for !bytes.HasSuffix(line, []byte("\n")) {
		var one [1]byte
		if _, err := conn.Read(one[:]); err != nil {
			t.Fatalf("after %q: %v", line, err)
		}
		line = append(line, one[0])
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return string(line)
}

func call(t *testing.T, client *http.Client, path string, body any) (int, []byte) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Post("http://agent"+path, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, content
}

func TestAResyncIsAnsweredWithItsNonceAndThenHTTP2IsServed(t *testing.T) {
	e := startLink(t)
	client, _, hello := e.session(nonce)
	want := message.Hello{
		Nonce: nonce, Protocol: message.Protocol, AgentVersion: message.AgentVersion, BootID: "boot", Token: "token", Role: "serve", SandboxID: "s",
		UptimeUs: 5_000_000,
	}
	if hello != want {
		t.Errorf("got %+v", hello)
	}
	status, body := call(t, client, "/v1/status", struct{}{})
	if status != http.StatusOK || string(body) != `{"bootId":"boot","uptimeMs":1,"commands":2,"processes":3}` {
		t.Errorf("got %d %s", status, body)
	}
}

func TestEachResyncIsAnsweredUntilTheSessionBegins(t *testing.T) {
	e := startLink(t)
	conn := e.accept()
	for _, nonce := range []string{nonce, strings.Repeat("a", 32), strings.Repeat("f", 32)} {
		if _, err := fmt.Fprintf(conn, "PYRO %s\n", nonce); err != nil {
			t.Fatal(err)
		}
		if line := readLine(t, conn); !strings.Contains(line, `"nonce":"`+nonce+`"`) {
			t.Errorf("got %q", line)
		}
	}
	if status, _ := call(t, clientOn(conn), "/v1/status", struct{}{}); status != http.StatusOK {
		t.Errorf("got %d", status)
	}
}

func TestNothingIsSaidBeforeTheResync(t *testing.T) {
	conn := startLink(t).accept()
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

func TestAFirstLineThatIsNoResyncDropsTheLinkAndIsFollowedByARedial(t *testing.T) {
	e := startLink(t)
	for _, line := range []string{
		"PYRO " + strings.ToUpper(nonce) + "\n", "pyro " + nonce + "\n", "PYRO " + nonce + " ", "PYRO  " + nonce[1:] + "\n",
		strings.Repeat("\n", ResyncBytes), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("x", ResyncBytes),
	} {
		conn := e.accept()
		if _, err := io.WriteString(conn, line); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: got %d bytes, %v", line, n, err)
		}
	}
	for _, cut := range []int{0, 1, 5, ResyncBytes / 2, ResyncBytes - 1} {
		conn := e.accept()
		if _, err := io.WriteString(conn, ("PYRO " + nonce)[:cut]); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	client, _, _ := e.session(nonce)
	if status, _ := call(t, client, "/v1/status", struct{}{}); status != http.StatusOK {
		t.Errorf("got %d", status)
	}
}

func TestALinkThatBreaksIsDialledAgainWithoutLosingACommand(t *testing.T) {
	e := startLink(t)
	client, conn, _ := e.session(nonce)
	request := message.StartCommand{
		Argv: []string{"/bin/sh", "-c", "echo one; read line; echo $line; exit 3"}, Cwd: "/", Env: []string{}, Stdin: true,
	}
	text, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Post("http://agent/v1/commands/survivor/start", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	reader := frames.NewReader(answer.Body)
	kind, payload, err := reader.Next()
	if err != nil || kind != frames.Event || !strings.HasPrefix(string(payload), `{"type":"started","pid":`) {
		t.Fatalf("got %d %s %v", kind, payload, err)
	}
	if kind, payload, err = reader.Next(); err != nil || string(payload) != `{"type":"attached","cursor":0}` {
		t.Fatalf("got %d %s %v", kind, payload, err)
	}
	if kind, payload, err = reader.Next(); err != nil || kind != frames.Stdout || string(payload) != "one\n" {
		t.Fatalf("got %d %s %v", kind, payload, err)
	}
	conn.Close()
	// The engine was replaced: its socket is made again at the same place.
	e.listener.Close()
	time.Sleep(300 * time.Millisecond)
	e.listen()

	client, _, hello := e.session(strings.Repeat("f", 32))
	if hello.Nonce != strings.Repeat("f", 32) {
		t.Errorf("got the nonce %s", hello.Nonce)
	}
	answer, err = client.Post("http://agent/v1/commands/survivor/stdin", "", strings.NewReader("two\n"))
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("got %v %v", answer, err)
	}
	answer.Body.Close()
	status, body := call(t, client, "/v1/commands/survivor/attach", message.AttachCommand{Cursor: 4})
	if status != http.StatusOK || !bytes.Contains(body, []byte("\x01\x00\x00\x00\x04two\n")) || !bytes.Contains(body, []byte(`{"exitCode":3,`)) {
		t.Errorf("got %d %q", status, body)
	}
	if status, body = call(t, client, "/v1/commands/survivor/start", request); status != http.StatusConflict {
		t.Errorf("a second start: %d %s", status, body)
	}
	if status, body = call(t, client, "/v1/release", message.ReleaseCommands{IDs: []string{"survivor"}}); status != http.StatusOK || string(body) != "{}" {
		t.Errorf("release: %d %s", status, body)
	}
	if status, _ = call(t, client, "/v1/commands/survivor/attach", message.AttachCommand{}); status != http.StatusNotFound {
		t.Errorf("attach after release: %d", status)
	}
}

func TestThousandsOfRequestsDoNotKeepOthersWaiting(t *testing.T) {
	e := startLink(t)
	client, _, _ := e.session(nonce)
	request := message.StartCommand{Argv: []string{"sleep", "1000"}, Cwd: "/", Env: []string{}}
	command, err := e.commands.Start("crowd", &request)
	if err != nil {
		t.Fatal(err)
	}
	defer command.Kill()
	// The client learns by this how many requests it may make at a time.
	call(t, client, "/v1/status", struct{}{})
	const readers = 2000
	cx, cancel := context.WithCancel(context.Background())
	defer cancel()
	attached := make(chan error, readers)
	for range readers {
		go func() {
			ask, err := http.NewRequestWithContext(cx, http.MethodPost, "http://agent/v1/commands/crowd/attach", strings.NewReader(`{"cursor":0}`))
			if err == nil {
				var answer *http.Response
				if answer, err = client.Do(ask); err == nil {
					defer answer.Body.Close()
					_, _, err = frames.NewReader(bufio.NewReader(answer.Body)).Next()
				}
			}
			attached <- err
			<-cx.Done()
		}()
	}
	for range readers {
		select {
		case err := <-attached:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("some are never attached")
		}
	}
	if status, _ := call(t, client, "/v1/status", struct{}{}); status != http.StatusOK {
		t.Errorf("got %d", status)
	}
}
