package inspect

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/ext4"
	"pyro.dev/agent/internal/isolate"
)

// ownIDs are those of a machine of its own: who mounts an image there sees its attributes as the machine's root does not.
var ownIDs = isolate.Mapping{Base: 0, Count: 0xffffffff}

// aclOf is an access control list as acl(5) programs set it, for one more user.
func aclOf(user uint32) []byte {
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, entry := range []struct {
		tag, permissions uint16
		id               uint32
	}{{0x01, 6, ^uint32(0)}, {0x02, 4, user}, {0x04, 4, ^uint32(0)}, {0x10, 4, ^uint32(0)}, {0x20, 0, ^uint32(0)}} {
		acl = binary.LittleEndian.AppendUint16(acl, entry.tag)
		acl = binary.LittleEndian.AppendUint16(acl, entry.permissions)
		acl = binary.LittleEndian.AppendUint32(acl, entry.id)
	}
	return acl
}

// capabilityFor gives CAP_NET_RAW to a file, in the user namespace of a root.
func capabilityFor(root uint32) []byte {
	value := binary.LittleEndian.AppendUint32(nil, 0x03000001)
	value = binary.LittleEndian.AppendUint32(value, 1<<unix.CAP_NET_RAW)
	value = append(value, make([]byte, 12)...)
	return binary.LittleEndian.AppendUint32(value, root)
}

type disk struct {
	t    *testing.T
	root string
}

func (d disk) at(name string) string { return filepath.Join(d.root, name) }

func (d disk) write(name, content string) {
	d.t.Helper()
	must(d.t, os.MkdirAll(filepath.Dir(d.at(name)), 0o755))
	must(d.t, os.WriteFile(d.at(name), []byte(content), 0o644))
}

// set gives attributes to a file that it makes, if there is none.
func (d disk) set(name, attribute string, value []byte) {
	d.t.Helper()
	if _, err := os.Lstat(d.at(name)); err != nil {
		d.write(name, "with attributes\n")
	}
	must(d.t, unix.Lsetxattr(d.at(name), attribute, value, 0))
}

func (d disk) node(name string, kind uint32, major, minor uint32) {
	d.t.Helper()
	must(d.t, unix.Mknod(d.at(name), kind|0o600, int(unix.Mkdev(major, minor))))
}

func (d disk) overwrite(name string, at int64, content string) {
	d.t.Helper()
	file, err := os.OpenFile(d.at(name), os.O_WRONLY, 0)
	must(d.t, err)
	defer file.Close()
	_, err = file.WriteAt([]byte(content), at)
	must(d.t, err)
}

func (d disk) remove(names ...string) {
	d.t.Helper()
	for _, name := range names {
		must(d.t, os.RemoveAll(d.at(name)))
	}
}

// writeComparable adds what changeAll finds to change.
func writeComparable(t *testing.T, root string) {
	t.Helper()
	d := disk{t, root}
	for _, folder := range []string{"work/emptied", "work/gone", "work/was-folder", "work/below", "build", ".git/info", ".git/hooks"} {
		for n := range 3 {
			d.write(fmt.Sprintf("%s/file%d", folder, n), strings.Repeat(fmt.Sprintf("line %d of %s\n", n, folder), 5))
		}
	}
	d.write("work/.gitignore", "*.log\n/ignored/\n")
	d.write(".git/info/exclude", "build\n")
	d.write(".git/info/attributes", "*.txt eol=crlf\n")
	d.write("work/.gitattributes", "*.bin -text\n")
	d.write("work/text.txt", "one\r\ntwo\r\n")
	d.write("work/data.bin", "\x00\x01\x02")
	d.write("work/ignored/file", "a\n")
	d.write("work/run.log", "a\n")
	d.write("work/was-file", "a file\n")
	d.write("work/stays", "stays\n")
	must(t, os.Symlink("below", d.at("work/was-link")))
	must(t, os.Symlink("was-round", d.at("work/was-round")))
	must(t, os.Symlink("below", d.at("work/link")))
	must(t, os.Link(d.at("work/stays"), d.at("work/linked")))
	must(t, os.Link(d.at("work/stays"), d.at("work/apart")))
	d.node("work/tty", unix.S_IFCHR, 4, 7)
	d.node("work/disk", unix.S_IFBLK, 259, 70_000)
	d.node("work/same-disk", unix.S_IFBLK, 259, 300)
	d.set("work/user", "user.small", []byte("before"))
	d.set("work/many", "user.a", nil)
	d.set("work/many", "user.b", bytes.Repeat([]byte("b"), 800))
	d.set("work/acl", "system.posix_acl_access", aclOf(1000))
	d.set("work/same-acl", "system.posix_acl_access", aclOf(77))
	d.set("work/below", "system.posix_acl_default", aclOf(1000))
	d.set("work/capable", "security.capability", capabilityFor(0))
	d.set("work/same-capable", "security.capability", capabilityFor(0))
	d.set("work/others", "security.capability", capabilityFor(5))
	d.set("work/note", "security.note", []byte("noted"))
	d.set("work/trusted", "trusted.note", []byte("before"))
}

