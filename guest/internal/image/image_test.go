package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/goldentest"
	"pyro.dev/agent/internal/isolate"
)

const (
	base = 0x40000000
	uuid = "51b258d5-bca4-492f-9c99-24ccdbf58cac"
)

func TestMessagesAreThoseOfTheProtocol(t *testing.T) { goldentest.Decodes[input](t, "image-input") }

// tree is a small root filesystem below folders that nobody else may enter.
func tree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "closed", "tree")
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "file"), []byte("content\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for path, id := range map[string]int{"": base, "etc": base, "etc/file": base + 5} {
		if err := os.Chown(filepath.Join(root, path), id, base+42); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Chmod(filepath.Join(root, "etc", "file"), 0o4750); err != nil {
		t.Fatal(err)
	}
	return root
}

func run(t *testing.T, in input) (string, int) {
	t.Helper()
	argument, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return in.File, Main([]string{string(argument)})
}

func inputFor(t *testing.T, root string, size int64) input {
	return input{
		Tree: root, File: filepath.Join(t.TempDir(), "disk.raw"), Bytes: size, UUID: uuid,
		Mapping: isolate.Mapping{Base: base, Count: 65536},
	}
}

func debugfs(t *testing.T, file, request string) string {
	t.Helper()
	said, err := exec.Command("debugfs", "-R", request, file).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

func TestAnImageHoldsTheTreeWithTheIDsOfTheInside(t *testing.T) {
	file, code := run(t, inputFor(t, tree(t), 64<<20))
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	stat := strings.Join(strings.Fields(debugfs(t, file, "stat etc/file")), " ")
	for _, want := range []string{"Mode: 04750", "User: 5", "Group: 42", "Size: 8"} {
		if !strings.Contains(stat, want) {
			t.Errorf("%s is not in %s", want, stat)
		}
	}
	if got := debugfs(t, file, "cat etc/file"); got != "content\n" {
		t.Errorf("got %q", got)
	}
	if said, err := exec.Command("e2fsck", "-fn", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	status, err := os.Stat(file)
	if err != nil || status.Mode().Perm() != 0o600 || status.Size() != 64<<20 {
		t.Errorf("got %v, %v", status, err)
	}
}

// keepAccessTimes lets no reading change them: they go into the image.
func keepAccessTimes(t *testing.T, root string) {
	t.Helper()
	later := unix.NsecToTimespec(time.Now().Add(time.Hour).UnixNano())
	times := []unix.Timespec{later, unix.NsecToTimespec(time.Now().UnixNano())}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheSameTreeGivesTheSameImage(t *testing.T) {
	root := tree(t)
	keepAccessTimes(t, root)
	one, code := run(t, inputFor(t, root, 32<<20))
	other, otherCode := run(t, inputFor(t, root, 32<<20))
	if code != 0 || otherCode != 0 {
		t.Fatalf("exit codes %d and %d", code, otherCode)
	}
	if said, err := exec.Command("cmp", one, other).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

func TestATreeThatDoesNotFitAndAFileThatIsThereAreRefused(t *testing.T) {
	root := tree(t)
	if err := os.WriteFile(filepath.Join(root, "large"), bytes.Repeat([]byte("x"), 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(root, "large"), base, base); err != nil {
		t.Fatal(err)
	}
	if _, code := run(t, inputFor(t, root, 4<<20)); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	in := inputFor(t, root, 64<<20)
	if err := os.WriteFile(in.File, []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, code := run(t, in); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if text, err := os.ReadFile(in.File); err != nil || string(text) != "here" {
		t.Errorf("got %q, %v", text, err)
	}
}
