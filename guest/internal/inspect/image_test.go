package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/ext4"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/tree"
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

// exportedFrom gives the summary and the frames of an export.
func exportedFrom(path string, from volume) (ExportSummary, []byte, error) {
	var out bytes.Buffer
	summary, err := export(path, from, newFrameStream(&out))
	return summary, out.Bytes(), err
}

func openFileOf(t *testing.T, folder string) descriptor {
	t.Helper()
	file, err := os.Open(filepath.Join(folder, imageFile))
	must(t, err)
	t.Cleanup(func() { file.Close() })
	return descriptor(file.Fd())
}

func opened(t *testing.T, folder string) imageVolume {
	t.Helper()
	v, err := openImage(openFileOf(t, folder), ours)
	must(t, err)
	return v
}

func TestImageIsExportedAsTheKernelShowsIt(t *testing.T) {
	for name, args := range formats {
		t.Run(name, func(t *testing.T) {
			folder := newImage(t, args...)
			whileMounted(t, folder, "rw", func(root string) { writeAwkward(t, root) })
			image := opened(t, folder)
			whileMounted(t, folder, "ro,noload", func(root string) {
				for _, path := range []string{"/", "/many", "/into", "/into/b", "/deep/a/../again", "/sparse", "/short", "/closed/set"} {
					wanted, shown, err := exportedFrom(path, mountedVolume(root))
					must(t, err)
					summary, frames, err := exportedFrom(path, image)
					must(t, err)
					if summary != wanted || !bytes.Equal(frames, shown) {
						t.Errorf("%s: %+v, and %d bytes, are not %+v, and %d bytes", path, summary, len(frames), wanted, len(shown))
					}
				}
				for _, path := range []string{"/nothing", "/one/below", "/many/x/y", "/" + strings.Repeat("x", 300), "/fifo", "/long/x"} {
					_, _, wanted := exportedFrom(path, mountedVolume(root))
					_, _, err := exportedFrom(path, image)
					if wanted == nil || err == nil || err.Error() != wanted.Error() {
						t.Errorf("%s: %v is not %v", path, err, wanted)
					}
				}
			})
		})
	}
}

func TestImageThatOnlyAKernelCanReadIsLeftToOne(t *testing.T) {
	set := func(args string) func(*testing.T, string) {
		return func(t *testing.T, file string) { run(t, "debugfs", "-w", "-R", "set_super_value "+args, file) }
	}
	for name, one := range map[string]struct {
		args   []string
		change func(t *testing.T, file string)
		says   string
	}{
		"a journal to be replayed": {change: func(t *testing.T, file string) {
			run(t, "debugfs", "-w", "-R", "feature needs_recovery", file)
		}, says: "features 0x4"},
		"data inside of inodes": {args: []string{"-O", "inline_data"}, says: "features 0x8000"},
		"clusters":              {args: []string{"-O", "bigalloc"}, says: "read-only features 0x200"},
		"another filesystem":    {change: set("uuid random"), says: "is not that of the workspace"},
		"another label":         {change: set("volume_name else"), says: "is not that of the workspace"},
		"no filesystem": {change: func(t *testing.T, file string) {
			must(t, os.WriteFile(file, make([]byte, imageBytes), 0o600))
		}, says: "no ext4 filesystem"},
		"a disk cut short": {change: func(t *testing.T, file string) { must(t, os.Truncate(file, 1500)) }, says: "superblock"},
		"a damaged inode": {change: func(t *testing.T, file string) {
			run(t, "debugfs", "-w", "-R", "set_inode_field <2> checksum 0x1234", file)
		}, says: "the checksum of inode 2"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := newImage(t, one.args...)
			if one.change != nil {
				one.change(t, filepath.Join(folder, imageFile))
			}
			var out bytes.Buffer
			result, err := exportImage("/", openFileOf(t, folder), ours, newFrameStream(&out))
			must(t, err)
			said, isLeft := result.(Unreadable)
			if !isLeft || !strings.Contains(said.Unreadable, one.says) || out.Len() > 0 {
				t.Errorf("%+v, %d bytes; it should say %q", result, out.Len(), one.says)
			}
		})
	}
}

func TestDamageThatShowsLateIsAnError(t *testing.T) {
	folder := newImage(t)
	whileMounted(t, folder, "rw", func(root string) {
		must(t, os.WriteFile(filepath.Join(root, "a"), make([]byte, 2*dataFrameBytes), 0o600))
		must(t, os.WriteFile(filepath.Join(root, "b"), nil, 0o600))
	})
	run(t, "debugfs", "-w", "-R", "set_inode_field b checksum 0x1234", filepath.Join(folder, imageFile))
	var out bytes.Buffer
	result, err := exportImage("/", openFileOf(t, folder), ours, newFrameStream(&out))
	if !errors.Is(err, ext4.ErrUnreadable) || out.Len() == 0 {
		t.Errorf("%+v, %v after %d bytes", result, err, out.Len())
	}
}