func changeAll(t *testing.T, root string) {
	t.Helper()
	d := disk{t, root}
	before, err := os.Stat(d.at("more"))
	must(t, err)
	d.overwrite("more", 4000, "!")
	must(t, os.Chtimes(d.at("more"), before.ModTime(), before.ModTime()))
	// Near the end of several hundred pieces, in the middle of a hole, and in what was promised.
	d.overwrite("pieces0", 650*8192+100, "changed")
	d.overwrite("sparse", 2<<20, "new")
	d.overwrite("promised", 900<<10, "new")
	must(t, os.Truncate(d.at("large"), 2<<20))
	must(t, os.Truncate(d.at("block"), 9<<20))
	must(t, os.Chmod(d.at("one"), 0o600))
	must(t, os.Lchown(d.at("none"), 7, 8))
	must(t, os.Lchown(d.at("short"), 7, 8))
	must(t, os.Chmod(d.at("closed"), 0o755))
	for n := range 300 {
		d.remove(fmt.Sprintf("many/%s%04d", strings.Repeat("n", 60), n*2+1))
		d.write(fmt.Sprintf("many/new%d", n), "x\n")
	}
	must(t, os.Rename(d.at("deep/a/b"), d.at("deep/moved")))
	d.remove("work/gone", "work/emptied/file0", "work/emptied/file1", "work/emptied/file2", "build/file1", "into")
	must(t, os.Symlink("deep/moved", d.at("into")))

	d.remove("work/was-folder", "work/was-file", "work/was-link", "work/was-round", "work/link")
	d.write("work/was-folder", "a file now\n")
	d.write("work/was-file/below", "a folder now\n")
	d.write("work/was-link/below", "a folder now\n")
	d.write("work/was-round/below", "a folder now\n")
	must(t, os.Symlink("elsewhere/and/further", d.at("work/link")))
	must(t, os.MkdirAll(d.at("work/barren/empty"), 0o755))
	d.remove("work/apart")
	d.write("work/apart", "stays\n")
	d.remove("work/tty", "work/disk", "fifo")
	d.node("work/tty", unix.S_IFCHR, 4, 8)
	d.node("work/disk", unix.S_IFBLK, 259, 70_001)
	d.node("fifo", unix.S_IFSOCK, 0, 0)

	d.write("work/text.txt", "one\r\nthree\r\n")
	d.write("work/data.bin", "\x00\x01\x03")
	d.write("work/.gitattributes", "*.bin text\n")
	d.write("work/.gitignore", "nothing\n")
	d.write("work/ignored/file", "b\n")
	d.write("work/ignored/more", "b\n")
	d.write("work/run.log", "b\n")
	d.write("build/file0", "built\n")
	d.write(".git/hooks/pre-commit", "#!/bin/sh\n")
	must(t, os.Chmod(d.at(".git/hooks/pre-commit"), 0o755))

	d.set("work/user", "user.small", []byte("after!"))
	must(t, unix.Lremovexattr(d.at("work/many"), "user.a"))
	d.set("work/acl", "system.posix_acl_access", aclOf(1001))
	must(t, unix.Lremovexattr(d.at("work/below"), "system.posix_acl_default"))
	d.set("work/capable", "security.capability", capabilityFor(7))
	d.set("work/note", "security.note", bytes.Repeat([]byte("n"), 700))
	d.set("work/new", "user.large", bytes.Repeat([]byte("x"), 700))
	d.set("work/trusted", "trusted.note", []byte("after"))
}

