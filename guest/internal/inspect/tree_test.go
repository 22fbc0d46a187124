package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/frames"
)

// node is one path of a tree as an independent reader sees it.
type node struct {
	mode     uint32 // with type
	uid, gid int
	// content of a file, target of a symlink.
	content string
	xattrs  string
}

func (n node) kind() uint32 { return n.mode & unix.S_IFMT }

// forest maps paths to what is there.
type forest map[string]node

func (f forest) write(t testing.TB, root string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(root, 0o755))
	for _, path := range slices.Sorted(maps.Keys(f)) {
		n, full := f[path], filepath.Join(root, path)
		switch n.kind() {
		case unix.S_IFDIR:
			must(os.Mkdir(full, 0o755))
		case unix.S_IFREG:
			must(os.WriteFile(full, []byte(n.content), 0o600))
		case unix.S_IFLNK:
			must(os.Symlink(n.content, full))
		default:
			must(unix.Mknod(full, n.mode, 0))
		}
		must(os.Lchown(full, n.uid, n.gid))
		if n.kind() != unix.S_IFLNK {
			must(unix.Chmod(full, n.mode&0o7777))
		}
		if n.xattrs != "" {
			must(unix.Setxattr(full, "user.test", []byte(n.xattrs), 0))
		}
	}
}

