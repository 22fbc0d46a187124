package files

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

func TestAWriteMakesTheFileAndItsFolders(t *testing.T) {
	root := t.TempDir() + "/not/yet"
	result, err := write(root, "a/b/f", "text")
	if err != nil {
		t.Fatal(err)
	}
	if !result.Created || result.SizeBytes != 4 || result.Mode != "0644" || result.Replaced != nil {
		t.Errorf("got %+v", result)
	}
	if got := contentOf(t, root+"/a/b/f"); got != "text" {
		t.Errorf("got %q", got)
	}
	if entries, err := os.ReadDir(root + "/a/b"); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v %v", entries, err)
	}
}

func TestAWriteThatFailsLeavesNoRoot(t *testing.T) {
	parent := t.TempDir()
	_, err := write(parent+"/root/deep", "../f", "text")
	wantKind(t, err, message.KindOutsideRoot)
	if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
		t.Errorf("left %v %v", entries, err)
	}
}

func TestAWriteThatFailsLeavesNoFolders(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "text")
	link(t, "../..", root+"/out")
	before := listing(t, root)
	for path, kind := range map[string]message.ErrorKind{
		"new/deep/" + strings.Repeat("x", 256): message.KindInvalid,
		"new/../../out":                        message.KindOutsideRoot,
		"new/deep/":                            message.KindNotAFile,
		"new/../f/x":                           message.KindNotAFile,
		"new/../out/x":                         message.KindOutsideRoot,
	} {
		_, err := write(root, path, "text")
		wantKind(t, err, kind)
		if after := listing(t, root); after != before {
			t.Fatalf("%s left %s", path, after)
		}
	}
}

func TestAWriteKeepsModeOwnerAndAttributesOfTheFile(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "before")
	if err := os.Chown(root+"/f", 1234, 2345); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(root+"/f", "user.mark", []byte("kept"), 0); err != nil && err != unix.EOPNOTSUPP {
		t.Fatal(err)
	}
	hasAttributes := attribute(root+"/f", "user.mark") == "kept"
	if err := unix.Chmod(root+"/f", 0o6751); err != nil {
		t.Fatal(err)
	}
	result, err := write(root, "f", "after")
	if err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(root+"/f", &stat); err != nil {
		t.Fatal(err)
	}
	if result.Created || result.Mode != "6751" || stat.Mode&0o7777 != 0o6751 || stat.Uid != 1234 || stat.Gid != 2345 {
		t.Errorf("got %+v, mode %o, owner %d:%d", result, stat.Mode, stat.Uid, stat.Gid)
	}
	if hasAttributes && attribute(root+"/f", "user.mark") != "kept" {
		t.Error("the extended attribute is gone")
	}
	if got := contentOf(t, root+"/f"); got != "after" {
		t.Errorf("got %q", got)
	}
}

func attribute(path, name string) string {
	value := make([]byte, 100)
	n, err := unix.Getxattr(path, name, value)
	if err != nil {
		return ""
	}
	return string(value[:n])
}

func TestAWriteTakesTheModeOfTheRequest(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/old", "x")
	for path, mode := range map[string]string{"old": "0755", "new": "600"} {
		result, err := Write(&message.WriteFile{Root: root, Path: path, Mode: &mode})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(root + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%04s", mode); result.Mode != want || fmt.Sprintf("%04o", info.Mode().Perm()) != want {
			t.Errorf("%s: said %s, is %o", path, result.Mode, info.Mode())
		}
	}
}

func TestAWriteGoesThroughASymlinkAndLeavesIt(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/a/f", "before")
	link(t, "a/f", root+"/link")
	link(t, "a/new", root+"/dangling")
	for _, path := range []string{"link", "dangling"} {
		if _, err := write(root, path, "after"); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(root + "/" + path); err != nil || info.Mode().Type() != os.ModeSymlink {
			t.Errorf("%s is %v %v", path, info, err)
		}
	}
	if contentOf(t, root+"/a/f") != "after" || contentOf(t, root+"/a/new") != "after" {
		t.Error("the files behind the links are not written")
	}
}

func TestAReaderSeesTheOldFileOrTheNewOne(t *testing.T) {
	root := t.TempDir()
	old, new := strings.Repeat("a", 1<<20), strings.Repeat("b", 1<<19)
	put(t, root+"/f", old)
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for n := range 60 {
			if _, err := write(root, "f", []string{new, old}[n%2]); err != nil {
				done <- err
				return
			}
		}
	}()
	seen := map[string]bool{}
	for {
		content := contentOf(t, root+"/f")
		if content != old && content != new {
			t.Fatalf("a reader saw %d bytes", len(content))
		}
		seen[content[:1]] = true
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if !seen["a"] {
				t.Error("nothing was read")
			}
			if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
				t.Errorf("the folder holds %v %v", entries, err)
			}
			return
		default:
		}
	}
}

