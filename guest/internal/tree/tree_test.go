package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
	"pyro.dev/agent/internal/scratch"
)

var background = context.Background()

func TestMain(m *testing.M) {
	if gvisortest.Inside() {
		os.Exit(m.Run())
	}
	os.Exit(scratch.InMemory(m.Run))
}

func TestFoldersAreOpenedSafelyInGvisor(t *testing.T) {
	gvisortest.Run(t, "^Test(OpenFolder|Names|Delete|AWalk|ADeep)")
}

// exact is what find(1) sees: kind, mode, owner, size, target, links, device, time and allocated blocks aside.
const exact = `%P\t%y %#m %U:%G %s %l %n %T@\0`

func find(t testing.TB, root, format string) []string {
	t.Helper()
	command := exec.Command("find", ".", "-printf", format)
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\x00")
	slices.Sort(lines)
	return lines
}

// attributes are all extended ones, as getfattr(1) sees them.
func attributes(t testing.TB, root string) string {
	t.Helper()
	command := exec.Command("getfattr", "-R", "-d", "-h", "-m", "-", "-e", "hex", ".")
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(out), "\n\n")
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n")
}

func sums(t testing.TB, root string) string {
	t.Helper()
	command := exec.Command("sh", "-c", "find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum")
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// hardLinks groups the names of each file.
func hardLinks(t testing.TB, root string) string {
	t.Helper()
	groups := map[string][]string{}
	for _, line := range find(t, root, `%i %P\0`) {
		inode, path, _ := strings.Cut(line, " ")
		groups[inode] = append(groups[inode], path)
	}
	var lines []string
	for _, group := range groups {
		slices.Sort(group)
		lines = append(lines, fmt.Sprintf("%q", group))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func wantSame(t *testing.T, source, target string) {
	t.Helper()
	if a, b := find(t, source, exact), find(t, target, exact); !slices.Equal(a, b) {
		for _, line := range a {
			if !slices.Contains(b, line) {
				t.Errorf("missing: %q", line)
			}
		}
		for _, line := range b {
			if !slices.Contains(a, line) {
				t.Errorf("unwanted: %q", line)
			}
		}
	}
	if a, b := attributes(t, source), attributes(t, target); a != b {
		t.Errorf("attributes are\n%s\nwant\n%s", b, a)
	}
	if sums(t, source) != sums(t, target) {
		t.Error("contents differ")
	}
	if hardLinks(t, source) != hardLinks(t, target) {
		t.Error("hard links differ")
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// grow makes a random tree of every kind of entry.
func grow(t testing.TB, root string, random *rand.Rand, entries int) {
	t.Helper()
	folders := []string{root}
	var files []string
	for n := range entries {
		folder := folders[random.IntN(len(folders))]
		path := fmt.Sprintf("%s/%d%s", folder, n, []string{"", " space", "\xff\xfe", "\nline", "ü", "'\"\\"}[random.IntN(6)])
		switch random.IntN(9) {
		case 0, 1:
			must(t, os.Mkdir(path, 0o755))
			folders = append(folders, path)
		case 2:
			must(t, os.Symlink([]string{"x", "/etc", "..", strings.Repeat("long/", 200), "gone"}[random.IntN(5)], path))
		case 3:
			if len(files) > 0 {
				must(t, os.Link(files[random.IntN(len(files))], path))
				files = append(files, path)
			}
			continue
		case 4:
			kind := []uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK}[random.IntN(4)]
			if gvisortest.Inside() {
				kind = unix.S_IFIFO
			}
			must(t, unix.Mknod(path, kind|0o640, int(unix.Mkdev(1, uint32(random.IntN(9))))))
		default:
			must(t, os.WriteFile(path, bytes.Repeat([]byte{byte(n)}, random.IntN(20_000)), 0o644))
			files = append(files, path)
		}
		must(t, os.Lchown(path, random.IntN(3)*1000, random.IntN(3)*1000))
		info, err := os.Lstat(path)
		must(t, err)
		if info.Mode().Type() != os.ModeSymlink {
			must(t, unix.Chmod(path, uint32(random.IntN(0o10000))|0o700*uint32(random.IntN(2))))
			if random.IntN(3) == 0 && info.Mode().IsRegular() {
				if err := unix.Lsetxattr(path, "user.mark", []byte{0, 1, byte(n)}, 0); err != unix.EOPNOTSUPP {
					must(t, err)
				}
			}
		}
		if random.IntN(4) == 0 {
			if err := unix.Lsetxattr(path, "trusted.mark", []byte("t"), 0); err != unix.EOPNOTSUPP && !gvisortest.Inside() {
				must(t, err)
			}
		}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 1}, {Sec: int64(random.IntN(1 << 30)), Nsec: int64(random.IntN(1e9))}}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

func TestACopyIsExact(t *testing.T) {
	for seed := range uint64(4) {
		outer := t.TempDir()
		source, target := outer+"/source", outer+"/target"
		must(t, os.Mkdir(source, 0o751))
		grow(t, source, rand.New(rand.NewPCG(seed, 1)), 300)
		must(t, os.Chtimes(source, time.Unix(5, 0), time.Unix(1000, 7)))
		result, err := Copy(background, source, target)
		must(t, err)
		wantSame(t, source, target)
		if want := int64(len(find(t, source, `x\0`)) - 1); result.Entries != want {
			t.Errorf("counted %d entries of %d", result.Entries, want)
		}
	}
}

func TestACopyKeepsSetIDBitsCapabilitiesAndACLs(t *testing.T) {
	outer := t.TempDir()
	source, target := outer+"/source", outer+"/target"
	must(t, os.Mkdir(source, 0o755), os.WriteFile(source+"/f", []byte("x"), 0o755), os.Chown(source+"/f", 1000, 1000), unix.Chmod(source+"/f", 0o6755))
	// cap_net_raw=ep
	must(t, unix.Setxattr(source+"/f", "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	_, err := Copy(background, source, target)
	must(t, err)
	wantSame(t, source, target)
	if !strings.Contains(attributes(t, target), "security.capability") {
		t.Error("the capability is gone")
	}
}

func TestACopyKeepsHoles(t *testing.T) {
	outer := t.TempDir()
	source, target := outer+"/source", outer+"/target"
	must(t, os.Mkdir(source, 0o755))
	for name, places := range map[string][]int64{"holes": {0, 1 << 20, 9<<20 + 123, 31 << 20}, "all": {}, "end": {5 << 20}} {
		file, err := os.Create(source + "/" + name)
		must(t, err, file.Truncate(32<<20+5))
		for _, at := range places {
			_, err := file.WriteAt([]byte("data"), at)
			must(t, err)
		}
		must(t, file.Close())
	}
	_, err := Copy(background, source, target)
	must(t, err)
	wantSame(t, source, target)
	usage, err := Measure(background, target)
	must(t, err)
	if usage.Bytes > 1<<20 {
		t.Errorf("the copy occupies %d bytes", usage.Bytes)
	}
}

func TestACopyThatFailsLeavesNothing(t *testing.T) {
	outer := t.TempDir()
	source := outer + "/source"
	must(t, os.MkdirAll(source+"/deep/er", 0o755), os.WriteFile(source+"/deep/er/f", make([]byte, 200_000), 0o644), os.Mkdir(outer+"/small", 0o755))
	must(t, unix.Mount("tmpfs", outer+"/small", "tmpfs", 0, "size=64k"))
	defer unix.Unmount(outer+"/small", unix.MNT_DETACH)
	if _, err := Copy(background, source, outer+"/small/target"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
	cancelled, cancel := context.WithCancel(background)
	cancel()
	if _, err := Copy(cancelled, source, outer+"/small/target"); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancel: %v", err)
	}
	must(t, unix.Mount("tmpfs", source+"/deep/er", "tmpfs", 0, ""))
	defer unix.Unmount(source+"/deep/er", unix.MNT_DETACH)
	if _, err := Copy(background, source, outer+"/small/target"); !errors.Is(err, ErrMount) {
		t.Errorf("a mount inside: %v", err)
	}
	if left := find(t, outer+"/small", `%P\0`); len(left) != 2 {
		t.Errorf("left are %q", left)
	}
}

func TestACopyNeverWritesOverWhatIsThere(t *testing.T) {
	outer := t.TempDir()
	must(t, os.MkdirAll(outer+"/source/x", 0o755), os.MkdirAll(outer+"/target/kept", 0o755), os.Symlink("target", outer+"/link"))
	for _, target := range []string{"target", "link"} {
		if _, err := Copy(background, outer+"/source", outer+"/"+target); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: %v", target, err)
		}
	}
	if _, err := os.Lstat(outer + "/target/kept"); err != nil {
		t.Error(err)
	}
	if _, err := Copy(background, outer+"/link", outer+"/new"); err == nil {
		t.Error("a symlink is copied as a tree")
	}
}

func TestADeepTreeCostsFewDescriptors(t *testing.T) {
	const depth = 1500
	outer := t.TempDir()
	at, err := unix.Open(outer, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err, unix.Mkdirat(at, "source", 0o755))
	for n := range depth {
		name := "d"
		if n == 0 {
			name = "source"
		}
		must(t, func() error {
			if n > 0 {
				return unix.Mkdirat(at, name, 0o755)
			}
			return nil
		}())
		next, err := OpenFolder(at, name)
		must(t, err)
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	before := descriptors(t)
	result, err := Copy(background, outer+"/source", outer+"/target")
	must(t, err)
	if result.Entries != depth {
		t.Errorf("copied %d", result.Entries)
	}
	for _, name := range []string{"source", "target"} {
		usage, err := Measure(background, outer+"/"+name)
		must(t, err, Sync(background, outer+"/"+name))
		if usage.Entries != depth-1 {
			t.Errorf("measured %d", usage.Entries)
		}
		parent, err := Open(outer)
		must(t, err)
		removed, err := Delete(background, parent.Fd(), name)
		must(t, err, parent.Leave())
		if removed != depth {
			t.Errorf("removed %d", removed)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func remove(t testing.TB, parent, name string) (int64, error) {
	t.Helper()
	dir, err := Open(parent)
	must(t, err)
	defer dir.Leave()
	return Delete(background, dir.Fd(), name)
}

func TestDeleteRemovesEverythingAndFollowsNothing(t *testing.T) {
	outer := t.TempDir()
	must(t, os.MkdirAll(outer+"/kept/x", 0o755), os.Mkdir(outer+"/tree", 0o755))
	grow(t, outer+"/tree", rand.New(rand.NewPCG(9, 9)), 200)
	must(t, os.Symlink(outer+"/kept", outer+"/tree/link"), os.Symlink("kept", outer+"/link"), os.Mkdir(outer+"/tree/closed", 0))
	want := int64(len(find(t, outer+"/tree", `x\0`)) - 1)
	if removed, err := remove(t, outer, "tree"); err != nil || removed != want {
		t.Errorf("removed %d of %d, %v", removed, want, err)
	}
	if removed, err := remove(t, outer, "link"); err != nil || removed != 1 {
		t.Errorf("removed %d, %v", removed, err)
	}
	if _, err := remove(t, outer, "gone"); err != unix.ENOENT {
		t.Errorf("got %v", err)
	}
	if got := find(t, outer, `%P\0`); strings.Join(got, ",") != ",,kept,kept/x" {
		t.Errorf("left are %q", got)
	}
}

func TestDeleteStopsAtAMount(t *testing.T) {
	if gvisortest.Inside() {
		return // It does not tell mounts apart, and nothing inside deletes trees with mounts.
	}
	outer := t.TempDir()
	must(t, os.MkdirAll(outer+"/tree/a/mounted", 0o755))
	must(t, unix.Mount("tmpfs", outer+"/tree/a/mounted", "tmpfs", 0, ""))
	defer unix.Unmount(outer+"/tree/a/mounted", unix.MNT_DETACH)
	must(t, os.WriteFile(outer+"/tree/a/mounted/kept", nil, 0o644))
	if _, err := remove(t, outer, "tree"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v", err)
	}
	if _, err := remove(t, outer+"/tree/a", "mounted"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(outer + "/tree/a/mounted/kept"); err != nil {
		t.Error(err)
	}
}

func TestMeasureCountsWhatDuCounts(t *testing.T) {
	root := t.TempDir()
	grow(t, root, rand.New(rand.NewPCG(3, 3)), 300)
	usage, err := Measure(background, root)
	must(t, err)
	var blocks int64
	seen := map[string]bool{}
	entries := 0
	for _, line := range find(t, root, `%i %b %P\0`) {
		var inode string
		var size int64
		if _, err := fmt.Sscan(line, &inode, &size); err != nil || strings.HasSuffix(line, " ") {
			continue
		}
		entries++
		if !seen[inode] {
			blocks += size * 512
		}
		seen[inode] = true
	}
	if usage.Bytes != blocks || usage.Entries != int64(entries) {
		t.Errorf("got %+v, find says %d entries and %d bytes", usage, entries, blocks)
	}
}

func TestOpenFolderOpensNothingElse(t *testing.T) {
	root := t.TempDir()
	must(t, os.Mkdir(root+"/d", 0o755), os.WriteFile(root+"/f", nil, 0o644), os.Symlink("d", root+"/link"), os.Symlink(root, root+"/out"), unix.Mkfifo(root+"/fifo", 0o644))
	dir, err := Open(root)
	must(t, err)
	defer dir.Leave()
	for _, name := range []string{"link", "out", "f", "fifo"} {
		if fd, err := OpenFolder(dir.Fd(), name); err != unix.ENOTDIR && err != unix.ELOOP {
			t.Errorf("%s: %d %v", name, fd, err)
		}
	}
	if _, err := OpenFolder(dir.Fd(), "gone"); err != unix.ENOENT {
		t.Errorf("got %v", err)
	}
	fd, err := OpenFolder(dir.Fd(), "d")
	must(t, err, unix.Close(fd))
	if _, err := Open(root + "/link"); err == nil {
		t.Error("a walk begins at a symlink")
	}
}

func TestAWalkNoticesThatItsFoldersMoved(t *testing.T) {
	root := t.TempDir()
	deep := strings.Repeat("d/", openLevels+10)
	must(t, os.MkdirAll(root+"/"+deep, 0o755), os.Mkdir(root+"/elsewhere", 0o755))
	dir, err := Open(root)
	must(t, err)
	levels := []*Dir{dir}
	for range openLevels + 10 {
		dir, err = dir.Enter("d")
		must(t, err)
		levels = append(levels, dir)
	}
	// The fifth level's descriptor was given up; its child moves away.
	must(t, os.Rename(root+"/d/d/d/d/d/d", root+"/elsewhere/d"))
	moved := false
	for at := len(levels) - 1; at > 0; at-- {
		if err := levels[at].Leave(); err != nil {
			moved = errors.Is(err, ErrMoved)
			if !moved {
				t.Errorf("level %d: %v", at, err)
			}
		}
	}
	must(t, levels[0].Leave())
	if !moved {
		t.Error("nothing was noticed")
	}
}

func TestNamesAreSortedAndComplete(t *testing.T) {
	root := t.TempDir()
	var want []string
	for n := range 3000 {
		name := fmt.Sprintf("%d-%s", n, strings.Repeat("x", n%200))
		must(t, os.WriteFile(filepath.Join(root, name), nil, 0o644))
		want = append(want, name)
	}
	slices.Sort(want)
	dir, err := Open(root)
	must(t, err)
	defer dir.Leave()
	for range 2 {
		names, err := dir.Names()
		must(t, err)
		var got []string
		for _, name := range names {
			got = append(got, name.Name)
			if name.Kind != unix.DT_REG && name.Kind != unix.DT_UNKNOWN {
				t.Errorf("%s is of kind %d", name.Name, name.Kind)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %d names of %d", len(got), len(want))
		}
	}
}