// read lists a tree with Go's own library.
func read(t testing.TB, root string) forest {
	t.Helper()
	found := forest{}
	err := filepath.WalkDir(root, func(full string, entry fs.DirEntry, err error) error {
		if err != nil || full == root {
			return err
		}
		path, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(full, &stat); err != nil {
			return err
		}
		n := node{mode: stat.Mode, uid: int(stat.Uid), gid: int(stat.Gid)}
		switch n.kind() {
		case unix.S_IFREG:
			content, err := os.ReadFile(full)
			if err != nil {
				return err
			}
			n.content = string(content)
			value := make([]byte, 100)
			if size, err := unix.Getxattr(full, "user.test", value); err == nil {
				n.xattrs = string(value[:size])
			}
		case unix.S_IFLNK:
			if n.content, err = os.Readlink(full); err != nil {
				return err
			}
		}
		found[path] = n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// answer is what a comparison says.
type answer struct {
	entries []Entry
	patch   []byte
	summary DiffSummary
}

func (a answer) paths(filter func(Entry) bool) []string {
	var paths []string
	for _, one := range a.entries {
		if filter(one) {
			paths = append(paths, one.path())
		}
	}
	return paths
}

func (e Entry) path() string {
	path, err := base64.StdEncoding.DecodeString(e.PathBase64)
	if err != nil {
		panic(err)
	}
	return string(path)
}

func (a answer) entry(t testing.TB, path string) Entry {
	t.Helper()
	for _, one := range a.entries {
		if one.path() == path {
			return one
		}
	}
	t.Fatalf("no entry for %q in %q", path, a.paths(all))
	return Entry{}
}

func all(Entry) bool { return true }

// parse takes frames apart and checks their order and sizes.
func parse(t testing.TB, from io.Reader) (a answer, last frames.Type, final []byte) {
	t.Helper()
	reader := frames.NewReader(from)
	for {
		kind, payload, err := reader.Next()
		if err == io.EOF {
			return a, last, final
		}
		if err != nil {
			t.Fatal(err)
		}
		if final != nil {
			t.Fatal("a frame after the last one")
		}
		switch kind {
		case frames.Data:
			a.patch = append(a.patch, payload...)
		case frames.Event:
			var event struct {
				Type    string  `json:"type"`
				Entries []Entry `json:"entries"`
			}
			if err := json.Unmarshal(payload, &event); err != nil || event.Type != "entries" || len(event.Entries) > 1000 || len(payload) > 1<<20 {
				t.Fatalf("event %.200s: %v", payload, err)
			}
			a.entries = append(a.entries, event.Entries...)
		case frames.Result, frames.Error:
			last, final = kind, bytes.Clone(payload)
		default:
			t.Fatalf("frame of type %d", kind)
		}
	}
}

// compare runs a comparison in this process.
func compare(t testing.TB, in Input, at places, proof Proof) (answer, error) {
	t.Helper()
	if in.Root == "" {
		in.Root = "/"
	}
	if in.PatchLimitBytes == 0 {
		in.PatchLimitBytes = 32 << 20
	}
	if in.BinaryLimitBytes == 0 {
		in.BinaryLimitBytes = 8 << 20
	}
	var out bytes.Buffer
	summary, err := diff(task{Input: in, Proof: proof}, at.sides(), newEmitter(in, &out))
	a, _, _ := parse(t, &out)
	a.summary = summary
	return a, err
}

func mustCompare(t testing.TB, in Input, at places) answer {
	t.Helper()
	a, err := compare(t, in, at, Proof{})
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(a.patch)) != a.summary.PatchBytes {
		t.Fatalf("the patch has %d bytes, not %d", len(a.patch), a.summary.PatchBytes)
	}
	if !slices.IsSortedFunc(a.entries, func(x, y Entry) int { return strings.Compare(x.path(), y.path()) }) {
		t.Fatalf("entries are not in the order of their bytes: %q", a.paths(all))
	}
	return a
}

func pair(t testing.TB, from, to forest) places {
	t.Helper()
	root := t.TempDir()
	at := places{from: root + "/from", to: root + "/to"}
	at.ignoreFrom = at.from
	from.write(t, at.from)
	to.write(t, at.to)
	return at
}

func git(t testing.TB, stdin []byte, folder string, args ...string) {
	t.Helper()
	if err := tryGit(stdin, folder, args...); err != nil {
		t.Fatal(err)
	}
}

func tryGit(stdin []byte, folder string, args ...string) error {
	command := exec.Command("git", append([]string{"-C", folder}, args...)...)
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CEILING_DIRECTORIES=/",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	command.Stdin = bytes.NewReader(stdin)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("git %q: %w\n%s\n%.6000s", args, err, out, stdin)
	}
	return nil
}

// checkApplies applies the patch to a copy of from and holds the result against to: whatever differs must be named by an
// entry that is not in the patch. Git makes and removes folders with their files, so something below names a folder, too.
func checkApplies(t testing.TB, from, to forest, a answer) {
	t.Helper()
	copied := t.TempDir()
	from.write(t, copied)
	if len(a.patch) > 0 {
		git(t, a.patch, copied, "apply", "--whitespace=nowarn", "-")
	}
	checkNamed(t, from, to, read(t, copied), a)
}

func checkNamed(t testing.TB, from, to, applied forest, a answer) {
	t.Helper()
	named := map[string]bool{}
	for _, path := range a.paths(func(e Entry) bool { return !e.InPatch }) {
		named[path] = true
		for at, c := range path {
			if above := path[:at]; c == '/' && (to[above].kind() == unix.S_IFDIR) != (applied[above].kind() == unix.S_IFDIR) {
				named[above] = true
			}
		}
	}
	remade := map[string]bool{}
	for _, path := range a.paths(func(e Entry) bool { return e.InPatch && (e.Status == "deleted" || e.Status == "typeChanged") }) {
		for at, c := range path {
			if c == '/' {
				remade[path[:at]] = true
			}
		}
	}
	for path := range union(applied, to) {
		got, have := applied[path]
		want, wanted := to[path]
		if have && wanted && got.mode|0o020 == want.mode && from[path].mode&0o020 != 0 {
			// Whether the group may write is a matter of who applies the patch.
			got.mode = want.mode
		}
		if have && wanted && got.kind() == unix.S_IFDIR && from[path] == want && remade[path] {
			// Git removes a folder with its last file and makes it anew for the next one.
			got = want
		}
		if (have != wanted || got != want) && !named[path] {
			t.Errorf("%q is %v (%v) after the patch, not %v (%v), and no entry says so\n%s", path, got, have, want, wanted, describe(a))
		}
	}
}

func union(a, b forest) map[string]bool {
	paths := map[string]bool{}
	for path := range a {
		paths[path] = true
	}
	for path := range b {
		paths[path] = true
	}
	return paths
}

func describe(a answer) string {
	var text strings.Builder
	for _, one := range a.entries {
		fmt.Fprintf(&text, "%s %q %s in patch %v\n", one.Status, one.path(), one.Type, one.InPatch)
	}
	fmt.Fprintf(&text, "%.5000s", a.patch)
	return text.String()
}

// checkComplete holds the entries against the two trees: nothing that differs is missing, nothing equal is listed.
func checkComplete(t testing.TB, from, to forest, a answer) {
	t.Helper()
	listed := map[string]Entry{}
	for _, one := range a.entries {
		listed[one.path()] = one
	}
	for path := range union(from, to) {
		before, was := from[path]
		after, is := to[path]
		entry, isListed := listed[path]
		delete(listed, path)
		status := "modified"
		switch {
		case !was:
			status = "added"
		case !is:
			status = "deleted"
		case before.kind() != after.kind():
			status = "typeChanged"
		case before == after:
			if isListed && before.kind() != unix.S_IFDIR {
				t.Errorf("%q is listed as %s, but equal", path, entry.Status)
			}
			continue
		}
		isFolder := was && before.kind() == unix.S_IFDIR && !is || is && after.kind() == unix.S_IFDIR && !was
		if !isListed && isFolder {
			continue
		}
		if !isListed || entry.Status != status {
			t.Errorf("%q is listed as %q, not %q\n%s", path, entry.Status, status, describe(a))
			continue
		}
		checkEntry(t, path, before, after, was, is, entry)
	}
	for path := range listed {
		t.Errorf("%q is listed but on neither side", path)
	}
}

func checkEntry(t testing.TB, path string, before, after node, was, is bool, entry Entry) {
	t.Helper()
	if was && (entry.OldMode == nil || *entry.OldMode != fmt.Sprintf("%06o", before.mode)) || !was && (entry.OldMode != nil || entry.OldType != nil) {
		t.Errorf("%q: old mode %v", path, entry.OldMode)
	}
	if is && (entry.Mode == nil || *entry.Mode != fmt.Sprintf("%06o", after.mode) || int(*entry.UID) != after.uid || int(*entry.GID) != after.gid) {
		t.Errorf("%q: mode %v, owner %v", path, entry.Mode, entry.UID)
	}
	if !is && (entry.Mode != nil || entry.UID != nil || entry.GID != nil || entry.SizeBytes != nil) {
		t.Errorf("%q is gone and has a mode", path)
	}
	if is && after.kind() == unix.S_IFREG && (entry.SizeBytes == nil || *entry.SizeBytes != int64(len(after.content))) {
		t.Errorf("%q: size %v", path, entry.SizeBytes)
	}
	if isLink := is && after.kind() == unix.S_IFLNK; isLink != (entry.LinkTargetBase64 != nil) {
		t.Errorf("%q: target %v", path, entry.LinkTargetBase64)
	}
}

// names has few of each sort, so that paths meet; the order of "a", "a-b" and "a/x" is a trap of its own.
var names = []string{"a", "b", "a-b", "a.c", "a b", "d", `q"x`, "t\tb", `b\s`, "ü", "\xff\xfe", "e", "n\nl", "end ", " "}

func randomText(random *rand.Rand) string {
	if random.Intn(12) == 0 {
		return string([]byte{0, 1, byte(random.Intn(256)), 10}) + strings.Repeat("\xfe", random.Intn(300))
	}
	var text strings.Builder
	for range random.Intn(12) {
		text.WriteString([]string{"one", "two", "", "three\r", " four "}[random.Intn(5)])
		if random.Intn(15) != 0 {
			text.WriteByte('\n')
		}
	}
	return text.String()
}

func randomNode(random *rand.Rand) node {
	n := node{}
	switch random.Intn(20) {
	case 0, 1, 2:
		n.mode, n.content = unix.S_IFLNK|0o777, names[random.Intn(len(names))]
	case 3, 4, 5, 6:
		n.mode = unix.S_IFDIR | 0o755
	case 7:
		n.mode = unix.S_IFIFO | 0o644
	default:
		n.mode, n.content = unix.S_IFREG|[]uint32{0o644, 0o644, 0o644, 0o755, 0o600, 0o4755, 0o664}[random.Intn(7)], randomText(random)
		if random.Intn(15) == 0 {
			n.xattrs = "x"
		}
	}
	if random.Intn(15) == 0 {
		n.uid, n.gid = random.Intn(2)*1000, 7
	}
	return n
}

// put sets a path and whatever has to be above it; what was below goes.
func (f forest) put(path string, n node) {
	f.remove(path)
	for at, c := range path {
		if above := path[:at]; c == '/' && f[above].kind() != unix.S_IFDIR {
			f.remove(above)
			f[above] = node{mode: unix.S_IFDIR | 0o755}
		}
	}
	f[path] = n
}

func (f forest) remove(path string) {
	maps.DeleteFunc(f, func(one string, _ node) bool { return one == path || strings.HasPrefix(one, path+"/") })
}

func randomPath(random *rand.Rand, extra ...string) string {
	choice := append(slices.Clone(names), extra...)
	// At the top git itself would trip over a broken .git.
	parts := []string{names[random.Intn(len(names))]}
	for range random.Intn(3) {
		parts = append(parts, choice[random.Intn(len(choice))])
	}
	return strings.Join(parts, "/")
}

func randomPair(random *rand.Rand, extra ...string) (from, to forest) {
	from = forest{}
	for range random.Intn(25) {
		from.put(randomPath(random, extra...), randomNode(random))
	}
	to = maps.Clone(from)
	paths := slices.Sorted(maps.Keys(from))
	for range random.Intn(20) {
		path := randomPath(random, extra...)
		if len(paths) > 0 && random.Intn(2) == 0 {
			path = paths[random.Intn(len(paths))]
		}
		switch random.Intn(4) {
		case 0:
			to.remove(path)
		case 1:
			if n, found := to[path]; found && n.kind() == unix.S_IFREG {
				n.mode ^= []uint32{0o111, 0o022, 0o4000}[random.Intn(3)]
				to[path] = n
			}
		default:
			to.put(path, randomNode(random))
		}
	}
	return from, to
}