// changedPair makes two images of one format, the second a changed copy of the first.
func changedPair(t *testing.T, args ...string) (before, after string) {
	t.Helper()
	before, after = newImage(t, args...), t.TempDir()
	whileMounted(t, before, "rw", func(root string) {
		writeAwkward(t, root)
		writeComparable(t, root)
	})
	copyImage(t, before, after)
	whileMounted(t, after, "rw", func(root string) { changeAll(t, root) })
	return before, after
}

func copyImage(t *testing.T, from, to string) {
	t.Helper()
	run(t, "cp", "--sparse=always", filepath.Join(from, imageFile), filepath.Join(to, imageFile))
}

func TestImagesAreComparedAsTheKernelShowsThem(t *testing.T) {
	compared := []Input{
		{Root: "/", Patch: true},
		{Root: "/", Ignored: true},
		{Root: "/work", Patch: true, PlainFolder: true},
		{Root: "/into/.", Patch: true},
		{Root: "/work", Patch: true, Paths: []string{"emptied", "was-folder/file1", "was-file", "below/file0"}},
		{Root: "/work/was-link"},
		{Root: "/many"},
		{Root: "/nowhere"},
		{Root: "/one"},
		{Root: "/work", Paths: []string{"nothing"}},
		{Root: "/work", Paths: []string{"stays/below"}},
	}
	for name, args := range formats {
		t.Run(name, func(t *testing.T) {
			before, after := changedPair(t, args...)
			whileMounted(t, before, "ro,noload", func(rootBefore string) {
				whileMounted(t, after, "ro,noload", func(rootAfter string) {
					for _, in := range compared {
						in.Op, in.Mapping, in.PatchLimitBytes, in.BinaryLimitBytes = "diff", ownIDs, 32<<20, 1<<20
						for _, isBack := range []bool{false, true} {
							from, to, shownFrom, shownTo := before, after, rootBefore, rootAfter
							if isBack {
								from, to, shownFrom, shownTo = to, from, shownTo, shownFrom
							}
							in.Image, in.From, in.To, in.IgnoreFrom = nil, shownFrom, shownTo, rootBefore
							shown, shownCode := runRole(t, in)
							in.Image = ours
							in.From, in.To, in.IgnoreFrom = filepath.Join(from, imageFile), filepath.Join(to, imageFile), filepath.Join(before, imageFile)
							read, readCode := runRole(t, in)
							if readCode != shownCode || !bytes.Equal(read, shown) {
								t.Errorf("%+v, back: %t:\n%s", in, isBack, firstDifference(t, shown, read))
							}
						}
					}
				})
			})
		})
	}
}

// firstDifference names the first entry that is not the same, or shows both answers.
func firstDifference(t *testing.T, shown, read []byte) string {
	t.Helper()
	wanted, _, wantedEnd := parse(t, bytes.NewReader(shown))
	got, _, end := parse(t, bytes.NewReader(read))
	for n := range min(len(wanted.entries), len(got.entries)) {
		a, _ := json.Marshal(wanted.entries[n])
		b, _ := json.Marshal(got.entries[n])
		if !bytes.Equal(a, b) {
			return fmt.Sprintf("%s: %s\nis not %s", wanted.entries[n].path(), b, a)
		}
	}
	return fmt.Sprintf("%d entries, %s\nare not %d, %s", len(got.entries), end, len(wanted.entries), wantedEnd)
}

