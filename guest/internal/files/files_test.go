package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
	"pyro.dev/agent/internal/message"
)

func TestEverythingHoldsInGvisor(t *testing.T) { gvisortest.Run(t, "^Test") }

// wholeFile is more than any file of these tests has.
const wholeFile = 1 << 20

func read(t *testing.T, request message.ReadFile) (*message.ReadFileResult, error) {
	t.Helper()
	if request.MaxBytes == 0 {
		request.MaxBytes = wholeFile
	}
	type answer struct {
		result *message.ReadFileResult
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		result, err := Read(context.Background(), &request)
		answered <- answer{result, err}
	}()
	select {
	case a := <-answered:
		return a.result, a.err
	case <-time.After(20 * time.Second):
		t.Fatalf("reading %q hangs", request.Path)
	}
	return nil, nil
}

func mustRead(t *testing.T, request message.ReadFile) *message.ReadFileResult {
	t.Helper()
	result, err := read(t, request)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func write(root, path, text string) (message.WriteFileResult, error) {
	return Write(&message.WriteFile{Root: root, Path: path, DataBase64: []byte(text)})
}

func replace(root, path, old, text string, all bool) (message.WriteFileResult, error) {
	return Write(&message.WriteFile{
		Root: root, Path: path, DataBase64: []byte(text), OldTextBase64: []byte(old), ReplaceAll: all,
	})
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind message.ErrorKind) *message.Error {
	t.Helper()
	var typed *message.Error
	if !errors.As(err, &typed) {
		t.Fatalf("got %v, want an error of kind %s", err, kind)
	}
	if typed.Kind != kind {
		t.Fatalf("got kind %s (%s), want %s", typed.Kind, typed.Message, kind)
	}
	return typed
}

// listing is every path below root with its kind, mode and content.
func listing(t *testing.T, root string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "%s %s", path, info.Mode())
		if info.Mode().IsRegular() {
			fmt.Fprintf(&all, " %q", contentOf(t, path))
		}
		all.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func pointer[T any](value T) *T { return &value }

func TestBytesOfAFileAreReadInWindows(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "0123456789")
	for _, c := range []struct {
		offset, maxBytes int64
		data             string
		more             bool
	}{
		{0, 4, "0123", true},
		{4, 6, "456789", false},
		{4, 5, "45678", true},
		{8, 100, "89", false},
		{10, 1, "", false},
		{1 << 40, 1, "", false},
	} {
		result := mustRead(t, message.ReadFile{Root: root, Path: "f", Offset: c.offset, MaxBytes: c.maxBytes})
		if string(result.DataBase64) != c.data || result.More != c.more || result.Offset != c.offset {
			t.Errorf("offset %d, at most %d: got %q, more %t at %d", c.offset, c.maxBytes, result.DataBase64, result.More, result.Offset)
		}
		if result.SizeBytes != 10 || result.Mode != "0644" || result.StartLine != nil || result.Lines != nil || result.TotalLines != nil {
			t.Errorf("offset %d: got %+v", c.offset, result)
		}
	}
}

func TestLinesOfAFileAreReadInWindowsWithTotals(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/ended", "one\ntwo\n\nfour\n")
	put(t, root+"/open", "one\ntwo")
	put(t, root+"/empty", "")
	put(t, root+"/newline", "\n")
	for _, c := range []struct {
		path          string
		start         *int64
		max           *int64
		maxBytes      int64
		data          string
		offset, lines int64
		total         int64
		more          bool
	}{
		{"ended", pointer[int64](1), nil, 100, "one\ntwo\n\nfour\n", 0, 4, 4, false},
		{"ended", nil, pointer[int64](2), 100, "one\ntwo\n", 0, 2, 4, true},
		{"ended", pointer[int64](2), pointer[int64](2), 100, "two\n\n", 4, 2, 4, true},
		{"ended", pointer[int64](4), pointer[int64](9), 100, "four\n", 9, 1, 4, false},
		{"ended", pointer[int64](5), nil, 100, "", 14, 0, 4, false},
		{"ended", pointer[int64](99), nil, 100, "", 14, 0, 4, false},
		{"ended", pointer[int64](1), nil, 7, "one\n", 0, 1, 4, true},
		{"ended", pointer[int64](1), nil, 8, "one\ntwo\n", 0, 2, 4, true},
		{"ended", pointer[int64](4), nil, 2, "fo", 9, 1, 4, true},
		{"open", pointer[int64](2), nil, 100, "two", 4, 1, 2, false},
		{"open", pointer[int64](2), pointer[int64](1), 2, "tw", 4, 1, 2, true},
		{"empty", pointer[int64](1), nil, 100, "", 0, 0, 0, false},
		{"newline", pointer[int64](1), nil, 100, "\n", 0, 1, 1, false},
	} {
		result := mustRead(t, message.ReadFile{Root: root, Path: c.path, StartLine: c.start, MaxLines: c.max, MaxBytes: c.maxBytes})
		got := fmt.Sprintf("%q at %d, %d of %d lines, more %t", result.DataBase64, result.Offset, *result.Lines, *result.TotalLines, result.More)
		want := fmt.Sprintf("%q at %d, %d of %d lines, more %t", c.data, c.offset, c.lines, c.total, c.more)
		if got != want {
			t.Errorf("%s: got %s, want %s", c.path, got, want)
		}
	}
}

