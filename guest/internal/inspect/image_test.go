package inspect

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pyro.dev/agent/internal/ext4"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/tree"
)

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
