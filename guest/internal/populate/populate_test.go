package populate

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/goldentest"
	"pyro.dev/agent/internal/identity"
	"pyro.dev/agent/internal/isolate"
	"pyro.dev/agent/internal/message"
)

const idBase = 1 << 30

func TestMain(m *testing.M) { os.Exit(goldentest.WithAgent(m.Run)) }

var (
	wide = message.ArchiveLimits{Entries: 100_000, Bytes: 1 << 30, PathBytes: 4096}
	box  = &identity.Identity{Hostname: "box", MachineID: strings.Repeat("0a", 16)}
)

// newVolume is a small environment that belongs to the mapped root.
func newVolume(t *testing.T) string {
	t.Helper()
	volume := t.TempDir()
	for path, text := range map[string]string{"etc/hostname": "builder\n", "etc/hosts": "1.2.3.4 builder\n", "bin/sh": "x"} {
		if err := os.MkdirAll(filepath.Dir(volume+"/"+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(volume+"/"+path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	giveAway(t, volume)
	return volume
}

func giveAway(t *testing.T, volume string) {
	t.Helper()
	if out, err := exec.Command("chown", "-Rh", fmt.Sprintf("%d:%d", idBase, idBase), volume).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func inputFor(volume string) Input {
	return Input{Volume: volume, Mapping: isolate.Mapping{Base: idBase, Count: 65536}, Identity: box, Limits: wide}
}

// stdin is what the engine sends: the input, then the archive if there is a seed.
func stdin(t *testing.T, input Input, archive []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := frames.WriteJSON(&out, frames.Input, input); err != nil {
		t.Fatal(err)
	}
	if !input.Seed {
		return out.Bytes()
	}
	for len(archive) > 0 {
		n := min(len(archive), 1000)
		if err := frames.Write(&out, frames.Data, archive[:n]); err != nil {
			t.Fatal(err)
		}
		archive = archive[n:]
	}
	if err := frames.Write(&out, frames.Data, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func populate(t *testing.T, input Input, archive []byte) goldentest.Answer {
	t.Helper()
	return goldentest.RunRole(t, bytes.NewReader(stdin(t, input, archive)), "populate")
}

func seedArchive(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, header := range []*tar.Header{
		{Name: "src/", Typeflag: tar.TypeDir, Mode: 0o750},
		{Name: "src/main", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 4, Uid: 1000, Gid: 1000},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/workspace/src"},
	} {
		if err := writer.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(writer, strings.Repeat("x", int(header.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestMessagesAreThoseOfTheProtocol(t *testing.T) {
	goldentest.Decodes[Input](t, "populate-input")
	goldentest.Decodes[identity.Identity](t, "workspace-identity")
	goldentest.RoundTrips[Result](t, "populate-result")
	goldentest.Decodes[isolate.Mapping](t, "id-mapping")
}

func TestAVolumeGetsItsIdentityAndSeed(t *testing.T) {
	volume := newVolume(t)
	input := inputFor(volume)
	input.Seed = true
	result := goldentest.MustResult[Result](t, populate(t, input, seedArchive(t)))
	if result.Bytes != 4 || result.Files < 2 {
		t.Errorf("got %+v", result)
	}
	for path, want := range map[string]string{
		"etc/hostname": "box\n", "etc/machine-id": strings.Repeat("0a", 16) + "\n", "workspace/src/main": "xxxx", "bin/sh": "x",
	} {
		if got := contentOf(t, volume+"/"+path); got != want {
			t.Errorf("%s holds %q", path, got)
		}
	}
	if hosts := contentOf(t, volume+"/etc/hosts"); !strings.Contains(hosts, "127.0.1.1\tbox\n") || strings.Contains(hosts, "builder") {
		t.Errorf("hosts are %q", hosts)
	}
	for path, mode := range map[string]uint32{
		"etc/hostname": 0o644, "etc/machine-id": 0o644, "workspace": 0o755, "workspace/src": 0o750, "workspace/src/main": 0o755,
	} {
		var stat unix.Stat_t
		if err := unix.Lstat(volume+"/"+path, &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Mode&0o7777 != mode || stat.Uid != idBase || stat.Gid != idBase {
			t.Errorf("%s has mode %o and owner %d:%d", path, stat.Mode&0o7777, stat.Uid, stat.Gid)
		}
	}
	if entries, err := os.ReadDir(volume + "/etc"); err != nil || len(entries) != 4 {
		t.Errorf("etc holds %v, %v", entries, err)
	}
}

func TestWithoutIdentityAndSeedOnlyTheWorkspaceIsMade(t *testing.T) {
	volume := newVolume(t)
	input := inputFor(volume)
	input.Identity = nil
	goldentest.MustResult[Result](t, populate(t, input, nil))
	if contentOf(t, volume+"/etc/hostname") != "builder\n" {
		t.Error("the hostname changed")
	}
	if info, err := os.Stat(volume + "/workspace"); err != nil || !info.IsDir() {
		t.Errorf("no workspace: %v", err)
	}
}

func TestWhatStandsInTheWayOfTheIdentityIsReplacedAndNotFollowed(t *testing.T) {
	outer := t.TempDir()
	if err := os.WriteFile(outer+"/victim", []byte("untouched"), 0o666); err != nil {
		t.Fatal(err)
	}
	volume := newVolume(t)
	for _, err := range []error{
		os.Remove(volume + "/etc/hostname"), os.Symlink(outer+"/victim", volume+"/etc/hostname"),
		os.Remove(volume + "/etc/hosts"), unix.Mkfifo(volume+"/etc/hosts", 0o644),
		os.MkdirAll(volume+"/etc/machine-id/full", 0o755), os.Symlink("../gone", volume+"/etc/resolv.conf"),
		os.WriteFile(volume+"/etc/.pyro-identity", []byte("left over"), 0o600),
		os.MkdirAll(volume+"/var/lib/dbus", 0o755), os.WriteFile(volume+"/var/lib/dbus/machine-id", []byte("another"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	giveAway(t, volume)
	goldentest.MustResult[Result](t, populate(t, inputFor(volume), nil))
	for _, name := range []string{"hostname", "hosts", "machine-id", "resolv.conf"} {
		if info, err := os.Lstat(volume + "/etc/" + name); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s is %v, %v", name, info.Mode(), err)
		}
	}
	if target, err := os.Readlink(volume + "/var/lib/dbus/machine-id"); err != nil || target != "/etc/machine-id" {
		t.Errorf("the id of dbus is %q, %v", target, err)
	}
	if contentOf(t, outer+"/victim") != "untouched" {
		t.Error("a symlink was followed out of the volume")
	}
	if _, err := os.Lstat(volume + "/etc/.pyro-identity"); err == nil {
		t.Error("a temporary file is left")
	}
}

func TestSymlinksOfTheEnvironmentLeadOnlyIntoTheVolume(t *testing.T) {
	outer := t.TempDir()
	volume := newVolume(t)
	for _, err := range []error{
		os.Rename(volume+"/etc", volume+"/real-etc"), os.Symlink("/real-etc", volume+"/etc"), os.Chmod(outer, 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	giveAway(t, volume)
	goldentest.MustResult[Result](t, populate(t, inputFor(volume), nil))
	if contentOf(t, volume+"/real-etc/hostname") != "box\n" {
		t.Error("a symlink within the volume was not followed")
	}
	for _, target := range []string{outer, "../../../.." + outer} {
		volume := newVolume(t)
		if err := os.Symlink(target, volume+"/workspace"); err != nil {
			t.Fatal(err)
		}
		giveAway(t, volume)
		input := inputFor(volume)
		input.Seed = true
		goldentest.WantError(t, populate(t, input, seedArchive(t)), message.KindInvalid)
		if entries, err := os.ReadDir(outer); err != nil || len(entries) > 0 {
			t.Errorf("outside there is %v %v", entries, err)
		}
	}
}

func TestTheIdOfDbusMayStandInEtc(t *testing.T) {
	volume := newVolume(t)
	for _, err := range []error{os.MkdirAll(volume+"/var/lib", 0o755), os.Symlink("../../etc", volume+"/var/lib/dbus")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	giveAway(t, volume)
	goldentest.MustResult[Result](t, populate(t, inputFor(volume), nil))
	if got := contentOf(t, volume+"/etc/machine-id"); got != box.MachineID+"\n" {
		t.Errorf("got %q", got)
	}
}

func TestSeedsThatAreUnsafeCutOrTooLargeAreRefused(t *testing.T) {
	var unsafe bytes.Buffer
	writer := tar.NewWriter(&unsafe)
	if err := writer.WriteHeader(&tar.Header{Name: "../etc/passwd", Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	small := wide
	small.Bytes = 3
	for name, c := range map[string]struct {
		archive []byte
		limits  message.ArchiveLimits
		kind    message.ErrorKind
		entry   string
	}{
		"unsafe":    {unsafe.Bytes(), wide, message.KindUnsafeEntry, "../etc/passwd"},
		"cut":       {seedArchive(t)[:700], wide, message.KindTruncated, ""},
		"too large": {seedArchive(t), small, message.KindTooLarge, "src/main"},
		"nothing":   {nil, wide, message.KindTruncated, ""},
	} {
		input := inputFor(newVolume(t))
		input.Seed, input.Limits = true, c.limits
		problem := goldentest.WantError(t, populate(t, input, c.archive), c.kind)
		if c.entry != "" && problem.Data["entry"] != c.entry {
			t.Errorf("%s: names %v", name, problem.Data)
		}
	}
}

func TestStdinThatEndsEarlyIsTruncated(t *testing.T) {
	input := inputFor(newVolume(t))
	input.Seed = true
	whole := stdin(t, input, seedArchive(t))
	head := len(stdin(t, Input{Volume: input.Volume, Mapping: input.Mapping, Identity: box, Limits: wide}, nil))
	for _, at := range []int{head, head + 3, head + 600, len(whole) - 1} {
		answer := goldentest.RunRole(t, bytes.NewReader(whole[:at]), "populate")
		goldentest.WantError(t, answer, message.KindTruncated)
	}
	for _, at := range []int{0, 3, 20} {
		goldentest.WantError(t, goldentest.RunRole(t, bytes.NewReader(whole[:at]), "populate"), message.KindInvalid)
	}
}

func TestAFullVolumeIsSaid(t *testing.T) {
	volume := t.TempDir()
	if err := unix.Mount("tmpfs", volume, "tmpfs", 0, "size=32k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(volume, unix.MNT_DETACH)
	giveAway(t, volume)
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	if err := writer.WriteHeader(&tar.Header{Name: "large", Typeflag: tar.TypeReg, Size: 100_000}); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	input := inputFor(volume)
	input.Seed = true
	goldentest.WantError(t, populate(t, input, archive.Bytes()), message.KindNoSpace)
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"a hostname with a slash": func(i *Input) { i.Identity = &identity.Identity{Hostname: "a/b", MachineID: box.MachineID} },
		"no hostname":             func(i *Input) { i.Identity = &identity.Identity{MachineID: box.MachineID} },
		"a machine id of letters": func(i *Input) { i.Identity = &identity.Identity{Hostname: "a", MachineID: strings.Repeat("z", 32)} },
		"a long hostname": func(i *Input) {
			i.Identity = &identity.Identity{Hostname: strings.Repeat("a", 65), MachineID: box.MachineID}
		},
	} {
		volume := newVolume(t)
		input := inputFor(volume)
		change(&input)
		problem := goldentest.WantError(t, populate(t, input, nil), message.KindInvalid)
		if contentOf(t, volume+"/etc/hostname") != "builder\n" {
			t.Errorf("%s: %s, but the volume changed", name, problem.Message)
		}
	}
	input := inputFor(newVolume(t) + "/gone")
	if answer := populate(t, input, nil); answer.Error == nil || answer.Code != 1 {
		t.Errorf("a missing volume: %+v", answer)
	}
	if answer := goldentest.RunRole(t, nil, "populate", "argument"); answer.Code != 2 {
		t.Errorf("an argument: %+v", answer)
	}
	if answer := goldentest.RunRole(t, nil, "populate", isolate.InsideArgument); answer.Error == nil || answer.Code != 1 {
		t.Errorf("the inside alone: %+v", answer)
	}
}

func TestFoldersThatEvenRootMayNotEnterAreWrittenTo(t *testing.T) {
	volume := newVolume(t)
	if err := os.Mkdir(volume+"/workspace", 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(volume+"/etc", 0); err != nil {
		t.Fatal(err)
	}
	giveAway(t, volume)
	input := inputFor(volume)
	input.Seed = true
	goldentest.MustResult[Result](t, populate(t, input, seedArchive(t)))
}
