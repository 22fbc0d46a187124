package image

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/goldentest"
	"pyro.dev/agent/internal/identity"
	"pyro.dev/agent/internal/isolate"
)

const label = "ws-abcdefghijkl"

var box = identity.Identity{Hostname: "box", MachineID: strings.Repeat("0a", 16)}

func TestAnImprintIsThatOfTheProtocol(t *testing.T) { goldentest.Decodes[imprint](t, "imprint-input") }

func stamp(t *testing.T, file string, change func(*imprint)) int {
	t.Helper()
	in := imprint{File: file, Label: label, Identity: box, Mapping: isolate.Mapping{Base: base, Count: 65536}}
	if change != nil {
		change(&in)
	}
	argument, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return Imprint([]string{string(argument)})
}

// furnished is a tree in which something stands where the identity goes.
func furnished(t *testing.T) string {
	t.Helper()
	root := tree(t)
	etc := filepath.Join(root, "etc")
	for path, text := range map[string]string{"hostname": "old\n", "hosts": strings.Repeat("long ", 4000)} {
		if err := os.WriteFile(filepath.Join(etc, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/run/elsewhere", filepath.Join(etc, "resolv.conf")); err != nil {
		t.Fatal(err)
	}
	dbus := filepath.Join(root, "var", "lib", "dbus")
	if err := os.MkdirAll(dbus, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dbus, machineID), []byte("its own\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	own(t, root)
	return root
}

func own(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, base, base)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// arranged is an image of a tree without /etc, in which names that end in / are folders, and links are "name -> target".
func arranged(t *testing.T, entries ...string) string {
	t.Helper()
	root := tree(t)
	if err := os.RemoveAll(filepath.Join(root, "etc")); err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name, target, isLink := strings.Cut(entry, " -> ")
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case err != nil:
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, []byte("its own\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	own(t, root)
	file, code := run(t, inputFor(t, root, 64<<20))
	if code != 0 {
		t.Fatalf("no image of %q", entries)
	}
	return file
}

// chain are links, the last of which leads to a folder.
func chain(name string, count int, folder string) []string {
	entries := []string{folder + "/"}
	for n := range count {
		from, to := fmt.Sprintf("%s%d", name, n), fmt.Sprintf("%s%d", name, n+1)
		if n == 0 {
			from = name
		}
		if n == count-1 {
			to = folder
		}
		entries = append(entries, from+" -> "+to)
	}
	return entries
}

func wantWhole(t *testing.T, file string) {
	t.Helper()
	if said, err := exec.Command("e2fsck", "-fn", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

func TestADiskBecomesThatOfAWorkspace(t *testing.T) {
	file, code := run(t, inputFor(t, furnished(t), 64<<20))
	if code != 0 || stamp(t, file, nil) != 0 {
		t.Fatal("it fails")
	}
	texts, err := box.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range texts {
		if got := debugfs(t, file, "cat /etc/"+want.Name); got != want.Text {
			t.Errorf("%s holds %q", want.Name, got)
		}
		stat := strings.Join(strings.Fields(debugfs(t, file, "stat /etc/"+want.Name)), " ")
		for _, part := range []string{"Type: regular", "Mode: 0644", "User: 0 Group: 0", "Links: 1"} {
			if !strings.Contains(stat, part) {
				t.Errorf("%s: %s is not in %s", want.Name, part, stat)
			}
		}
	}
	if got := debugfs(t, file, "stat "+dbusFolder+"/"+machineID); !strings.Contains(got, `"/etc/machine-id"`) {
		t.Errorf("dbus has %s", got)
	}
	if got := debugfs(t, file, "stats -h"); !strings.Contains(got, label) {
		t.Errorf("the label is not in %s", got)
	}
	wantWhole(t, file)
	var status unix.Stat_t
	if err := unix.Stat(file, &status); err != nil || status.Mode&0o777 != 0o600 || status.Uid != 0 {
		t.Errorf("got %o of %d, %v", status.Mode, status.Uid, err)
	}
	// Once more, as after an engine that was killed.
	if stamp(t, file, nil) != 0 {
		t.Error("a second time fails")
	}
	wantWhole(t, file)
}

func TestADiskWithoutAnIdentityGetsOneAndNothingElse(t *testing.T) {
	file, code := run(t, inputFor(t, tree(t), 64<<20))
	if code != 0 || stamp(t, file, nil) != 0 {
		t.Fatal("it fails")
	}
	if got := debugfs(t, file, "cat /etc/machine-id"); got != box.MachineID+"\n" {
		t.Errorf("got %q", got)
	}
	if got := debugfs(t, file, "ls -p /"); strings.Contains(got, "var") {
		t.Errorf("got %s", got)
	}
	wantWhole(t, file)
}

func TestAnIdentityStandsWhereEtcLeads(t *testing.T) {
	for name, c := range map[string]struct {
		entries []string
		etc     string
	}{
		"relative":            {[]string{"usr/etc/", "etc -> usr/etc"}, "/usr/etc"},
		"absolute":            {[]string{"usr/etc/", "usr/etc/hostname", "etc -> /usr/etc"}, "/usr/etc"},
		"over another":        {[]string{"real/etc/", "usr -> real", "etc -> ./usr//etc/"}, "/real/etc"},
		"above the root":      {[]string{"usr/etc/", "etc -> ../../usr/bin/../etc", "usr/bin/"}, "/usr/etc"},
		"a long target":       {[]string{strings.Repeat("long", 30) + "/", "etc -> " + strings.Repeat("long", 30)}, "/" + strings.Repeat("long", 30)},
		"as many as there be": {chain("etc", 40, "usr"), "/usr"},
	} {
		t.Run(name, func(t *testing.T) {
			file := arranged(t, c.entries...)
			if stamp(t, file, nil) != 0 {
				t.Fatal("it fails")
			}
			if got := debugfs(t, file, "cat "+c.etc+"/hostname"); got != "box\n" {
				t.Errorf("got %q", got)
			}
			if got := debugfs(t, file, "stat /etc"); !strings.Contains(got, "Type: symlink") {
				t.Errorf("/etc is %s", got)
			}
			wantWhole(t, file)
		})
	}
	t.Run("a name that debugfs cannot be told", func(t *testing.T) {
		file := arranged(t, "a \"b\"\nquit/", "etc -> a \"b\"\nquit")
		if stamp(t, file, nil) != 0 {
			t.Fatal("it fails")
		}
		wantWhole(t, file)
	})
}

func TestTheIdOfDbusIsThatOfTheWorkspaceWhereverItStands(t *testing.T) {
	for name, c := range map[string]struct {
		entries []string
		id      string
	}{
		"folder":          {[]string{"var/lib/dbus/machine-id"}, "/var/lib/dbus/machine-id"},
		"folder is link":  {[]string{"usr/dbus/machine-id", "var/lib/dbus -> /usr/dbus"}, "/usr/dbus/machine-id"},
		"above is a link": {[]string{"usr/lib/dbus/machine-id", "var -> usr"}, "/usr/lib/dbus/machine-id"},
		"id is a link":    {[]string{"var/lib/dbus/machine-id -> other", "var/lib/dbus/other"}, "/var/lib/dbus/machine-id"},
		"id leads to etc": {[]string{"var/lib/dbus/machine-id -> /etc/machine-id"}, "/var/lib/dbus/machine-id"},
	} {
		t.Run(name, func(t *testing.T) {
			file := arranged(t, append(c.entries, "etc/")...)
			if stamp(t, file, nil) != 0 {
				t.Fatal("it fails")
			}
			if got := debugfs(t, file, "stat "+c.id); !strings.Contains(got, `"/etc/machine-id"`) {
				t.Errorf("dbus has %s", got)
			}
			wantWhole(t, file)
		})
	}
	for name, entries := range map[string][]string{
		"shared with etc": {"etc/machine-id", "var/lib/dbus -> ../../etc"},
		"a loop":          {"etc/", "var/lib/dbus -> dbus"},
		"a file":          {"etc/", "var/lib/dbus"},
		"empty":           {"etc/", "var/lib/dbus/"},
	} {
		t.Run(name, func(t *testing.T) {
			file := arranged(t, entries...)
			if stamp(t, file, nil) != 0 {
				t.Fatal("it fails")
			}
			if got := debugfs(t, file, "cat /etc/machine-id"); got != box.MachineID+"\n" {
				t.Errorf("got %q", got)
			}
			wantWhole(t, file)
		})
	}
}

func TestWhatCannotBeImprintedIsRefused(t *testing.T) {
	whole, code := run(t, inputFor(t, tree(t), 64<<20))
	if code != 0 {
		t.Fatal("no image")
	}
	root := tree(t)
	if err := os.MkdirAll(filepath.Join(root, "etc", "hostname", "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"etc/hostname", "etc/hostname/inner"} {
		if err := os.Chown(filepath.Join(root, path), base, base); err != nil {
			t.Fatal(err)
		}
	}
	odd, code := run(t, inputFor(t, root, 64<<20))
	if code != 0 {
		t.Fatal("no image with a folder in the way")
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file   string
		change func(*imprint)
	}{
		"a label that is a command": {whole, func(in *imprint) { in.Label = "a\nquit" }},
		"no hostname":               {whole, func(in *imprint) { in.Identity.Hostname = "" }},
		"a folder in the way":       {odd, nil},
		"etc as a file":             {arranged(t, "etc"), nil},
		"etc as a loop":             {arranged(t, "etc -> etc"), nil},
		"etc that leads nowhere":    {arranged(t, "etc -> usr/etc"), nil},
		"etc that leads to a file":  {arranged(t, "file", "etc -> file"), nil},
		"etc through too many":      {arranged(t, chain("etc", 41, "usr")...), nil},
		"no filesystem":             {empty, nil},
		"no file":                   {"/nonexistent", nil},
	} {
		if code := stamp(t, c.file, c.change); code != exitFailed {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
}