func TestLinesAreFoundAcrossReads(t *testing.T) {
	root := t.TempDir()
	var text strings.Builder
	var starts []int
	for n := 0; text.Len() < 3*scanBytes; n++ {
		starts = append(starts, text.Len())
		text.WriteString(strings.Repeat("x", n*n%3001) + "\n")
	}
	put(t, root+"/f", text.String())
	for start := 1; start < len(starts); start += 13 {
		result := mustRead(t, message.ReadFile{
			Root: root, Path: "f", StartLine: pointer(int64(start)), MaxLines: pointer[int64](1), MaxBytes: wholeFile,
		})
		want := text.String()[starts[start-1]:starts[start]]
		if string(result.DataBase64) != want || result.Offset != int64(starts[start-1]) || *result.TotalLines != int64(len(starts)) {
			t.Fatalf("line %d: %d bytes at %d of %d lines", start, len(result.DataBase64), result.Offset, *result.TotalLines)
		}
	}
}

func TestAFileOfOneHugeLineIsReadInBoundedTimeAndMemory(t *testing.T) {
	root := t.TempDir()
	defer func(usual int64) { scanLimitBytes = usual }(scanLimitBytes)
	scanLimitBytes = 64 << 20
	put(t, root+"/f", "")
	if err := os.Truncate(root+"/f", 1<<40); err != nil {
		t.Fatal(err)
	}
	result := mustRead(t, message.ReadFile{Root: root, Path: "f", StartLine: pointer[int64](1), MaxBytes: 1 << 50})
	if len(result.DataBase64) != FileLimitBytes || !result.More || result.TotalLines != nil {
		t.Errorf("got %d bytes, more %t", len(result.DataBase64), result.More)
	}
	_, err := read(t, message.ReadFile{Root: root, Path: "f", StartLine: pointer[int64](2)})
	wantKind(t, err, message.KindLimit)
}

func TestAReadOfLinesEndsWithItsRequest(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "x")
	cx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Read(cx, &message.ReadFile{Root: root, Path: "f", StartLine: pointer[int64](1), MaxBytes: 1})
	if err == nil {
		t.Error("a cancelled read answers")
	}
}

func TestPathsStayBelowTheRoot(t *testing.T) {
	outer := t.TempDir()
	root := outer + "/root"
	put(t, outer+"/secret", "secret")
	put(t, root+"/in/f", "inside")
	link(t, "../secret", root+"/file-out")
	link(t, "..", root+"/folder-out")
	link(t, outer+"/secret", root+"/absolute-out")
	link(t, "/root/in/f", root+"/looks-inside")
	link(t, root+"/../secret", root+"/absolute-up")
	link(t, root+"x", root+"/beside")
	link(t, "in/../../secret", root+"/up-and-down")
	link(t, "in/f", root+"/file-in")
	link(t, root+"/in/f", root+"/absolute-in")
	link(t, "../root/in/f", root+"/out-and-in")
	link(t, "f", root+"/in/beside")
	link(t, "../in", root+"/in/again")
	for _, path := range []string{
		"../secret", "in/../../secret", "file-out", "folder-out/secret", "absolute-out", "absolute-up", "up-and-down",
		"beside", "looks-inside", "out-and-in", outer + "/secret", "/etc/passwd", root + "/../secret",
	} {
		_, err := read(t, message.ReadFile{Root: root, Path: path})
		wantKind(t, err, message.KindOutsideRoot)
		_, err = write(root, path, "changed")
		wantKind(t, err, message.KindOutsideRoot)
	}
	for _, path := range []string{
		"in/f", "./in//f", "in/../in/f", "file-in", "absolute-in", "in/beside", "in/again/again/beside", root + "/in/f",
	} {
		if result := mustRead(t, message.ReadFile{Root: root, Path: path}); string(result.DataBase64) != "inside" {
			t.Errorf("%s: got %q", path, result.DataBase64)
		}
	}
	if secret := contentOf(t, outer+"/secret"); secret != "secret" {
		t.Errorf("the file outside is %q", secret)
	}
}

