package inspect

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/isolate"
	"pyro.dev/agent/internal/message"
)

// idBase is where the ids of the tests' user namespace begin.
const idBase = 0x40000000

var mapping = isolate.Mapping{Base: idBase, Count: 65536}

// agentBinary is the whole agent: a role is what the engine starts.
var agentBinary = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "pyro-inspect-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "pyro-agent")
	command := exec.Command("go", "build", "-o", path, "pyro.dev/agent/cmd/agent")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

const (
	// inMemory is set in the process that runs the tests, and in those that it starts to fuzz.
	inMemory       = "PYRO_TEST_IN_MEMORY"
	mountedAlready = "mounted"
)

// TestMain runs the tests in a mount namespace of their own, which takes all they mount with it, and with temporary
// folders in memory: they make several hundred thousand files.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root: they mount, set owners and start namespaces")
		os.Exit(1)
	}
	switch folder := os.Getenv(inMemory); folder {
	case "":
		os.Exit(runInMemory())
	case mountedAlready:
	default:
		err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", folder, "tmpfs", 0, "mode=0755"),
			os.Setenv(inMemory, mountedAlready))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func runInMemory() int {
	folder, err := os.MkdirTemp("", "pyro-inspect-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Env = append(os.Environ(), inMemory+"="+folder, "TMPDIR="+folder)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// role runs `pyro-agent inspect` to its end.
func role(t testing.TB, in Input) (a answer, result []byte, failure *message.Error) {
	t.Helper()
	out, code := runRole(t, in)
	a, last, final := parse(t, bytes.NewReader(out))
	switch {
	case last == frames.Result && code == 0:
		return a, final, nil
	case last == frames.Error && code == 1:
		failure = &message.Error{}
		if err := json.Unmarshal(final, failure); err != nil {
			t.Fatal(err)
		}
		return a, nil, failure
	}
	t.Fatalf("ended with %d, last frame %d", code, last)
	return
}

// runRole gives all that the role prints.
func runRole(t testing.TB, in Input) (out []byte, code int) {
	t.Helper()
	path, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	if in.Mapping.Count == 0 {
		in.Mapping = mapping
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(path, "inspect")
	command.Stdin = bytes.NewReader(frames.Append(nil, frames.Input, text))
	var printed, complaints bytes.Buffer
	command.Stdout, command.Stderr = &printed, &complaints
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if complaints.Len() > 0 {
		t.Errorf("stderr: %s", complaints.Bytes())
	}
	return printed.Bytes(), command.ProcessState.ExitCode()
}

func roleDiff(t testing.TB, in Input) answer {
	t.Helper()
	in.Op = "diff"
	if in.PatchLimitBytes == 0 {
		in.PatchLimitBytes, in.BinaryLimitBytes = 32<<20, 8<<20
	}
	if in.IgnoreFrom == "" {
		in.IgnoreFrom = in.From
	}
	a, result, failure := role(t, in)
	if failure != nil {
		t.Fatal(failure)
	}
	if err := json.Unmarshal(result, &a.summary); err != nil {
		t.Fatal(err)
	}
	return a
}

// shift moves a tree into the ids of the namespace, as environments are unpacked; a change of owner drops set-id bits.
func shift(t testing.TB, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		var stat unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &stat)
		}
		if err == nil {
			err = os.Lchown(path, idBase+int(stat.Uid), idBase+int(stat.Gid))
		}
		if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFLNK {
			err = unix.Chmod(path, stat.Mode&0o7777)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// shifted makes volumes that hold the trees as /workspace, below a folder nobody else may enter.
func shifted(t testing.TB, trees ...forest) []string {
	t.Helper()
	root := t.TempDir()
	var roots []string
	for at, one := range trees {
		volume := filepath.Join(root, string(rune('a'+at)))
		one.write(t, volume+"/workspace")
		shift(t, volume)
		roots = append(roots, volume)
	}
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	return roots
}

func text(content string) node { return node{mode: unix.S_IFREG | 0o644, content: content} }
func link(target string) node  { return node{mode: unix.S_IFLNK | 0o777, content: target} }

var emptyFolder = node{mode: unix.S_IFDIR | 0o755}

func forestOf(pairs map[string]node) forest {
	f := forest{}
	for _, path := range slices.Sorted(maps.Keys(pairs)) {
		f.put(path, pairs[path])
	}
	return f
}

func TestTheRoleComparesVolumesWithTheIDsOfTheirNamespace(t *testing.T) {
	from := forestOf(map[string]node{"kept": text("1\n"), "changed": text("1\n"), "closed/inside": {mode: unix.S_IFREG | 0o000, uid: 1000, gid: 1000, content: "1\n"}})
	to := maps.Clone(from)
	to["closed"] = node{mode: unix.S_IFDIR | 0o700, uid: 1000, gid: 1000}
	to["closed/inside"] = node{mode: unix.S_IFREG | 0o000, uid: 1000, gid: 1000, content: "2\n"}
	to["changed"] = node{mode: unix.S_IFREG | 0o4711, uid: 33, gid: 44, content: "2\n"}
	to["\xff\xfe"] = text("x")
	volumes := shifted(t, from, to)
	a := roleDiff(t, Input{From: volumes[0], To: volumes[1], Root: "/workspace", Patch: true})
	checkComplete(t, from, to, a)
	if changed := a.entry(t, "changed"); *changed.UID != 33 || *changed.GID != 44 || *changed.Mode != "104711" || changed.InPatch {
		t.Errorf("changed: %+v", changed)
	}
	if a.entry(t, "\xff\xfe").InPatch != true || a.entry(t, "closed").InPatch || len(a.entries) != 4 {
		t.Error(describe(a))
	}
	if a.summary.Changed != 4 || a.summary.PatchBytes != int64(len(a.patch)) || len(a.patch) == 0 {
		t.Errorf("%+v", a.summary)
	}
}

func TestTheRoleComparesAVolumeWithItselfToNothing(t *testing.T) {
	volume := shifted(t, forestOf(map[string]node{"a/b": text("x"), "l": link("a"), "p": {mode: unix.S_IFIFO | 0o644}}))[0]
	a := roleDiff(t, Input{From: volume, To: volume, Root: "/", Patch: true})
	if len(a.entries) > 0 || a.summary != (DiffSummary{}) {
		t.Error(describe(a))
	}
}

func TestWhatIsMissingOrNoFolderIsATypedError(t *testing.T) {
	volumes := shifted(t, forestOf(map[string]node{"f": text("x"), "only-here/f": text("x")}), forestOf(map[string]node{"f": text("y"), "p": {mode: unix.S_IFIFO | 0o644}}))
	diff := func(root string, paths ...string) Input {
		return Input{Op: "diff", From: volumes[0], To: volumes[1], IgnoreFrom: volumes[0], Root: root, Paths: paths, PatchLimitBytes: 1 << 20, BinaryLimitBytes: 1 << 20}
	}
	export := func(path string) Input { return Input{Op: "export", Volume: volumes[1], Path: path} }
	for _, one := range []struct {
		in   Input
		kind message.ErrorKind
	}{
		{diff("/nowhere"), message.KindNotFound}, {diff("/workspace/f"), message.KindInvalid}, {diff("/workspace/f/g"), message.KindNotFound},
		{diff("/workspace", "nothing"), message.KindNotFound}, {diff("/workspace", "f/g"), message.KindNotFound},
		{diff("/workspace", "../workspace/f"), message.KindInvalid}, {diff("/workspace", "/workspace/f"), message.KindInvalid},
		{diff("/workspace", strings.Repeat("x", 300)), message.KindNotFound}, {diff("/" + strings.Repeat("x", 300)), message.KindNotFound},
		{export("/workspace/nothing"), message.KindNotFound}, {export("/nowhere/nothing"), message.KindNotFound},
		{export("/workspace/f/g"), message.KindNotFound}, {export("/workspace/p"), message.KindNotAFile},
		{export("/" + strings.Repeat("x", 300)), message.KindNotFound}, {Input{Op: "remove"}, message.KindInvalid},
	} {
		if _, _, failure := role(t, one.in); failure == nil || failure.Kind != one.kind {
			t.Errorf("%s %s%s %q: %v, not %s", one.in.Op, one.in.Root, one.in.Path, one.in.Paths, failure, one.kind)
		}
	}
	if a := roleDiff(t, diff("/workspace/only-here")); len(a.entries) != 2 || a.entry(t, ".").Status != "deleted" {
		t.Error(describe(a))
	}
}

func TestARootAndAnExportGoThroughSymlinksOfTheVolumeAndNeverOutOfIt(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/secret", []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	from := forestOf(map[string]node{
		"real/f": text("1\n"), "relative": link("real"), "absolute": link("/workspace/real"), "above": link("../../../../workspace/real"),
		"host": link(outside), "loop": link("loop"), "chain": link("relative"),
	})
	to := maps.Clone(from)
	to["real/f"] = text("2\n")
	volumes := shifted(t, from, to)
	for _, root := range []string{"relative", "absolute", "above", "chain", "real/../chain"} {
		a := roleDiff(t, Input{From: volumes[0], To: volumes[1], Root: "/workspace/" + root})
		if len(a.entries) != 1 || a.entries[0].path() != "f" {
			t.Errorf("%s: %s", root, describe(a))
		}
		files, _ := exported(t, volumes[1], "/workspace/"+root+"/f")
		if got := files["f"]; got.content != "2\n" {
			t.Errorf("%s/f: %+v", root, files)
		}
	}
	for _, path := range []string{"host/secret", "loop/f", "loop/loop"} {
		if _, _, failure := role(t, Input{Op: "export", Volume: volumes[1], Path: "/workspace/" + path}); failure == nil || failure.Kind != message.KindNotFound {
			t.Errorf("%s: %v", path, failure)
		}
	}
	if files, summary := exported(t, volumes[1], "/workspace/host"); summary.Type != "symlink" || files["host"].content != outside {
		t.Errorf("a symlink itself: %+v %+v", files, summary)
	}
}

// exported gives what the tar of an export holds, by path.
func exported(t testing.TB, volume, path string) (forest, ExportSummary) {
	t.Helper()
	a, result, failure := role(t, Input{Op: "export", Volume: volume, Path: path})
	if failure != nil {
		t.Fatal(failure)
	}
	var summary ExportSummary
	if err := json.Unmarshal(result, &summary); err != nil {
		t.Fatal(err)
	}
	files := forest{}
	reader := tar.NewReader(bytes.NewReader(a.patch))
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return files, summary
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		n := node{mode: uint32(header.Mode), uid: header.Uid, gid: header.Gid, content: string(content) + header.Linkname, xattrs: string(header.Typeflag)}
		files[strings.TrimSuffix(header.Name, "/")] = n
	}
}

