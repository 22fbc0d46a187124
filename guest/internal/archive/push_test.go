package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/tree"
)

func push(t testing.TB, dest string, remove bool, archive []byte) (message.ExtractResult, error) {
	t.Helper()
	input := message.ExtractInput{Dest: dest, Delete: remove, Limits: wide}
	return Push(context.Background(), input, bytes.NewReader(archive), nil)
}

func mustPush(t testing.TB, dest string, remove bool, archive []byte) message.ExtractResult {
	t.Helper()
	result, err := push(t, dest, remove, archive)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestPushingHoldsInGvisor(t *testing.T) {
	gvisortest.Run(t, "^(TestA?Push|TestUnsafe|TestALater|TestAReplaced|TestATree)")
}

func TestAPushMergesFoldersAndReplacesTheRest(t *testing.T) {
	dest := t.TempDir()
	put(t, dest+"/kept", "kept")
	put(t, dest+"/d/kept", "kept")
	put(t, dest+"/d/replaced", "old")
	put(t, dest+"/file-to-folder", "old")
	put(t, dest+"/outside/x", "outside")
	for _, err := range []error{
		os.Symlink("outside/x", dest+"/link-to-file"), os.Symlink("outside", dest+"/link-to-folder"), os.Chmod(dest+"/d", 0o700),
		os.Mkdir(dest+"/empty-to-file", 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	result := mustPush(t, dest, false, pack(t,
		file("d/replaced", "new"), file("d/new", "new"), file("link-to-file", "new"), file("link-to-folder/x", "new"),
		file("file-to-folder/x", "new"), file("empty-to-file", "new"), symlink("d/s", "new"), hardlink("h", "d/new"),
	))
	for path, want := range map[string]string{
		"kept": "kept", "d/kept": "kept", "d/replaced": "new", "d/new": "new", "link-to-file": "new", "link-to-folder/x": "new",
		"outside/x": "outside", "file-to-folder/x": "new", "empty-to-file": "new", "d/s": "new", "h": "new",
	} {
		if got := contentOf(t, dest+"/"+path); got != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	if info, err := os.Stat(dest + "/d"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a folder that the archive does not name became %v %v", info, err)
	}
	if info, err := os.Lstat(dest + "/link-to-folder"); err != nil || !info.IsDir() {
		t.Errorf("a symlink to a folder was followed: %v %v", info, err)
	}
	if result.Bytes != 18 || result.Deleted != 0 {
		t.Errorf("got %+v", result)
	}
	noStage(t, dest)
}

func noStage(t testing.TB, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		for _, at := range []string{folder, folder + "/.."} {
			entries, err := os.ReadDir(at)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				if strings.HasPrefix(entry.Name(), stagePrefix) {
					t.Errorf("%s is left in %s", entry.Name(), at)
				}
			}
		}
	}
}

func TestAPushTakesModeAndTimeOfFoldersThatTheArchiveNames(t *testing.T) {
	dest := t.TempDir()
	put(t, dest+"/d/old", "x")
	named := folder("d")
	named.Mode = 0o711
	mustPush(t, dest, false, pack(t, named, file("d/new", "x")))
	var stat unix.Stat_t
	if err := unix.Stat(dest+"/d", &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Mode&0o7777 != 0o711 || stat.Mtim.Sec != stamp.Unix() {
		t.Errorf("mode %o, time %d", stat.Mode, stat.Mtim.Sec)
	}
}

func TestAPushWithDeleteLeavesWhatTheArchiveHolds(t *testing.T) {
	dest := t.TempDir()
	put(t, dest+"/gone/deep/file", "x")
	put(t, dest+"/d/gone", "x")
	put(t, dest+"/d/kept", "old")
	put(t, dest+"/folder-to-file/x", "old")
	if err := unix.Mkfifo(dest+"/pipe", 0o644); err != nil {
		t.Fatal(err)
	}
	result := mustPush(t, dest, true, pack(t, folder("d"), file("d/kept", "new"), file("folder-to-file", "new"), folder("empty")))
	if got := listing(t, dest, names); got != "d\x00d/kept\x00empty\x00folder-to-file\x00" {
		t.Errorf("there is %q", got)
	}
	if result.Deleted != 5 {
		t.Errorf("got %+v", result)
	}
	noStage(t, dest)
}

func TestAPushIntoAFolderThatDoesNotExistMakesIt(t *testing.T) {
	outer := t.TempDir()
	mustPush(t, outer+"/a/b/c", false, pack(t, file("f", "x")))
	if got := listing(t, outer, names); got != "a\x00a/b\x00a/b/c\x00a/b/c/f\x00" {
		t.Errorf("there is %q", got)
	}
}

func TestAPushThatIsRefusedChangesNothing(t *testing.T) {
	outer := t.TempDir()
	dest := outer + "/dest"
	put(t, dest+"/f", "old")
	put(t, dest+"/full/x", "old")
	put(t, outer+"/file", "x")
	before := listing(t, outer, whole)
	for name, c := range map[string]struct {
		dest    string
		archive []byte
		kind    message.ErrorKind
	}{
		"over a folder that is not empty": {dest, pack(t, file("f", "new"), file("full", "new")), message.KindExists},
		"truncated":                       {dest, pack(t, file("f", strings.Repeat("new", 1000)))[:1500], message.KindTruncated},
		"unsafe at its end":               {dest, pack(t, file("f", "new"), file("../x", "new")), message.KindUnsafeEntry},
		"into what it would make":         {outer + "/new/deep", pack(t, file("f", "new"), node("pipe", '6')), message.KindUnsafeEntry},
		"into a file":                     {outer + "/file", pack(t, file("f", "new")), message.KindNotAFile},
		"below a file":                    {outer + "/file/deep", pack(t, file("f", "new")), message.KindNotAFile},
		"to a relative place":             {"dest", pack(t, file("f", "new")), message.KindInvalid},
	} {
		_, err := push(t, c.dest, false, c.archive)
		var typed *message.Error
		if !errors.As(err, &typed) || typed.Kind != c.kind {
			t.Errorf("%s: got %v, want %s", name, err, c.kind)
		}
		if after := listing(t, outer, whole); after != before {
			t.Errorf("%s: left %s", name, printable(after))
		}
	}
}

func TestAPushThatIsCancelledChangesNothing(t *testing.T) {
	dest := t.TempDir()
	put(t, dest+"/f", "old")
	before := listing(t, dest, whole)
	cx, cancel := context.WithCancel(context.Background())
	archive := pack(t, file("f", "new"), file("g", "new"))
	reader, writer := io.Pipe()
	go func() {
		_, _ = writer.Write(archive[:1024])
		cancel()
		writer.CloseWithError(context.Canceled)
	}()
	if _, err := Push(cx, message.ExtractInput{Dest: dest, Limits: wide}, reader, nil); err == nil {
		t.Error("a cancelled push succeeds")
	}
	if after := listing(t, dest, whole); after != before {
		t.Errorf("it left %s", printable(after))
	}
	noStage(t, dest)
}

func TestAPushOntoAFullDiskChangesNothing(t *testing.T) {
	dest := t.TempDir()
	if err := unix.Mount("tmpfs", dest, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dest, unix.MNT_DETACH)
	put(t, dest+"/f", "old")
	before := listing(t, dest, timeless)
	_, err := push(t, dest, false, pack(t, file("f", "new"), file("large", strings.Repeat("x", 100_000))))
	wantKind(t, err, message.KindNoSpace, "large")
	if after := listing(t, dest, timeless); after != before {
		t.Errorf("it left %s", printable(after))
	}
}

func TestAPushStagesInsideADestinationThatIsAMount(t *testing.T) {
	dest := t.TempDir()
	if err := unix.Mount("tmpfs", dest, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dest, unix.MNT_DETACH)
	put(t, dest+"/gone", "old")
	result := mustPush(t, dest, true, pack(t, file("f", "new")))
	if got := listing(t, dest, names); got != "f\x00" || result.Deleted != 1 {
		t.Errorf("there is %q, %+v", got, result)
	}
}

func TestAFailureWhileMovingListsWhatWasWritten(t *testing.T) {
	if gvisortest.Inside() {
		return // The mounts of this case are Linux's.
	}
	dest := t.TempDir()
	put(t, dest+"/m/old", "old")
	if err := unix.Mount("tmpfs", dest+"/m", "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dest+"/m", unix.MNT_DETACH)
	var entries []entry
	for n := range 2000 {
		entries = append(entries, file(fmt.Sprintf("a%04d-\x01", n), "x"))
	}
	entries = append(entries, file("m/new", "new"), file("z", "new"))
	_, err := push(t, dest, false, pack(t, entries...))
	var typed *message.Error
	if !errors.As(err, &typed) || typed.Kind != message.KindFailed {
		t.Fatalf("got %v", err)
	}
	written, _ := typed.Data["written"].([]string)
	if typed.Data["writtenCount"] != int64(2000) || len(written) < 500 || written[0] != "a0000-\x01" {
		t.Errorf("got %d of %v", len(written), typed.Data["writtenCount"])
	}
	if text, err := json.Marshal(typed); err != nil || len(text) > 64<<10 {
		t.Errorf("the error has %d bytes, %v", len(text), err)
	}
	if _, err := os.Lstat(dest + "/z"); err == nil {
		t.Error("it went on")
	}
	noStage(t, dest)
}

func TestAPushSaysThatItGoesOn(t *testing.T) {
	dest := t.TempDir()
	var entries []entry
	for n := range 3000 {
		entries = append(entries, file(fmt.Sprintf("f%d", n), "x"))
	}
	seen := 0
	last := message.Progress{}
	progress := func(p message.Progress) {
		if p.Type != "progress" || p.Files < last.Files || p.Bytes < last.Bytes {
			t.Errorf("after %+v comes %+v", last, p)
		}
		last = p
		seen++
	}
	slow := &slowReader{bytes.NewReader(pack(t, entries...))}
	if _, err := Push(context.Background(), message.ExtractInput{Dest: dest, Limits: wide}, slow, progress); err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("it said nothing")
	}
}

// slowReader takes at least half a second for three MiB.
type slowReader struct{ from io.Reader }

func (s *slowReader) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return s.from.Read(p[:min(len(p), 64<<10)])
}

func TestPushesAtATimeDoNotDisturbEachOther(t *testing.T) {
	dest := t.TempDir()
	var all sync.WaitGroup
	for n := range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			var entries []entry
			for m := range 50 {
				entries = append(entries, file(fmt.Sprintf("shared/d%d/f%d", n, m), fmt.Sprint(n)))
			}
			if _, err := push(t, dest, false, pack(t, entries...)); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	if got := strings.Count(listing(t, dest, names), "\x00"); got != 1+8+8*50 {
		t.Errorf("there are %d entries", got)
	}
	noStage(t, dest)
}

func TestAFolderThatAnotherPushHasMadeMeanwhileIsMergedInto(t *testing.T) {
	stage, dest := t.TempDir(), t.TempDir()
	put(t, stage+"/shared/below/mine", "mine")
	put(t, dest+"/shared/below/theirs", "theirs")
	var fds [2]int
	for n, folder := range []string{stage, dest} {
		fd, err := tree.OpenFolder(unix.AT_FDCWD, folder)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds[n] = fd
	}
	p := pushing{cx: context.Background()}
	// As it was when both were looked at.
	if err := p.place("shared", fds[0], fds[1], both{name: "shared", folder: true}); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dest, names); got != "shared\x00shared/below\x00shared/below/mine\x00shared/below/theirs\x00" {
		t.Errorf("there is %q", got)
	}
}

func TestAPushNeverFollowsASymlinkThatAppearsMeanwhile(t *testing.T) {
	outer := t.TempDir()
	dest := outer + "/dest"
	put(t, outer+"/out/secret", "outside")
	put(t, dest+"/a/f", "x")
	if err := os.Symlink("../out", dest+"/b"); err != nil {
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
				_ = os.Rename(dest+"/a", dest+"/c")
				_ = os.Rename(dest+"/b", dest+"/a")
				_ = os.Rename(dest+"/a", dest+"/b")
				_ = os.Rename(dest+"/c", dest+"/a")
			}
		}
	}()
	archive := pack(t, folder("a"), file("a/f", "new"), file("a/g/h", "new"))
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		_, _ = push(t, dest, true, archive)
	}
	close(stop)
	<-done
	if got := listing(t, outer+"/out", names); got != "secret\x00" || contentOf(t, outer+"/out/secret") != "outside" {
		t.Errorf("outside is %q", got)
	}
}