func TestTheRootOfTheMachineHasNoOutside(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "text")
	for _, path := range []string{root + "/f", strings.TrimPrefix(root, "/") + "/f", "../.." + root + "/f"} {
		if result := mustRead(t, message.ReadFile{Root: "/", Path: path}); string(result.DataBase64) != "text" {
			t.Errorf("%s: got %q", path, result.DataBase64)
		}
	}
}

func TestAFolderSwappedForASymlinkNeverLeadsOut(t *testing.T) {
	outer := t.TempDir()
	root := outer + "/root"
	put(t, outer+"/out/f", "secret")
	put(t, root+"/a/f", "inside")
	link(t, "../out", root+"/b")
	swap := func() {
		_ = os.Rename(root+"/a", root+"/c")
		_ = os.Rename(root+"/b", root+"/a")
		time.Sleep(100 * time.Microsecond)
		_ = os.Rename(root+"/a", root+"/b")
		_ = os.Rename(root+"/c", root+"/a")
		time.Sleep(100 * time.Microsecond)
	}
	if !gvisortest.Inside() {
		swap = func() { _ = unix.Renameat2(unix.AT_FDCWD, root+"/a", unix.AT_FDCWD, root+"/b", unix.RENAME_EXCHANGE) }
	}
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Add(1)
	go func() {
		defer swapping.Done()
		for {
			select {
			case <-stop:
				return
			default:
				swap()
			}
		}
	}()
	inside, refused := 0, 0
	least, most := time.Now().Add(time.Second), time.Now().Add(20*time.Second)
	for time.Now().Before(least) || ((inside == 0 || refused == 0) && time.Now().Before(most)) {
		result, err := Read(context.Background(), &message.ReadFile{Root: root, Path: "a/f", MaxBytes: 10})
		switch {
		case err == nil && string(result.DataBase64) == "inside":
			inside++
		case err == nil:
			t.Fatalf("read %q", result.DataBase64)
		default:
			refused++
		}
		_, _ = write(root, "a/new", "mine")
	}
	close(stop)
	swapping.Wait()
	// Where folders cannot be exchanged in one step a write may have made another in between.
	if (inside == 0 || refused == 0) && !gvisortest.Inside() {
		t.Errorf("the race was not run: %d inside, %d refused", inside, refused)
	}
	if _, err := os.Lstat(outer + "/out/new"); err == nil {
		t.Error("a write went out of the root")
	}
}

func TestWhatIsNoFileIsRefusedWithoutBlocking(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(root+"/folder", 0o755); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK} {
		if err := unix.Mknod(root+"/"+path, mode|0o666, 0); err != nil {
			t.Fatal(err)
		}
	}
	link(t, "fifo", root+"/to-fifo")
	link(t, "/dev/zero", root+"/to-device")
	before := listing(t, root)
	for _, path := range []string{"folder", ".", "folder/", "folder/.", "fifo", "to-fifo", "socket"} {
		_, err := read(t, message.ReadFile{Root: root, Path: path})
		wantKind(t, err, message.KindNotAFile)
		_, err = write(root, path, "text")
		wantKind(t, err, message.KindNotAFile)
		_, err = replace(root, path, "a", "b", false)
		wantKind(t, err, message.KindNotAFile)
	}
	for _, path := range []string{"/dev/zero", root + "/to-device", "/dev/tty"} {
		_, err := read(t, message.ReadFile{Root: "/", Path: path})
		wantKind(t, err, message.KindNotAFile)
	}
	if after := listing(t, root); after != before {
		t.Errorf("something changed: %s", after)
	}
}