func TestAnExportUnpacksToTheSameTree(t *testing.T) {
	long := strings.Repeat("long/", 60) + "name"
	from := forestOf(map[string]node{
		"f": text("1\n"), "empty": emptyFolder, "x": {mode: unix.S_IFREG | 0o755, uid: 3, gid: 4, content: strings.Repeat("0123456789", 300_000)},
		"l": link("nowhere/" + strings.Repeat("y", 200)), "\xff": text(""), "n\nl": text("x"), long: text("deep"), "p": {mode: unix.S_IFIFO | 0o644},
		"s": {mode: unix.S_IFSOCK | 0o644}, "repo/.git/hooks/post-checkout": {mode: unix.S_IFREG | 0o755, content: "#!/bin/sh\n"},
	})
	volume := shifted(t, from)[0]
	if err := os.Link(volume+"/workspace/f", volume+"/workspace/f2"); err != nil {
		t.Fatal(err)
	}
	moment := time.Unix(1_600_000_000, 123_456_789)
	if err := os.Chtimes(volume+"/workspace/f", moment, moment); err != nil {
		t.Fatal(err)
	}
	a, result, failure := role(t, Input{Op: "export", Volume: volume, Path: "/workspace"})
	if failure != nil {
		t.Fatal(failure)
	}
	if got, want := string(result), `{"type":"directory","files":8,"bytes":3000017,"gitHooks":true,"skipped":2}`; got != want {
		t.Errorf("%s, not %s", got, want)
	}
	target := t.TempDir()
	command := exec.Command("tar", "-xpf", "-", "--numeric-owner", "-C", target)
	command.Stdin = bytes.NewReader(a.patch)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := maps.Clone(from)
	delete(want, "p")
	delete(want, "s")
	want["f2"] = want["f"]
	if got := read(t, target+"/workspace"); !maps.Equal(got, want) {
		t.Errorf("%v\nnot\n%v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	one, err1 := os.Stat(target + "/workspace/f")
	two, err2 := os.Stat(target + "/workspace/f2")
	if err1 != nil || err2 != nil || !os.SameFile(one, two) || !one.ModTime().Equal(moment) {
		t.Errorf("hard link or time: %v %v %v", err1, err2, one)
	}
	for path, hooks := range map[string]bool{"/workspace/repo": true, "/workspace/repo/.git": true, "/workspace/repo/.git/hooks": true,
		"/workspace/f": false, "/workspace/empty": false, "/workspace/repo/.git/hooks/post-checkout": true} {
		if files, summary := exported(t, volume, path); summary.GitHooks != hooks || files[filepath.Base(path)].mode == 0 {
			t.Errorf("%s: %+v", path, summary)
		}
	}
}

func TestAnExportOfTheRootHasAName(t *testing.T) {
	volume := shifted(t, forestOf(map[string]node{"f": text("1\n")}))[0]
	if files, _ := exported(t, volume, "/"); files["root/workspace/f"].content != "1\n" {
		t.Errorf("%v", files)
	}
}

func TestEveryValidInputIsUnderstoodAndEveryAnswerHasTheFieldsOfItsSchema(t *testing.T) {
	fixture := func(name string) (read struct {
		Schema struct{ Required []string }
		Valid  []struct{ Value json.RawMessage }
	}) {
		content, err := os.ReadFile("../../../spec/guest/" + name + ".json")
		if err == nil {
			err = json.Unmarshal(content, &read)
		}
		if err != nil {
			t.Fatal(err)
		}
		return read
	}
	valid := fixture("inspect-input").Valid
	if len(valid) == 0 {
		t.Error("no valid inputs")
	}
	for _, one := range valid {
		var in Input
		if err := isolate.DecodeInput(one.Value, &in); err != nil {
			t.Errorf("%s: %v", one.Value, err)
		}
	}
	for name, value := range map[string]any{"inspect-entry": Entry{}, "diff-summary": DiffSummary{}, "export-summary": ExportSummary{}, "image-unreadable": Unreadable{}} {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(encoded, &fields); err != nil {
			t.Fatal(err)
		}
		required := fixture(name).Schema.Required
		slices.Sort(required)
		if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, required) {
			t.Errorf("%s: %q, not %q", name, got, required)
		}
	}
}
