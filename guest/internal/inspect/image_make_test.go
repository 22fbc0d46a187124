package inspect

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	imageUUID  = "6f9c4c1e-3d2b-4a57-8b1e-0123456789ab"
	imageLabel = "ws-test"
	imageFile  = "disk.raw"
	// imageBytes is small enough to be looked at in memory.
	imageBytes = 64 << 20
)

var ours = &Image{UUID: imageUUID, Label: imageLabel}

// formats are filesystems as mke2fs makes them, whose features say how the same tree lies on the disk.
var formats = map[string][]string{
	"as ours":           {"-b", "4096"},
	"small blocks":      {"-b", "1024"},
	"no checksums":      {"-O", "^metadata_csum"},
	"short descriptors": {"-O", "^64bit"},
	"short inodes":      {"-I", "128"},
	"block maps":        {"-O", "^extents,^64bit"},
	"seeded checksums":  {"-O", "metadata_csum_seed"},
	"large attributes":  {"-O", "ea_inode"},
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// newImage gives the folder of an empty image.
func newImage(t *testing.T, args ...string) string {
	t.Helper()
	folder := t.TempDir()
	args = append([]string{"-q", "-F", "-t", "ext4", "-U", imageUUID, "-L", imageLabel}, args...)
	run(t, "mke2fs", append(args, filepath.Join(folder, imageFile), fmt.Sprintf("%dk", imageBytes>>10))...)
	return folder
}

// whileMounted shows the image to the kernel while work runs.
func whileMounted(t *testing.T, folder, options string, work func(root string)) {
	t.Helper()
	root := t.TempDir()
	run(t, "mount", "-o", "loop,"+options, filepath.Join(folder, imageFile), root)
	defer run(t, "umount", root)
	work(root)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writeAwkward makes, through the kernel, what lies on a disk in many ways.
func writeAwkward(t *testing.T, root string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	random := rand.NewChaCha8([32]byte{7})
	content := func(size int) []byte {
		data := make([]byte, size)
		random.Read(data)
		return data
	}
	for _, folder := range []string{"many", "deep/a/b/c/d", "closed", "empty"} {
		must(t, os.MkdirAll(at(folder), 0o755))
	}
	// Beyond one block a folder gets an index; 2,500 long names have two levels of it with blocks of 1 KiB.
	for n := range 2500 {
		must(t, os.WriteFile(at(fmt.Sprintf("many/%s%04d", strings.Repeat("n", 60), n)), nil, 0o644))
	}
	for n := range 1000 {
		must(t, os.Remove(at(fmt.Sprintf("many/%s%04d", strings.Repeat("n", 60), n*2))))
	}
	for name, size := range map[string]int{"none": 0, "one": 1, "block": 4096, "more": 4097, "large": 3 << 20} {
		must(t, os.WriteFile(at(name), content(size), 0o640))
	}
	// Written alternately, two files lie in hundreds of pieces each.
	var pieces [2]*os.File
	for n := range pieces {
		file, err := os.Create(at(fmt.Sprintf("pieces%d", n)))
		must(t, err)
		defer file.Close()
		pieces[n] = file
	}
	for block := range 700 {
		for _, file := range pieces {
			_, err := file.WriteAt(content(4096), int64(block)*8192)
			must(t, err)
		}
		if block%16 == 0 {
			unix.Sync()
		}
	}
	sparse, err := os.Create(at("sparse"))
	must(t, err)
	defer sparse.Close()
	must(t, sparse.Truncate(9<<20+5))
	_, err = sparse.WriteAt([]byte("in the middle"), 5<<20+77)
	must(t, err)
	promised, err := os.Create(at("promised"))
	must(t, err)
	defer promised.Close()
	if err := unix.Fallocate(int(promised.Fd()), 0, 0, 1<<20); err == nil {
		_, err = promised.WriteAt(content(8192), 300<<10)
		must(t, err)
		must(t, unix.Fallocate(int(promised.Fd()), unix.FALLOC_FL_KEEP_SIZE, 1<<20, 1<<20))
	} else if err != unix.EOPNOTSUPP {
		t.Fatal(err)
	}
	must(t, os.Symlink("/somewhere/else", at("short")))
	must(t, os.Symlink(strings.Repeat("long/", 100), at("long")))
	must(t, os.Symlink(strings.Repeat("x", 59), at("59")))
	must(t, os.Symlink(strings.Repeat("x", 60), at("60")))
	must(t, os.Symlink("deep/a", at("into")))
	must(t, os.Link(at("more"), at("deep/again")))
	must(t, os.WriteFile(at("deep/a/b/c/d/\xff\xfe latin \n"), content(10), 0o600))
	must(t, os.Lchown(at("one"), 123456, 4000000000))
	must(t, os.Chmod(at("closed"), 0o1700))
	must(t, os.WriteFile(at("closed/set"), content(99), 0o755))
	must(t, unix.Chmod(at("closed/set"), 0o6755))
	must(t, unix.Mkfifo(at("fifo"), 0o600))
	must(t, unix.Setxattr(at("one"), "user.note", content(200), 0))
	must(t, unix.Lsetxattr(at("short"), "trusted.note", content(90), 0))
	for name, when := range map[string]time.Time{
		"none": time.Unix(1, 999_999_999), "block": time.Unix(-86_400, 5), "more": time.Unix(1<<32+12, 34), "many": time.Unix(1_700_000_000, 123_456_789),
	} {
		must(t, os.Chtimes(at(name), when, when))
	}
}