func TestFolderInSeveralPlacesEndsAWalk(t *testing.T) {
	for name, commands := range map[string][]string{
		"in itself":            {"link /top/below /top/below/again"},
		"above itself":         {"link /top /top/below/again"},
		"the root below":       {"link <2> /top/below/again"},
		"the root in the root": {"link <2> /again"},
		"twice beside":         {"link /top/below /top/other"},
		"twice elsewhere":      {"link /top/below /other"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := newImage(t)
			whileMounted(t, folder, "rw", func(root string) {
				must(t, os.MkdirAll(filepath.Join(root, "top/below"), 0o755))
			})
			for _, command := range commands {
				run(t, "debugfs", "-w", "-R", command, filepath.Join(folder, imageFile))
			}
			if _, _, err := exportedFrom("/", opened(t, folder)); !errors.Is(err, ext4.ErrUnreadable) {
				t.Errorf("%v", err)
			}
			result, err := diffImages(imageTask(t, folder, folder), io.Discard)
			if _, isLeft := result.(Unreadable); !isLeft {
				t.Errorf("compared: %+v, %v", result, err)
			}
		})
	}
}

// TestDamagedImagesAreMet changes bytes of metadata at random, with no checksums that would tell: whatever they say, a
// walk ends, and with an error that has a name.
func TestDamagedImagesAreMet(t *testing.T) {
	const rounds = 400
	for _, format := range []string{"no checksums", "block maps"} {
		t.Run(format, func(t *testing.T) {
			folder := newImage(t, append(formats[format], "-N", "4096")...)
			if format == "block maps" {
				run(t, "tune2fs", "-O", "^metadata_csum", filepath.Join(folder, imageFile))
			}
			whileMounted(t, folder, "rw", func(root string) { writeAwkward(t, root) })
			shown, failed := openFileOf(t, folder), 0
			damage(t, folder, rounds, rand.New(rand.NewPCG(3, 5)), func() {
				if walkDamaged(t, shown) {
					failed++
				}
			})
			t.Logf("%d of %d", failed, rounds)
			if failed == 0 {
				t.Error("no change was met")
			}
			if walkDamaged(t, shown) {
				t.Error("the whole image is not read")
			}
		})
	}
}

// damage changes some bytes of metadata, and changes them back after work, round after round.
func damage(t *testing.T, folder string, rounds int, random *rand.Rand, work func()) {
	t.Helper()
	whole, err := os.ReadFile(filepath.Join(folder, imageFile))
	must(t, err)
	used := []int{}
	for at := range whole {
		if whole[at] != 0 && at < imageBytes/16 {
			used = append(used, at)
		}
	}
	file, err := os.OpenFile(filepath.Join(folder, imageFile), os.O_WRONLY, 0)
	must(t, err)
	defer file.Close()
	for range rounds {
		changed := map[int]byte{}
		for range 1 + random.IntN(8) {
			changed[used[random.IntN(len(used))]] = byte(random.Uint32())
		}
		for at, value := range changed {
			_, err := file.WriteAt([]byte{value}, int64(at))
			must(t, err)
		}
		work()
		for at := range changed {
			_, err := file.WriteAt(whole[at:at+1], int64(at))
			must(t, err)
		}
	}
}

// checkDamageError: whatever is met has a name.
func checkDamageError(t *testing.T, err error) {
	t.Helper()
	var said *message.Error
	if !errors.Is(err, ext4.ErrUnreadable) && !errors.As(err, &said) && !errors.Is(err, errTooMuch) {
		t.Errorf("%q", err)
	}
}

// walkDamaged tells whether the image could not be exported.
func walkDamaged(t *testing.T, file descriptor) bool {
	t.Helper()
	v, err := openImage(file, ours)
	if err == nil {
		_, err = export("/", v, newFrameStream(&bounded{left: 64 << 20}))
	}
	if err != nil {
		checkDamageError(t, err)
	}
	return err != nil
}

var errTooMuch = errors.New("more than anybody reads")

// bounded is for files that say that they are huge.
type bounded struct{ left int }

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errTooMuch
	}
	return len(p), nil
}

func TestWhatAnExportHoldsIsBounded(t *testing.T) {
	folder := newImage(t)
	whileMounted(t, folder, "rw", func(root string) {
		must(t, os.MkdirAll(filepath.Join(root, "top/below"), 0o755))
		must(t, os.WriteFile(filepath.Join(root, "top/one"), make([]byte, 1000), 0o600))
		must(t, os.Link(filepath.Join(root, "top/one"), filepath.Join(root, "top/two")))
	})
	top, err := opened(t, folder).open([]string{"top"})
	must(t, err)
	for _, limit := range []int{3, 2} {
		if names, err := top.NamesUpTo(limit); (err == tree.ErrTooManyNames) != (limit < 3) {
			t.Errorf("up to %d: %v, %v", limit, names, err)
		}
	}
	for linkBytes, wanted := range map[int]int64{0: 1000, linkBytesLimit: 2000} {
		x := exporter{out: newFrameStream(io.Discard), links: map[uint64]string{}, linkBytes: linkBytes}
		if summary, err := x.whole("/top", top, "", "top"); err != nil || summary.Bytes != wanted {
			t.Errorf("%+v, %v", summary, err)
		}
	}
}
