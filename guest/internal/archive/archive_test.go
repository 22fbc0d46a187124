package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/scratch"
)

func TestMain(m *testing.M) {
	if gvisortest.Inside() {
		os.Exit(m.Run())
	}
	os.Exit(scratch.InMemory(m.Run))
}

// entry is a header and its content.
type entry struct {
	tar.Header
	content string
}

var stamp = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: stamp, Size: int64(len(content))}, content}
}

func folder(name string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: stamp}}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, ModTime: stamp}}
}

func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644, ModTime: stamp}}
}

func node(name string, kind byte) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: kind, Mode: 0o644, ModTime: stamp, Devmajor: 1, Devminor: 3}}
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, e := range entries {
		header := e.Header
		if err := writer.WriteHeader(&header); err != nil {
			t.Fatalf("%q: %v", e.Name, err)
		}
		if _, err := io.WriteString(writer, e.content); err != nil {
			t.Fatalf("%q: %v", e.Name, err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gzipped(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	if _, err := writer.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	writer, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var wide = message.ArchiveLimits{Entries: 100_000, Bytes: 1 << 30, PathBytes: 4096}

func openRoot(t testing.TB, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// extract unpacks as a seed is unpacked.
func extract(t testing.TB, root string, archive []byte) (Result, error) {
	t.Helper()
	return Extract(context.Background(), openRoot(t, root), bytes.NewReader(archive), Options{Limits: wide, Root: "/workspace"})
}

func mustExtract(t testing.TB, root string, archive []byte) Result {
	t.Helper()
	result, err := extract(t, root, archive)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func wantKind(t testing.TB, err error, kind message.ErrorKind, entry string) {
	t.Helper()
	var typed *message.Error
	if !errors.As(err, &typed) || typed.Kind != kind {
		t.Fatalf("got %v, want an error of kind %s", err, kind)
	}
	if entry != "" && typed.Data["entry"] != entry {
		t.Fatalf("%s: names %q, want %q", typed.Message, typed.Data["entry"], entry)
	}
}

// listing is the tree as find(1) sees it.
func listing(t testing.TB, root, format string) string {
	t.Helper()
	find := exec.Command("find", ".", "-mindepth", "1", "-printf", format)
	find.Dir = root
	var problems bytes.Buffer
	find.Stderr = &problems
	out, err := find.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, problems.Bytes())
	}
	lines := strings.SplitAfter(string(out), "\x00")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

const (
	names    = `%P\0`
	whole    = `%P %y %m %U:%G %s %l %n %T@\0`
	timeless = `%P %y %m %U:%G %s %l %n\0`
)

func contentOf(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	command := exec.Command(name, args...)
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, problems.Bytes())
	}
	return out
}

func TestATreeIsExtractedAsTarExtractsIt(t *testing.T) {
	source := t.TempDir()
	put(t, source+"/plain", "text")
	put(t, source+"/deep/er/still/file", "deep")
	put(t, source+"/with space/ü\n\"quoted\"", "odd")
	put(t, source+"/not-utf8-\xff\xfe", "bytes")
	put(t, source+"/"+strings.Repeat("long", 60)+"/"+strings.Repeat("name", 60), "long")
	put(t, source+"/secret", "x")
	put(t, source+"/program", "#!")
	for path, mode := range map[string]uint32{"secret": 0o600, "program": 0o755, "deep": 0o1777, "deep/er": 0o700} {
		if err := unix.Chmod(source+"/"+path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Mkdir(source+"/empty", 0o750),
		os.Symlink("deep/er", source+"/link"),
		os.Symlink("nowhere", source+"/dangling"),
		os.Symlink("../../plain", source+"/deep/er/up"),
		os.Link(source+"/plain", source+"/deep/hard"),
		os.Link(source+"/link", source+"/hard-symlink"),
		os.Chtimes(source+"/deep", stamp, stamp.Add(123456789*time.Nanosecond)),
		os.Chtimes(source+"/plain", stamp, stamp.Add(987654321*time.Nanosecond)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []string{"posix", "gnu", "oldgnu"} {
		archive := run(t, "tar", "-C", source, "--format="+format, "-c", ".")
		want, got := t.TempDir(), t.TempDir()
		reference := t.TempDir() + "/a.tar"
		if err := os.WriteFile(reference, archive, 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, "tar", "-C", want, "-p", "-x", "-f", reference)
		for name, bytes := range map[string][]byte{"plain": archive, "gzip": gzipped(t, archive), "zstd": zstandard(t, archive)} {
			result := mustExtract(t, got, bytes)
			if a, b := listing(t, want, whole), listing(t, got, whole); a != b {
				t.Errorf("%s %s: got\n%s\nwant\n%s", format, name, printable(b), printable(a))
			}
			if result.Files < 12 || result.Bytes != 23 {
				t.Errorf("%s %s: counted %+v", format, name, result)
			}
			run(t, "diff", "-r", "--no-dereference", want, got)
			got = t.TempDir()
		}
	}
}

func printable(listing string) string { return strings.ReplaceAll(listing, "\x00", "\n") }

func TestSeededFilesBelongToTheExtractorWithoutSetIDBits(t *testing.T) {
	root := t.TempDir()
	entries := []entry{file("suid", "x"), file("sgid", "x"), folder("sticky/"), folder("sgid-folder/"), file("sticky-file", "x")}
	for n, mode := range []int64{0o4755, 0o2755, 0o1777, 0o2775, 0o1644} {
		entries[n].Mode, entries[n].Uid, entries[n].Gid = mode, 1234, 2345
	}
	entries[0].PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b", "SCHILY.xattr.security.capability": "c"}
	mustExtract(t, root, pack(t, entries...))
	want := "sgid f 755 0:0 1  1\x00sgid-folder d 775 0:0\x00sticky d 1777 0:0\x00sticky-file f 644 0:0 1  1\x00suid f 755 0:0 1  1\x00"
	got := listing(t, root, `%P %y %m %U:%G %s %l %n\0`)
	for line := range strings.SplitSeq(want, "\x00") {
		if !strings.Contains(got, line) {
			t.Errorf("%q is missing in %s", line, printable(got))
		}
	}
	if list, err := unix.Listxattr(root+"/suid", nil); err == nil && list > 0 {
		t.Error("extended attributes were taken")
	}
}

func TestUnsafeEntriesAreRefusedByName(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		kind    message.ErrorKind
		entry   string
		entries []entry
	}{
		"absolute path":              {message.KindUnsafeEntry, "/etc/x", []entry{file("/etc/x", "x")}},
		"many slashes":               {message.KindUnsafeEntry, "//x", []entry{file("//x", "x")}},
		"absolute folder":            {message.KindUnsafeEntry, "/", []entry{folder("/")}},
		"upwards":                    {message.KindUnsafeEntry, "../x", []entry{file("../x", "x")}},
		"upwards in between":         {message.KindUnsafeEntry, "a/../../x", []entry{file("a/../../x", "x")}},
		"upwards and back":           {message.KindUnsafeEntry, "a/../x", []entry{file("a/../x", "x")}},
		"upwards as a folder":        {message.KindUnsafeEntry, "a/..", []entry{folder("a/..")}},
		"the folder above":           {message.KindUnsafeEntry, "..", []entry{folder("..")}},
		"character device":           {message.KindUnsafeEntry, "null", []entry{node("null", tar.TypeChar)}},
		"block device":               {message.KindUnsafeEntry, "disk", []entry{node("disk", tar.TypeBlock)}},
		"FIFO":                       {message.KindUnsafeEntry, "a/pipe", []entry{node("a/pipe", tar.TypeFifo)}},
		"the root as a file":         {message.KindUnsafeEntry, "./", []entry{symlink("./", "x")}},
		"symlink upwards":            {message.KindUnsafeEntry, "s", []entry{symlink("s", "..")}},
		"symlink upwards deep":       {message.KindUnsafeEntry, "a/b/s", []entry{symlink("a/b/s", "../../../x")}},
		"symlink down and up":        {message.KindUnsafeEntry, "s", []entry{symlink("s", "a/b/../../../x")}},
		"symlink absolute":           {message.KindUnsafeEntry, "s", []entry{symlink("s", "/etc/passwd")}},
		"symlink beside the root":    {message.KindUnsafeEntry, "s", []entry{symlink("s", "/workspace-other")}},
		"symlink above the root":     {message.KindUnsafeEntry, "s", []entry{symlink("s", "/workspace/../etc")}},
		"symlink of no target":       {message.KindUnsafeEntry, "s", []entry{symlink("s", "")}},
		"file through a symlink":     {message.KindUnsafeEntry, "s/x", []entry{folder("d"), symlink("s", "d"), file("s/x", "x")}},
		"folder through a symlink":   {message.KindUnsafeEntry, "s/x/", []entry{folder("d"), symlink("s", "d"), folder("s/x/")}},
		"symlink through a symlink":  {message.KindUnsafeEntry, "s/t", []entry{folder("d/e"), symlink("s", "d/e"), symlink("s/t", "../..")}},
		"link through a symlink":     {message.KindUnsafeEntry, "h", []entry{file("d/f", "x"), symlink("s", "d"), hardlink("h", "s/f")}},
		"file through a file":        {message.KindUnsafeEntry, "f/x", []entry{file("f", "x"), file("f/x", "x")}},
		"hard link upwards":          {message.KindUnsafeEntry, "h", []entry{hardlink("h", "../x")}},
		"hard link absolute":         {message.KindUnsafeEntry, "h", []entry{hardlink("h", "/etc/passwd")}},
		"hard link to nothing":       {message.KindUnsafeEntry, "h", []entry{hardlink("h", "gone")}},
		"hard link to a folder":      {message.KindUnsafeEntry, "h", []entry{folder("d"), hardlink("h", "d")}},
		"hard link to the root":      {message.KindUnsafeEntry, "h", []entry{hardlink("h", ".")}},
		"file over a folder":         {message.KindUnsafeEntry, "d", []entry{folder("d"), file("d", "x")}},
		"path beyond the limit":      {message.KindTooLarge, strings.Repeat("d/", 2048), []entry{file(strings.Repeat("d/", 2050)+"x", "x")}},
		"part beyond what disks can": {message.KindTooLarge, long, []entry{file(long, "x")}},
	} {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			root := outer + "/root"
			put(t, outer+"/x", "outside")
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			before := listing(t, outer, whole)
			_, err := extract(t, root, pack(t, append([]entry{file("first", "1")}, c.entries...)...))
			wantKind(t, err, c.kind, c.entry)
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			after := listing(t, outer, timeless)
			if before = listing(t, outer, timeless); before != after || contentOf(t, outer+"/x") != "outside" {
				t.Errorf("outside is %s", printable(after))
			}

			// Pushed, nothing of it may be there afterwards.
			input := message.ExtractInput{Dest: root, Limits: wide}
			_, err = Push(context.Background(), input, bytes.NewReader(pack(t, append([]entry{file("first", "1")}, c.entries...)...)), nil)
			var typed *message.Error
			if !errors.As(err, &typed) || typed.Kind != c.kind {
				t.Fatalf("pushed: %v", err)
			}
			if after := listing(t, outer, timeless); after != before {
				t.Errorf("pushing left %s", printable(after))
			}
		})
	}
}

func TestSymlinksThatStayInsideAreStored(t *testing.T) {
	root := t.TempDir()
	targets := map[string]string{
		"a": "b", "b": ".", "c": "./x/..", "d": "/workspace", "e": "/workspace/x/y", "f": "x/../y", "deep/er/g": "../../a", "h": "/workspace/",
		"i": "//workspace",
	}
	var entries []entry
	for name, target := range targets {
		entries = append(entries, symlink(name, target))
	}
	_, err := extract(t, root, pack(t, symlink("i", "//workspace")))
	wantKind(t, err, message.KindUnsafeEntry, "i")
	delete(targets, "i")
	entries = slices.DeleteFunc(entries, func(e entry) bool { return e.Name == "i" })
	mustExtract(t, root, pack(t, entries...))
	for name, target := range targets {
		if got, err := os.Readlink(root + "/" + name); err != nil || got != target {
			t.Errorf("%s points to %q, %v", name, got, err)
		}
	}
}

func TestALaterEntryOfANameWins(t *testing.T) {
	root := t.TempDir()
	mustExtract(t, root, pack(t,
		file("a", "first"), file("a", "second"),
		symlink("b", "a"), file("b", "file now"),
		file("c", "file"), symlink("c", "a"),
		file("d", "file"), folder("d"), file("d/x", "below"),
		folder("e"), folder("e"), file("e/x", "y"), folder("e"),
		file("g", "one"), hardlink("h", "g"), file("g", "two"),
		hardlink("g", "g"),
	))
	for path, want := range map[string]string{"a": "second", "b": "file now", "d/x": "below", "e/x": "y", "g": "two", "h": "one"} {
		if got := contentOf(t, root+"/"+path); got != want {
			t.Errorf("%s holds %q", path, got)
		}
	}
}

func TestAReplacedFileIsNeverWrittenThrough(t *testing.T) {
	outer := t.TempDir()
	root := outer + "/root"
	put(t, outer+"/x", "outside")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Link(outer+"/x", root+"/hard"), os.Symlink("../x", root+"/soft")); err != nil {
		t.Fatal(err)
	}
	mustExtract(t, root, pack(t, file("hard", "new"), file("soft", "new")))
	if got := contentOf(t, outer+"/x"); got != "outside" {
		t.Errorf("the file outside holds %q", got)
	}
}

func TestAFolderSwappedForASymlinkNeverLeadsOut(t *testing.T) {
	outer := t.TempDir()
	root := outer + "/root"
	for _, path := range []string{outer + "/out", root + "/a"} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../out", root+"/b"); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, root+"/a", unix.AT_FDCWD, root+"/b", unix.RENAME_EXCHANGE)
			}
		}
	}()
	entries := []entry{folder("a")}
	for n := range 100 {
		entries = append(entries, file(fmt.Sprintf("a/sub%d/f", n), "x"), folder(fmt.Sprintf("a/sub%d", n)))
	}
	archive := pack(t, entries...)
	worked, refused := 0, 0
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		if _, err := extract(t, root, archive); err == nil {
			worked++
		} else {
			refused++
		}
	}
	close(stop)
	<-done
	if entries, err := os.ReadDir(outer + "/out"); err != nil || len(entries) > 0 {
		t.Errorf("outside there is %v %v", entries, err)
	}
	if worked+refused == 0 {
		t.Error("nothing was extracted")
	}
}

