package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pyro.dev/agent/internal/goldentest"
	"pyro.dev/agent/internal/message"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func TestMain(m *testing.M) { os.Exit(goldentest.WithAgent(m.Run)) }

// machine is an agent that is PID 1 of a pid namespace, with the test as its engine.
type machine struct {
	t       *testing.T
	folder  string
	command *exec.Cmd
	stderr  bytes.Buffer
	ended   chan struct{}
	client  *http.Client
	hello   message.Hello
}

func configFor(folder string) message.AgentConfig {
	return message.AgentConfig{
		Protocol: message.Protocol, SandboxID: "s", WorkspaceID: "w", Generation: 1, Token: "secret-token", Socket: folder + "/engine.sock",
		Hostname: "named-by-the-engine", Cgroup: message.Cgroup{Mode: "none"}, Flush: "none", MaxCommands: 10,
	}
}

// launch starts an agent with a config on its stdin.
func launch(t *testing.T, folder, config string) *machine {
	t.Helper()
	if err := os.WriteFile(folder+"/config", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(folder + "/config")
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	m := &machine{t: t, folder: folder, ended: make(chan struct{})}
	m.command = exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc", goldentest.Agent(), "init")
	m.command.Stdin, m.command.Stderr = stdin, &m.stderr
	if err := m.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = m.command.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		_ = m.command.Process.Kill()
		<-m.ended
	})
	return m
}

func start(t *testing.T) *machine {
	t.Helper()
	// Short: the path of a socket has 108 bytes.
	folder, err := os.MkdirTemp("", "boot")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	listener, err := net.Listen("unix", folder+"/engine.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	config, err := json.Marshal(configFor(folder))
	if err != nil {
		t.Fatal(err)
	}
	m := launch(t, folder, string(config))
	if err := listener.(*net.UnixListener).SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatalf("%v: %s", err, m.stderr.String())
	}
	t.Cleanup(func() { conn.Close() })
	m.resync(conn)
	return m
}