func TestTextThatOccursOnceIsReplaced(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "one\ntwo\nthree\n")
	result, err := replace(root, "f", "two", "2\n2", false)
	if err != nil {
		t.Fatal(err)
	}
	if *result.Replaced != 1 || result.Created || result.SizeBytes != 14 {
		t.Errorf("got %+v", result)
	}
	if got := contentOf(t, root+"/f"); got != "one\n2\n2\nthree\n" {
		t.Errorf("got %q", got)
	}
	if _, err := replace(root, "f", "one\n2\n2\nthree\n", "", false); err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, root+"/f"); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestEveryOccurrenceIsReplacedOnRequest(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "aaa b aa")
	result, err := replace(root, "f", "aa", "x", true)
	if err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, root+"/f"); got != "xa b x" || *result.Replaced != 2 || result.SizeBytes != 6 {
		t.Errorf("got %q, %+v", got, result)
	}
}

func TestTextThatOccursTooOftenIsCountedWithItsLines(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "x = 1\ny\nx = 1\nx = 1\n")
	before := listing(t, root)
	_, err := replace(root, "f", "x = 1", "x = 2", false)
	typed := wantKind(t, err, message.KindTextMismatch)
	want := `the text occurs 3 times in "f" (lines 1, 3, 4); it must occur once; nothing was changed`
	if typed.Message != want || typed.Data["occurrences"] != 3 || fmt.Sprint(typed.Data["lines"]) != "[1 3 4]" {
		t.Errorf("got %q %v", typed.Message, typed.Data)
	}
	put(t, root+"/overlap", "aaa")
	_, err = replace(root, "overlap", "aa", "b", false)
	if typed := wantKind(t, err, message.KindTextMismatch); typed.Data["occurrences"] != 2 {
		t.Errorf("text that overlaps itself is found %v times", typed.Data["occurrences"])
	}
	if err := os.Remove(root + "/overlap"); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, root); after != before {
		t.Errorf("something changed: %s", after)
	}
}

func TestTextThatDoesNotOccurIsAnsweredWithTheNearestLines(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", "import os\n\ndef main(args):\n\treturn run(args)\n\ndef other():\n\tpass\n")
	for _, c := range []struct{ text, nearest string }{
		{"def main(arguments):", `[{3 def main(args):}]`},
		{"def main(args):\n    return run(args)\n", "[{4 \treturn run(args)}]"},
		{"    return run(args)", "[{4 \treturn run(args)}]"},
		{"def main(args):\r\n", `[{3 def main(args):}]`},
		{"qqqqqqqqqqqqqq", "[]"},
		{"\n\n\n\n", "[]"},
	} {
		_, err := replace(root, "f", c.text, "x", false)
		typed := wantKind(t, err, message.KindTextMismatch)
		if got := fmt.Sprint(typed.Data["nearest"]); got != c.nearest || typed.Data["occurrences"] != 0 {
			t.Errorf("%q: nearest are %s of %v, want %s", c.text, got, typed.Data["occurrences"], c.nearest)
		}
		if !strings.HasPrefix(typed.Message, `the text occurs 0 times in "f"`) {
			t.Errorf("got %q", typed.Message)
		}
	}
	_, err := replace(root, "f", "def main(arguments):", "x", true)
	if typed := wantKind(t, err, message.KindTextMismatch); !strings.Contains(typed.Message, `nearest: line 3: "def main(args):"`) {
		t.Errorf("got %q", typed.Message)
	}
}

func TestTheAnswerToAMissIsBounded(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/f", strings.Repeat(strings.Repeat("a \x01\"", 3000)+"\n", 100))
	_, err := replace(root, "f", strings.Repeat("a \x01\"", 50)+"!", "x", false)
	typed := wantKind(t, err, message.KindTextMismatch)
	if len(typed.Message) > 4096 || len(fmt.Sprint(typed.Data)) > 4096 {
		t.Errorf("the message has %d bytes, the data %d", len(typed.Message), len(fmt.Sprint(typed.Data)))
	}
	_, err = replace(root, "f", "a", "x", false)
	typed = wantKind(t, err, message.KindTextMismatch)
	if typed.Data["occurrences"] != 300_000 || len(typed.Data["lines"].([]int)) != listedLines {
		t.Errorf("got %v", typed.Data)
	}
}

func TestFilesBeyondTheLimitAreRefused(t *testing.T) {
	root := t.TempDir()
	huge := bytes.Repeat([]byte{'x'}, FileLimitBytes+1)
	_, err := Write(&message.WriteFile{Root: root, Path: "f", DataBase64: huge})
	wantKind(t, err, message.KindLimit)
	put(t, root+"/large", string(huge))
	_, err = replace(root, "large", "x", "y", true)
	wantKind(t, err, message.KindLimit)
	put(t, root+"/grows", strings.Repeat("x", 1<<10))
	_, err = replace(root, "grows", "x", strings.Repeat("y", FileLimitBytes>>10+1), true)
	wantKind(t, err, message.KindLimit)
	if got := contentOf(t, root+"/grows"); got != strings.Repeat("x", 1<<10) {
		t.Error("the file changed")
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 2 {
		t.Errorf("the folder holds %v %v", entries, err)
	}
}

func TestAFullDiskLeavesTheOldFile(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	put(t, root+"/f", "before")
	before := listing(t, root)
	_, err := write(root, "f", strings.Repeat("x", 100<<10))
	wantKind(t, err, message.KindNoSpace)
	_, err = write(root, "new/folder/f", strings.Repeat("x", 100<<10))
	wantKind(t, err, message.KindNoSpace)
	if after := listing(t, root); after != before {
		t.Errorf("the disk holds %s", after)
	}
}