func TestLimitsAreEnforced(t *testing.T) {
	archive := pack(t, folder("d"), file("d/a", "12345"), file("d/b", "67890"), symlink("s", "d"))
	for _, c := range []struct {
		limits message.ArchiveLimits
		entry  string
	}{
		{message.ArchiveLimits{Entries: 4, Bytes: 10, PathBytes: 3}, ""},
		{message.ArchiveLimits{Entries: 3, Bytes: 10, PathBytes: 3}, "s"},
		{message.ArchiveLimits{Entries: 0, Bytes: 10, PathBytes: 3}, "d"},
		{message.ArchiveLimits{Entries: 4, Bytes: 9, PathBytes: 3}, "d/b"},
		{message.ArchiveLimits{Entries: 4, Bytes: 10, PathBytes: 2}, "d/a"},
		{message.ArchiveLimits{Entries: -1, Bytes: -1, PathBytes: -1}, "d"},
	} {
		root := openRoot(t, t.TempDir())
		_, err := Extract(context.Background(), root, bytes.NewReader(archive), Options{Limits: c.limits, Root: "/"})
		if c.entry == "" && err != nil {
			t.Errorf("%+v: %v", c.limits, err)
		} else if c.entry != "" {
			wantKind(t, err, message.KindTooLarge, c.entry)
		}
	}
}