func TestChangesThatAComparisonOfImagesHasToFind(t *testing.T) {
	before, after := changedPair(t, formats["as ours"]...)
	var out bytes.Buffer
	result, err := diffImages(imageTask(t, before, after), &out)
	must(t, err)
	if _, isSummary := result.(DiffSummary); !isSummary {
		t.Fatalf("%+v", result)
	}
	a, _, _ := parse(t, &out)
	for _, path := range []string{"more", "pieces0", "sparse", "promised", "work/user", "work/many", "work/acl", "work/below", "work/capable", "work/note", "work/tty", "work/disk", "work/linked"} {
		if a.entry(t, path).Status != "modified" {
			t.Errorf("%s: %+v", path, a.entry(t, path))
		}
	}
	for _, path := range a.paths(all) {
		if strings.HasPrefix(path, "work/same-") || path == "pieces1" || path == "work/trusted" {
			t.Errorf("%s did not change", path)
		}
	}
}

func imageTask(t *testing.T, from, to string) task {
	t.Helper()
	in := Input{Op: "diff", Root: "/", Patch: true, PatchLimitBytes: 32 << 20, BinaryLimitBytes: 1 << 20, Image: ours}
	return task{Input: in, Images: []descriptor{openFileOf(t, from), openFileOf(t, to), openFileOf(t, from)}}
}

func TestComparisonThatOnlyAKernelCanMakeIsLeftToOne(t *testing.T) {
	for name, one := range map[string]struct {
		args []string
		says string
		make func(t *testing.T, folder string)
	}{
		"an attribute beyond a block": {args: []string{"-O", "ea_inode"}, says: "in an inode of its own", make: func(t *testing.T, folder string) {
			whileMounted(t, folder, "rw", func(root string) { disk{t, root}.set("file", "user.huge", make([]byte, 20_000)) })
		}},
		"a damaged folder": {says: "the checksum of inode", make: func(t *testing.T, folder string) {
			whileMounted(t, folder, "rw", func(root string) { disk{t, root}.write("below/file", "x") })
			run(t, "debugfs", "-w", "-R", "set_inode_field /below checksum 0x1234", filepath.Join(folder, imageFile))
		}},
		"another disk": {says: "is not that of the workspace", make: func(t *testing.T, folder string) {
			run(t, "debugfs", "-w", "-R", "set_super_value volume_name else", filepath.Join(folder, imageFile))
		}},
		"a name that is too long to be told": {says: "look at", make: func(t *testing.T, folder string) {
			path := strings.Repeat(strings.Repeat("n", 250)+"/", 8) + "file"
			whileMounted(t, folder, "rw", func(root string) { disk{t, root}.write(path, "x") })
			run(t, "debugfs", "-w", "-R", "set_inode_field /"+path+" block[0] 7", filepath.Join(folder, imageFile))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := newImage(t, one.args...), t.TempDir()
			copyImage(t, before, after)
			one.make(t, after)
			var out bytes.Buffer
			result, err := diffImages(imageTask(t, before, after), &out)
			must(t, err)
			said, isLeft := result.(Unreadable)
			if !isLeft || !strings.Contains(said.Unreadable, one.says) || len(said.Unreadable) > 1024 || out.Len() > 0 {
				t.Errorf("%+v, %d bytes; it should say %q", result, out.Len(), one.says)
			}
		})
	}
}

func TestComparisonThatFailsLateIsAnError(t *testing.T) {
	before, after := newImage(t), t.TempDir()
	copyImage(t, before, after)
	whileMounted(t, after, "rw", func(root string) {
		for n := range 3 * entriesLimit {
			disk{t, root}.write(fmt.Sprintf("file%04d", n), "")
		}
		disk{t, root}.write("z", "")
	})
	run(t, "debugfs", "-w", "-R", "set_inode_field z checksum 0x1234", filepath.Join(after, imageFile))
	var out bytes.Buffer
	result, err := diffImages(imageTask(t, before, after), &out)
	if !errors.Is(err, ext4.ErrUnreadable) || out.Len() == 0 {
		t.Errorf("%+v, %v after %d bytes", result, err, out.Len())
	}
}