// gated gives an archive once it is opened, or the end before its end.
type gated struct {
	entered chan struct{}
	content chan []byte
	rest    []byte
}

func (g *gated) Read(p []byte) (int, error) {
	if g.rest == nil {
		close(g.entered)
		g.rest = <-g.content
	}
	if len(g.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

func TestAPushThatBreaksOffLeavesTheFolderToTheOnesBesideIt(t *testing.T) {
	whole := pack(t, file("x", "content"))
	for name, kept := range map[string]bool{"the other is whole": true, "both break off": false} {
		dest := t.TempDir() + "/made/here"
		begin := func() (*gated, chan error) {
			g := &gated{entered: make(chan struct{}), content: make(chan []byte, 1)}
			done := make(chan error, 1)
			go func() {
				_, err := Push(context.Background(), message.ExtractInput{Dest: dest, Limits: wide}, g, nil)
				done <- err
			}()
			<-g.entered
			return g, done
		}
		first, firstDone := begin()
		other, otherDone := begin()
		first.content <- whole[:100]
		if err := <-firstDone; message.AsError(err).Kind != message.KindTruncated {
			t.Fatalf("%s: got %v", name, err)
		}
		if kept {
			other.content <- whole
		} else {
			other.content <- whole[:100]
		}
		if err := <-otherDone; (err == nil) != kept {
			t.Fatalf("%s: got %v", name, err)
		}
		if text, err := os.ReadFile(dest + "/x"); kept && string(text) != "content" {
			t.Errorf("%s: got %q, %v", name, text, err)
		}
		if _, err := os.Stat(dest + "/.."); !kept && !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: the folder is still there: %v", name, err)
		}
	}
}