func (m *machine) resync(conn net.Conn) {
	m.t.Helper()
	if _, err := fmt.Fprintf(conn, "PYRO %s\n", strings.Repeat("ab", 16)); err != nil {
		m.t.Fatal(err)
	}
	var line []byte
	for !bytes.HasSuffix(line, []byte("\n")) {
		var one [1]byte
		if _, err := conn.Read(one[:]); err != nil {
			m.t.Fatal(err)
		}
		line = append(line, one[0])
	}
	if err := message.Decode(bytes.NewReader(bytes.TrimPrefix(line, []byte("PYRO "))), 4096, &m.hello); err != nil {
		m.t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	m.client = &http.Client{Transport: &http.Transport{
		Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}
	// A transport whose first calls come at once dials for each of them, and there is one connection.
	m.call("/v1/status", "{}")
}

func (m *machine) call(path, body string) string {
	m.t.Helper()
	answer, err := m.client.Post("http://agent"+path, "application/json", strings.NewReader(body))
	if err != nil {
		m.t.Fatalf("%s: %v: %s", path, err, m.stderr.String())
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// run runs a script as a command and returns its frames.
func (m *machine) run(id, script string) string {
	m.t.Helper()
	return m.call("/v1/commands/"+id+"/start", m.request(script))
}

// begin runs a script as a command whose answer the end of the agent may cut off.
func (m *machine) begin(id, script string) {
	request := m.request(script)
	go func() {
		answer, err := m.client.Post("http://agent/v1/commands/"+id+"/start", "application/json", strings.NewReader(request))
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
	}()
}

func (m *machine) request(script string) string {
	m.t.Helper()
	request, err := json.Marshal(message.StartCommand{Argv: []string{"/bin/sh", "-c", script}, Cwd: "/", Env: []string{"PATH=" + os.Getenv("PATH")}})
	if err != nil {
		m.t.Fatal(err)
	}
	return string(request)
}

func (m *machine) wait() int {
	m.t.Helper()
	select {
	case <-m.ended:
		return m.command.ProcessState.ExitCode()
	case <-time.After(patience):
		m.t.Fatal("the agent does not end")
	}
	return -1
}

func TestPID1BringsUpItsLinkAndName(t *testing.T) {
	m := start(t)
	if m.hello.Token != "secret-token" || m.hello.SandboxID != "s" || m.hello.Role != "serve" || len(m.hello.BootID) != 36 {
		t.Errorf("got %+v", m.hello)
	}
	if other := start(t); other.hello.BootID == m.hello.BootID {
		t.Error("two sandboxes have one boot id")
	}
	var status message.AgentStatus
	if err := json.Unmarshal([]byte(m.call("/v1/status", "{}")), &status); err != nil || status.BootID != m.hello.BootID || status.Processes != 1 {
		t.Errorf("got %+v, %v", status, err)
	}
	if got := m.run("1", "hostname; echo $PPID"); !strings.Contains(got, "named-by-the-engine\n") || !strings.Contains(got, "1\n") {
		t.Errorf("got %q", got)
	}
}

func TestACommandGetsNothingOfPID1(t *testing.T) {
	m := start(t)
	got := m.run("1", `ls /proc/self/fd | tr '\n' ' '; cat /proc/1/environ | wc -c; ls /proc/1/fd 2>&1 | head -1; env`)
	if !strings.Contains(got, "0 1 2 3 ") || strings.Contains(got, "secret-token") {
		t.Errorf("got %q", got)
	}
	if got := m.run("2", "readlink /proc/1/fd/0; grep -c secret-token /proc/1/mem"); strings.Contains(got, "config") {
		t.Errorf("the config is still open: %q", got)
	}
}

func TestPID1SurvivesWhatItsCommandsSend(t *testing.T) {
	m := start(t)
	got := m.run("1", `n=1; while [ $n -le 64 ]; do kill -$n 1 2>/dev/null; n=$((n+1)); done; kill -KILL 1; kill -STOP 1; echo sent`)
	if !strings.Contains(got, "sent\n") {
		t.Errorf("got %q", got)
	}
	if got := m.run("2", "echo alive"); !strings.Contains(got, "alive\n") {
		t.Errorf("got %q", got)
	}
}

func TestOrphansAreCollected(t *testing.T) {
	m := start(t)
	got := m.run("1", `for n in 1 2 3 4 5 6 7 8 9; do (setsid sh -c 'exit 0' &) ; done; sleep 0.5
left() { cat /proc/[0-9]*/stat | grep -c ') Z '; }
n=0; while [ $n -lt 100 ] && [ "$(left)" != 0 ]; do n=$((n+1)); sleep 0.1; done; left`)
	if !strings.Contains(got, "0\n") {
		t.Errorf("there are zombies: %q", got)
	}
}

func TestShutdownEndsEverythingInTimeAndThenPID1(t *testing.T) {
	m := start(t)
	marker := m.folder + "/polite"
	m.begin("1", "trap 'echo x >"+marker+"; exit' TERM; : >"+m.folder+"/one; while :; do sleep 0.01; done")
	m.begin("2", "trap '' TERM; : >"+m.folder+"/two; while :; do sleep 0.01; done")
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var status message.AgentStatus
		if err := json.Unmarshal([]byte(m.call("/v1/status", "{}")), &status); err != nil {
			t.Fatal(err)
		}
		if status.Commands == 2 && status.Processes >= 4 && exists(m.folder+"/one") && exists(m.folder+"/two") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the commands do not run: %+v", status)
		}
	}
	began := time.Now()
	if got := m.call("/v1/shutdown", `{"graceMs":3000}`); got != "{}" {
		t.Errorf("got %q", got)
	}
	if code := m.wait(); code != 0 {
		t.Errorf("the agent ends with %d: %s", code, m.stderr.String())
	}
	if took := time.Since(began); took < 2800*time.Millisecond {
		t.Errorf("the stubborn command had only %s", took)
	}
	if _, err := os.Stat(marker); err != nil {
		t.Error("the polite command was not asked")
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestAConfigThatMakesNoSenseEndsTheAgent(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"another protocol": func(c map[string]any) { c["protocol"] = message.Protocol + 1 },
		"an unknown field": func(c map[string]any) { c["unknown"] = true },
		"no socket":        func(c map[string]any) { c["socket"] = "" },
		"no commands":      func(c map[string]any) { c["maxCommands"] = 0 },
		"a cgroup that is not there": func(c map[string]any) {
			c["cgroup"] = map[string]any{"mode": "v1", "tasksFds": []int{999}}
		},
	} {
		folder := t.TempDir()
		text, err := json.Marshal(configFor(folder))
		if err != nil {
			t.Fatal(err)
		}
		var config map[string]any
		if err := json.Unmarshal(text, &config); err != nil {
			t.Fatal(err)
		}
		change(config)
		if text, err = json.Marshal(config); err != nil {
			t.Fatal(err)
		}
		m := launch(t, folder, string(text))
		if code := m.wait(); code != 1 || m.stderr.Len() == 0 {
			t.Errorf("%s: the agent ends with %d: %s", name, code, m.stderr.String())
		}
	}
	for name, text := range map[string]string{"nothing": "", "text": "config", "too much": strings.Repeat(" ", configLimitBytes+1)} {
		if m := launch(t, t.TempDir(), text); m.wait() != 1 {
			t.Errorf("%s is a config", name)
		}
	}
	if answer := exec.Command(goldentest.Agent(), "init", "argument").Run(); !isExit(answer, 2) {
		t.Errorf("an argument: %v", answer)
	}
}

func isExit(err error, code int) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == code
}

func TestBootIDsLookAsTheKernelsDo(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id, err := newBootID()
		if err != nil || len(id) != 36 || id[14] != '4' || seen[id] {
			t.Fatalf("got %q, %v", id, err)
		}
		seen[id] = true
	}
}