func TestAHugeSparseEntryCountsInFull(t *testing.T) {
	source := t.TempDir()
	if err := os.WriteFile(source+"/bomb", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(source+"/bomb", 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"0.0", "0.1", "1.0"} {
		archive := run(t, "tar", "-C", source, "-S", "--format=posix", "--sparse-version="+version, "-c", "bomb")
		_, err := extract(t, t.TempDir(), archive)
		wantKind(t, err, message.KindTooLarge, "bomb")
	}
}

func TestHolesStayHoles(t *testing.T) {
	source := t.TempDir()
	sparse, err := os.Create(source + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	for _, at := range []int64{0, 1 << 20, 9<<20 + 123, 31 << 20} {
		if _, err := sparse.WriteAt([]byte("data at "+fmt.Sprint(at)), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := sparse.Truncate(32<<20 + 5); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"}} {
		root := t.TempDir()
		mustExtract(t, root, run(t, "tar", append(append([]string{"-C", source, "-S"}, args...), "-c", "sparse")...))
		run(t, "cmp", source+"/sparse", root+"/sparse")
		var stat unix.Stat_t
		if err := unix.Stat(root+"/sparse", &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Blocks*512 > 1<<20 {
			t.Errorf("%v: %d bytes are allocated", args, stat.Blocks*512)
		}
	}
}

func TestAnArchiveCutAnywhereIsTruncated(t *testing.T) {
	plain := pack(t, folder("d"), file("d/a", strings.Repeat("content ", 300)), symlink("d/s", "a"), hardlink("h", "d/a"), file("last", "x"))
	root := t.TempDir()
	for name, c := range map[string]struct {
		archive []byte
		step    int
	}{"plain": {plain, 61}, "gzip": {gzipped(t, plain), 7}, "zstd": {zstandard(t, plain), 7}} {
		mustExtract(t, root, c.archive)
		// The second block of the end marker may be missing.
		end := len(c.archive)
		if name == "plain" {
			end -= blockBytes
		}
		for at := 0; at < end; at += c.step {
			_, err := extract(t, root, c.archive[:at])
			if err == nil {
				t.Fatalf("%s cut at %d of %d is taken", name, at, len(c.archive))
			}
			wantKind(t, err, message.KindTruncated, "")
		}
		if _, err := extract(t, root, c.archive[:end-1]); err == nil {
			t.Errorf("%s without its last byte is taken", name)
		}
	}
}

func TestDamagedStreamsAreNoticed(t *testing.T) {
	plain := pack(t, file("a", strings.Repeat("content ", 3000)))
	zip := gzipped(t, plain)
	zip[len(zip)-6] ^= 1
	zst := zstandard(t, plain)
	zst[len(zst)/2] ^= 1
	header := bytes.Clone(plain)
	header[0] ^= 1
	for name, archive := range map[string][]byte{
		"checksum of gzip": zip, "zstd": zst, "checksum of a header": header, "empty": {}, "text": []byte(strings.Repeat("no archive ", 100)),
		"zeros only in part": make([]byte, 100),
	} {
		_, err := extract(t, t.TempDir(), archive)
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		wantKind(t, err, message.KindTruncated, "")
	}
}

func TestAnEmptyArchiveIsOne(t *testing.T) {
	for _, archive := range [][]byte{pack(t), make([]byte, 10240), gzipped(t, pack(t))} {
		if result := mustExtract(t, t.TempDir(), archive); result != (Result{}) {
			t.Errorf("got %+v", result)
		}
	}
}

func TestAFullDiskIsSaid(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	_, err := extract(t, root, pack(t, file("small", "x"), file("large", strings.Repeat("x", 100_000))))
	wantKind(t, err, message.KindNoSpace, "large")
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 2 {
		t.Errorf("there is %v %v", entries, err)
	}
}

func TestACancelledExtractEnds(t *testing.T) {
	cx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Extract(cx, openRoot(t, t.TempDir()), bytes.NewReader(pack(t, file("a", "x"))), Options{Limits: wide, Root: "/"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestManyFoldersNeedFewDescriptors(t *testing.T) {
	var entries []entry
	for n := range 2 * openFolderLimit {
		entries = append(entries, file(fmt.Sprintf("d%d/e/f", n), "x"))
	}
	for n := range 2 * openFolderLimit {
		entries = append(entries, hardlink(fmt.Sprintf("d%d/e/g", n), fmt.Sprintf("d%d/e/f", (n+700)%(2*openFolderLimit))))
	}
	entries = append(entries, file(strings.Repeat("x/", 1000)+"f", "deep"))
	root := t.TempDir()
	before := descriptors(t)
	if result := mustExtract(t, root, pack(t, entries...)); result.Files != int64(len(entries)) {
		t.Errorf("got %+v", result)
	}
	// The root itself is still open.
	if after := descriptors(t); after != before+1 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func FuzzExtract(f *testing.F) {
	for _, entries := range [][]entry{
		{file("a", "content")}, {folder("d"), file("d/a", "x"), symlink("s", "d/a"), hardlink("h", "d/a")}, {symlink("s", "../x")},
		{node("n", tar.TypeFifo)}, {file(strings.Repeat("long/", 60)+"x", "pax")}, {file("a\xff", "")}, {symlink("s", "d"), file("s/x", "y")},
	} {
		archive := pack(f, entries...)
		f.Add(archive, false)
		f.Add(gzipped(f, archive), true)
		f.Add(archive[:len(archive)*2/3], true)
	}
	f.Fuzz(func(t *testing.T, archive []byte, image bool) {
		outer := t.TempDir()
		root := outer + "/root"
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		limits := message.ArchiveLimits{Entries: 100, Bytes: 1 << 20, PathBytes: 1024}
		_, err := Extract(context.Background(), openRoot(t, root), bytes.NewReader(archive), Options{Limits: limits, Root: "/workspace", Image: image})
		var typed *message.Error
		if err != nil && !errors.As(err, &typed) {
			t.Errorf("an untyped error: %v", err)
		}
		if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
			t.Errorf("outside there is %v %v", entries, err)
		}
	})
}
