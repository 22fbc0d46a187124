package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pyro.dev/agent/internal/goldentest"
	"pyro.dev/agent/internal/proc"
)

const (
	diskBase = 1 << 30
	base     = diskBase + 1<<20
	count    = 65536
)

func TestMain(m *testing.M) { os.Exit(goldentest.WithAgent(m.Run)) }

// place is a volume and what the launch needs beside it.
func place(t *testing.T) spec {
	t.Helper()
	folder := t.TempDir()
	s := spec{
		Volume: folder + "/volume", Root: folder + "/root", Agent: goldentest.Agent(), AgentFile: folder + "/agent",
		UserNamespace: folder + "/user", DiskBase: diskBase, Base: base, Count: count,
	}
	for _, err := range []error{
		os.Mkdir(s.Volume, 0o755), os.Mkdir(s.Root, 0o755), os.WriteFile(s.AgentFile, nil, 0o755),
		os.WriteFile(s.Volume+"/f", nil, 0o644), os.Chown(s.Volume+"/f", diskBase+5, diskBase+6),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func run(t *testing.T, s spec, script string) (string, error) {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(goldentest.Agent(), "launch", string(text), "/bin/sh", "-c", script)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err = command.Run()
	return out.String(), err
}

func TestMessagesAreThoseOfTheProtocol(t *testing.T) { goldentest.Decodes[spec](t, "launch-spec") }

func TestTheRuntimeSeesTheDiskWithTheIDsOfItsSandbox(t *testing.T) {
	s := place(t)
	out, err := run(t, s, fmt.Sprintf(`
stat -c %%u:%%g %[1]s/f
chown %[2]d:%[2]d %[1]s/f
test -s %[3]s && echo agent
cat "$(dirname "$(dirname "$(readlink %[4]s)")")/uid_map"
readlink %[4]s; echo $$`, s.Root, base+7, s.AgentFile, s.UserNamespace))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(out, "\n")
	if lines[0] != fmt.Sprintf("%d:%d", base+5, base+6) || lines[1] != "agent" || strings.Join(strings.Fields(lines[2]), " ") != fmt.Sprintf("0 %d %d", base, count) {
		t.Errorf("got %q", lines)
	}
	// On the disk are the ids that all sandboxes share.
	var stat bytes.Buffer
	owner := exec.Command("stat", "-c", "%u:%g", s.Volume+"/f")
	owner.Stdout = &stat
	if err := owner.Run(); err != nil || stat.String() != fmt.Sprintf("%d:%d\n", diskBase+7, diskBase+7) {
		t.Errorf("the file belongs to %q, %v", stat.String(), err)
	}
	// Nothing of it is left on the host.
	if entries, err := os.ReadDir(s.Root); err != nil || len(entries) > 0 {
		t.Errorf("the mount reached the host: %v %v", entries, err)
	}
	var holder int
	if _, err := fmt.Sscanf(lines[3], "/proc/%d/ns/user", &holder); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if status, err := proc.ReadStat(holder); err != nil || status.Dead() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the process that held the namespace outlives the runtime")
		}
	}
}

func TestALaunchThatCannotBeSaysWhy(t *testing.T) {
	for name, change := range map[string]func(*spec){
		"no volume":           func(s *spec) { s.Volume += "/gone" },
		"no folder":           func(s *spec) { s.Root += "/gone" },
		"no agent":            func(s *spec) { s.Agent += "-gone" },
		"a namespace in use":  func(s *spec) { s.UserNamespace = s.AgentFile },
		"a mapping of no ids": func(s *spec) { s.Count = 0 },
	} {
		s := place(t)
		change(&s)
		out, err := run(t, s, "echo started")
		if err == nil || strings.Contains(out, "started") || !strings.HasPrefix(out, "launch: ") {
			t.Errorf("%s: %v, %q", name, err, out)
		}
	}
	s := place(t)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {string(text)}, {string(text), "relative"}, {"{", "/bin/true"}, {`{"unknown":1}`, "/bin/true"}, {string(text), "/no/such/runtime"}} {
		if err := exec.Command(goldentest.Agent(), append([]string{"launch"}, args...)...).Run(); err == nil {
			t.Errorf("%q is launched", args)
		}
	}
}

func TestACheckTellsWhetherIDsCanBeMapped(t *testing.T) {
	if out, err := exec.Command(goldentest.Agent(), "launch", checkArgument, t.TempDir()).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.Command(goldentest.Agent(), "launch", checkArgument, "/proc").CombinedOutput(); err == nil {
		t.Errorf("ids of /proc can be mapped: %s", out)
	}
}
