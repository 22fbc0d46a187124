package vmm

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/goldentest"
)

const (
	owner    = 0x40010000
	patience = 10 * time.Second
)

func TestMain(m *testing.M) { os.Exit(goldentest.WithAgent(m.Run)) }

func TestMessagesAreThoseOfTheProtocol(t *testing.T) { goldentest.Decodes[spec](t, "vmm-spec") }

func bundleOf(t *testing.T, s spec) string {
	t.Helper()
	folder := t.TempDir()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, specFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// busy is a program without libraries that is on every host that runs these tests.
func busy(t *testing.T) mount {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	return mount{Source: path, Target: "/bin/busybox", Access: "read"}
}

func shell(t *testing.T, script string, more ...mount) spec {
	return spec{
		Argv: []string{"/bin/busybox", "sh", "-c", script}, ID: owner, Groups: []int{}, Files: []file{},
		Mounts: append([]mount{busy(t), {Source: "/dev/null", Target: "/dev/null", Access: "device"}}, more...),
	}
}

func held(t *testing.T, s spec) (string, error) {
	t.Helper()
	var said bytes.Buffer
	command := exec.Command(goldentest.Agent(), "vmm", "hold", bundleOf(t, s))
	command.Stdout, command.Stderr = &said, &said
	err := command.Run()
	return said.String(), err
}

func TestAProgramHasNothingOfTheHostButWhatItIsShown(t *testing.T) {
	said, err := held(t, shell(t, `/bin/busybox id -u; /bin/busybox id -G; echo $$; cd /; echo *; echo /dev/*; echo x > /new || echo refused; echo gone > /dev/null && echo written; /bin/busybox ip link 2>/dev/null || echo no devices; /bin/busybox cat /proc/version || echo no proc`))
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, want := range []string{"1073807360\n1073807360\n1\n", "bin dev\n", "/dev/null\n", "refused\n", "written\n", "no proc\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
}

func TestAProgramGetsItsFilesOpenAndNoOthers(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"in": "from a file\n", "out": ""} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := shell(t, "/bin/busybox cat <&4; echo into a file >&5; (echo x >&4) 2>/dev/null || echo read only; for n in 3 7 8 9; do (: <&$n) 2>/dev/null && echo open $n; done; :")
	s.Files = []file{{Path: filepath.Join(folder, "in"), Access: "read"}, {Path: filepath.Join(folder, "out"), Access: "write"}}
	s.Listen = filepath.Join(folder, "socket")
	said, err := held(t, s)
	if err != nil || said != "from a file\nread only\n" {
		t.Errorf("got %q, %v", said, err)
	}
	if text, err := os.ReadFile(filepath.Join(folder, "out")); err != nil || string(text) != "into a file\n" {
		t.Errorf("got %q, %v", text, err)
	}
	if status, err := os.Lstat(s.Listen); err != nil || status.Mode().Type() != os.ModeSocket || status.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", status, err)
	}
}

func TestAProgramMayUseWhatItIsShownAsItsOwn(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"read", "write", "host"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shown := func(name, access string) mount {
		return mount{Source: filepath.Join(folder, name), Target: "/" + name, Access: access}
	}
	s := shell(t, `/bin/busybox id -G; /bin/busybox cat /read /host 2>/dev/null; echo more >>/write; (echo x >>/read) 2>/dev/null || echo read only; for n in 3 4 5; do (: <&$n) 2>/dev/null && echo open $n; done; :`,
		shown("read", "own-read"), shown("write", "own-write"), shown("host", "write"))
	s.Groups = []int{owner + 7}
	said, err := held(t, s)
	if err != nil || said != "1073807360 1073807367\nread\nread only\n" {
		t.Errorf("got %q, %v", said, err)
	}
	path := filepath.Join(folder, "write")
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "write\nmore\n" {
		t.Errorf("got %q, %v", text, err)
	}
	var status unix.Stat_t
	if err := unix.Stat(path, &status); err != nil || status.Uid != 0 || status.Gid != 0 {
		t.Errorf("on the host it belongs to %d:%d, %v", status.Uid, status.Gid, err)
	}
}

func TestAProgramThatCannotBeStartedIsToldFromOneThatFails(t *testing.T) {
	missing := shell(t, "")
	missing.Argv = []string{"/bin/none"}
	gone := shell(t, "", mount{Source: "/nonexistent", Target: "/x", Access: "read"})
	unknown := shell(t, "", mount{Source: "/dev/null", Target: "/x", Access: "all"})
	for want, s := range map[string]spec{"exec /bin/none": missing, "open_tree /nonexistent": gone, `no access to /dev/null: "all"`: unknown} {
		if said, err := held(t, s); err == nil || !strings.Contains(said, want) {
			t.Errorf("got %q, %v", said, err)
		}
	}
	said, err := held(t, shell(t, "exit 7"))
	if exit, isExit := err.(*exec.ExitError); !isExit || exit.ExitCode() != 7 || said != "" {
		t.Errorf("got %q, %v", said, err)
	}
}

func TestAHeldProgramEndsWithItsHolder(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	command := exec.Command(goldentest.Agent(), "vmm", "hold", bundleOf(t, shell(t, "echo on; /bin/busybox sleep 1000")))
	command.Stdout = in
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	buffer := make([]byte, 16)
	if n, err := out.Read(buffer); err != nil || string(buffer[:n]) != "on\n" {
		t.Fatalf("got %q, %v", buffer[:n], err)
	}
	if err := command.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	// The program had the other end.
	if err := out.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(buffer); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("it lives: %q, %v", buffer[:n], err)
	}
}