func TestFilesOfTheKernelAreReadWithoutWaiting(t *testing.T) {
	result := mustRead(t, message.ReadFile{Root: "/proc", Path: "self/stat"})
	if len(result.DataBase64) == 0 || result.More || result.SizeBytes != 0 {
		t.Errorf("got %q, %d bytes", result.DataBase64, result.SizeBytes)
	}
	result = mustRead(t, message.ReadFile{Root: "/proc", Path: "cpuinfo", StartLine: pointer[int64](1), MaxLines: pointer[int64](1)})
	if len(result.DataBase64) == 0 || *result.Lines != 1 || !result.More {
		t.Errorf("got %+v", result)
	}
	// Nothing is in it as long as nobody traces, and then it waits; elsewhere it cannot be opened.
	if _, err := read(t, message.ReadFile{Root: "/", Path: "/proc/kmsg"}); err == nil {
		return
	}
}

func TestMagicLinksAreNotFollowed(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "text")
	file, err := os.Open(root + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, err = read(t, message.ReadFile{Root: "/proc", Path: fmt.Sprintf("self/fd/%d", file.Fd())})
	wantKind(t, err, message.KindOutsideRoot)
}

func TestMissingThingsAreNamed(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "text")
	link(t, "gone", root+"/dangling")
	link(t, "loop", root+"/loop")
	for _, path := range []string{"gone", "gone/deep", "dangling", "loop", "loop/x", "f/x", "f/"} {
		_, err := read(t, message.ReadFile{Root: root, Path: path})
		if typed := wantKind(t, err, message.KindNotFound); !strings.Contains(typed.Message, fmt.Sprintf("%q", path)) {
			t.Errorf("%q does not name %q", typed.Message, path)
		}
		_, err = replace(root, path, "a", "b", false)
		wantKind(t, err, message.KindNotFound)
	}
	_, err := read(t, message.ReadFile{Root: root + "/gone", Path: "f"})
	wantKind(t, err, message.KindNotFound)
	_, err = read(t, message.ReadFile{Root: root + "/f", Path: "f"})
	wantKind(t, err, message.KindNotAFile)
	if got := listing(t, root); strings.Contains(got, "deep") {
		t.Errorf("an edit made folders: %s", got)
	}
}

func TestRequestsThatMakeNoSenseAreInvalid(t *testing.T) {
	root := t.TempDir()
	for _, request := range []message.ReadFile{
		{Root: "relative", Path: "f", MaxBytes: 1},
		{Root: "", Path: "f", MaxBytes: 1},
		{Root: root, Path: "", MaxBytes: 1},
		{Root: root, Path: "a\x00b", MaxBytes: 1},
		{Root: root, Path: strings.Repeat("x/", 4096), MaxBytes: 1},
		{Root: root, Path: strings.Repeat("x", 256), MaxBytes: 1},
		{Root: root, Path: "f", MaxBytes: -1},
		{Root: root, Path: "f", MaxBytes: 1, Offset: -1},
		{Root: root, Path: "f", MaxBytes: 1, StartLine: pointer[int64](0)},
		{Root: root, Path: "f", MaxBytes: 1, MaxLines: pointer[int64](-1)},
	} {
		_, err := Read(context.Background(), &request)
		wantKind(t, err, message.KindInvalid)
	}
	for _, request := range []message.WriteFile{
		{Root: root, Path: "f", OldTextBase64: []byte{}},
		{Root: root, Path: "f", Mode: pointer("644x")},
		{Root: root, Path: "f", Mode: pointer("4755")},
		{Root: root, Path: "f", Mode: pointer("99")},
		{Root: root, Path: strings.Repeat("x", 256)},
	} {
		_, err := Write(&request)
		wantKind(t, err, message.KindInvalid)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("something was made: %v %v", entries, err)
	}
}

func TestDeepFoldersCostNoDescriptors(t *testing.T) {
	root := t.TempDir()
	path := strings.Repeat("d/", 1000) + "f"
	if _, err := write(root, path, "deep"); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	if result := mustRead(t, message.ReadFile{Root: root, Path: strings.Repeat("d/", 500) + strings.Repeat("../", 200) + path[600:]}); string(result.DataBase64) != "deep" {
		t.Errorf("got %q", result.DataBase64)
	}
	_, err := write(root, path+"/x", "x")
	wantKind(t, err, message.KindNotAFile)
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