func TestASignOfLifeLeavesTheRestToAKernel(t *testing.T) {
	e := newEmitter(Input{}, io.Discard)
	must(t, e.stayAlive())
	if e.began {
		t.Error("a sign of life was taken for an answer")
	}
	must(t, e.add(&Entry{}))
	must(t, e.stayAlive())
	if !e.began {
		t.Error("an entry was sent")
	}
}

// TestForgedTimesHideNoChange gives a change time before 1970, which only who writes the disk itself can, to two files of
// one size and time.
func TestForgedTimesHideNoChange(t *testing.T) {
	before, after := newImage(t), t.TempDir()
	when := time.Unix(1_700_000_000, 0)
	whileMounted(t, before, "rw", func(root string) {
		disk{t, root}.write("file", "before")
		must(t, os.Chtimes(filepath.Join(root, "file"), when, when))
	})
	copyImage(t, before, after)
	whileMounted(t, after, "rw", func(root string) {
		disk{t, root}.overwrite("file", 0, "after!")
		must(t, os.Chtimes(filepath.Join(root, "file"), when, when))
	})
	for _, folder := range []string{before, after} {
		for _, field := range []string{"ctime 0x80000000", "ctime_extra 0"} {
			run(t, "debugfs", "-w", "-R", "set_inode_field file "+field, filepath.Join(folder, imageFile))
		}
	}
	var out bytes.Buffer
	_, err := diffImages(imageTask(t, before, after), &out)
	must(t, err)
	if a, _, _ := parse(t, &out); len(a.entries) != 1 {
		t.Errorf("read: %v", a.paths(all))
	}
	whileMounted(t, before, "ro,noload", func(rootBefore string) {
		whileMounted(t, after, "ro,noload", func(rootAfter string) {
			a := mustCompare(t, Input{}, places{from: rootBefore, to: rootAfter, ignoreFrom: rootBefore})
			if len(a.entries) != 1 {
				t.Errorf("shown: %v", a.paths(all))
			}
		})
	})
}

// TestDamagedImagesAreCompared is TestDamagedImagesAreMet for comparisons with what the image was.
func TestDamagedImagesAreCompared(t *testing.T) {
	for _, format := range []string{"no checksums", "block maps"} {
		t.Run(format, func(t *testing.T) {
			folder := newImage(t, append(formats[format], "-N", "4096")...)
			if format == "block maps" {
				run(t, "tune2fs", "-O", "^metadata_csum", filepath.Join(folder, imageFile))
			}
			whileMounted(t, folder, "rw", func(root string) {
				writeAwkward(t, root)
				writeComparable(t, root)
			})
			whole := t.TempDir()
			copyImage(t, folder, whole)
			compared := imageTask(t, whole, folder)
			met, seen := 0, 0
			damage(t, folder, 400, rand.New(rand.NewPCG(3, 6)), func() {
				sent := &bounded{left: 256 << 20}
				result, err := diffImages(compared, sent)
				if err != nil {
					checkDamageError(t, err)
				}
				_, isLeft := result.(Unreadable)
				if err != nil || isLeft {
					met++
				} else if result.(DiffSummary).Changed > 0 {
					seen++
				}
			})
			t.Logf("%d met, %d seen", met, seen)
			if met == 0 || seen == 0 {
				t.Error("no change was met")
			}
			result, err := diffImages(compared, io.Discard)
			must(t, err)
			if summary, isSummary := result.(DiffSummary); !isSummary || summary.Changed > 0 {
				t.Errorf("the whole image: %+v", result)
			}
		})
	}
}
