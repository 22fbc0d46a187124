package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

// image unpacks a root filesystem, or layers of one.
func image(t testing.TB, root string, layers ...[]byte) (Result, error) {
	t.Helper()
	x := NewExtractor(openRoot(t, root), Options{Limits: wide, Root: "/", Image: true})
	defer x.Close()
	for _, layer := range layers {
		if err := x.Layer(context.Background(), bytes.NewReader(layer)); err != nil {
			return x.Result(), err
		}
	}
	return x.Result(), nil
}

func mustImage(t testing.TB, root string, layers ...[]byte) Result {
	t.Helper()
	result, err := image(t, root, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestAnImageKeepsWhatItsOwnerMade(t *testing.T) {
	root := t.TempDir()
	suid, owned, caps, pipe, free := file("bin/su", "x"), file("srv/u/f", "x"), file("bin/ping", "x"), node("run/pipe", tar.TypeFifo), symlink("etc/out", "/../../../etc")
	suid.Mode, owned.Uid, owned.Gid, owned.Mode = 0o4755, 1000, 1001, 0o640
	// cap_net_raw=ep
	caps.PAXRecords = map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"SCHILY.xattr.user.mark":           "kept", "SCHILY.xattr.trusted.overlay.opaque": "y",
	}
	caps.Uid = 7
	home := folder("srv/u/")
	home.Uid, home.Gid, home.Mode = 1000, 1001, 0o2750
	result := mustImage(t, root, pack(t, suid, home, owned, caps, pipe, free, node("dev/null", tar.TypeChar), node("dev/sda", tar.TypeBlock), file("/abs", "x")))
	if result.Devices != 2 {
		t.Errorf("skipped %d devices", result.Devices)
	}
	got := listing(t, root, `%P %y %m %U:%G %l\0`)
	for _, want := range []string{
		"bin/su f 4755 0:0 ", "srv/u d 2750 1000:1001 ", "srv/u/f f 640 1000:1001 ", "bin/ping f 644 7:0 ", "run/pipe p 644 0:0 ",
		"etc/out l 777 0:0 /../../../etc", "abs f 644 0:0 ",
	} {
		if !strings.Contains(got, want+"\x00") {
			t.Errorf("%q is missing in\n%s", want, printable(got))
		}
	}
	if strings.Contains(got, "dev/") {
		t.Errorf("there are devices: %s", printable(got))
	}
	for name, want := range map[string]string{"user.mark": "kept", "security.capability": caps.PAXRecords["SCHILY.xattr.security.capability"]} {
		value := make([]byte, 100)
		n, err := unix.Lgetxattr(root+"/bin/ping", name, value)
		if err == unix.EOPNOTSUPP {
			continue
		}
		if err != nil || string(value[:n]) != want {
			t.Errorf("%s is %q, %v", name, value[:max(n, 0)], err)
		}
	}
	if _, err := unix.Lgetxattr(root+"/bin/ping", "trusted.overlay.opaque", nil); err == nil {
		t.Error("an attribute of the trusted namespace was taken")
	}
}

func TestLayersFollowSymlinksOnlyWithinTheImage(t *testing.T) {
	outer := t.TempDir()
	root := outer + "/root"
	put(t, outer+"/etc/x", "outside")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	mustImage(t, root,
		pack(t, folder("usr/bin"), symlink("bin", "usr/bin"), symlink("up", "../../../etc"), folder("etc"), symlink("abs", "/etc"), symlink("chain", "abs")),
		pack(t, file("bin/tool", "x"), file("up/one", "x"), file("abs/two", "x"), file("chain/three", "x"), folder("bin/sub")),
	)
	for _, path := range []string{"usr/bin/tool", "etc/one", "etc/two", "etc/three", "usr/bin/sub"} {
		if _, err := os.Lstat(root + "/" + path); err != nil {
			t.Error(err)
		}
	}
	if got := listing(t, outer+"/etc", names); got != "x\x00" {
		t.Errorf("outside is %q", got)
	}
	for name, layer := range map[string][]byte{
		"a symlink to nothing": pack(t, symlink("s", "gone"), file("s/x", "x")), "a loop": pack(t, symlink("l", "l"), file("l/x", "x")),
		"a file": pack(t, file("f", "x"), file("f/x", "x")),
	} {
		_, err := image(t, t.TempDir(), layer)
		var typed *message.Error
		if !errors.As(err, &typed) {
			t.Errorf("through %s: %v", name, err)
		}
	}
}

func TestALaterLayerReplaces(t *testing.T) {
	root := t.TempDir()
	mustImage(t, root,
		pack(t, file("a", "one"), folder("d"), file("d/x", "one"), symlink("s", "d"), file("f", "file"), file("h1", "x"), hardlink("h2", "h1")),
		pack(t, file("a", "two"), file("d", "now a file"), folder("s"), file("s/y", "in a folder"), folder("f"), file("f/z", "z"), file("h1", "changed")),
	)
	for path, want := range map[string]string{"a": "two", "d": "now a file", "s/y": "in a folder", "f/z": "z", "h1": "changed", "h2": "x"} {
		if got := contentOf(t, root+"/"+path); got != want {
			t.Errorf("%s holds %q", path, got)
		}
	}
}

func TestWhiteoutsDeleteWhatLowerLayersMade(t *testing.T) {
	lower := pack(t,
		file("gone", "x"), file("kept", "x"), folder("d"), file("d/gone", "x"), file("d/kept", "x"), folder("tree"), file("tree/deep/x", "x"),
		folder("o"), file("o/old", "x"), folder("o/sub"), file("o/sub/old", "x"), symlink("ln", "d"), file("replaced", "old"),
	)
	for name, c := range map[string]struct {
		upper []entry
		want  string
	}{
		"a file":            {[]entry{file(".wh.gone", "")}, "-gone"},
		"in a folder":       {[]entry{file("d/.wh.gone", "")}, "-d/gone"},
		"a tree":            {[]entry{file(".wh.tree", "")}, "-tree -tree/deep -tree/deep/x"},
		"what is not there": {[]entry{file(".wh.nothing", ""), file("no/such/.wh.x", "")}, ""},
		"opaque first":      {[]entry{folder("o"), file("o/.wh..wh..opq", ""), file("o/new", "x"), file("o/sub/new", "x")}, "-o/old -o/sub/old +o/new +o/sub/new"},
		"opaque last":       {[]entry{folder("o"), file("o/new", "x"), file("o/sub/new", "x"), file("o/.wh..wh..opq", "")}, "-o/old -o/sub/old +o/new +o/sub/new"},
		"own stays":         {[]entry{file("replaced", "new"), file(".wh.replaced", "")}, ""},
		"other marks":       {[]entry{file(".wh..wh.plnk/1", ""), file(".wh..wh.aufs", "")}, ""},
		"through a symlink": {[]entry{file("ln/.wh.gone", "")}, "-d/gone"},
	} {
		lowerOnly, got := t.TempDir(), t.TempDir()
		mustImage(t, lowerOnly, lower)
		mustImage(t, got, lower, pack(t, c.upper...))
		want := map[string]bool{}
		for path := range strings.SplitSeq(listing(t, lowerOnly, names), "\x00") {
			want[path] = true
		}
		for change := range strings.FieldsSeq(c.want) {
			if change[0] == '+' {
				want[change[1:]] = true
			} else {
				delete(want, change[1:])
			}
		}
		left := strings.Split(listing(t, got, names), "\x00")
		for _, path := range left {
			if !want[path] {
				t.Errorf("%s: %s is there", name, path)
			}
		}
		if len(left) != len(want) {
			t.Errorf("%s: there is %q", name, left)
		}
	}
	for _, bad := range []string{".wh.", ".wh...", "d/.wh.", ".wh.."} {
		_, err := image(t, t.TempDir(), lower, pack(t, file(bad, "")))
		if err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestWhiteoutsNeverDeleteOutside(t *testing.T) {
	outer := t.TempDir()
	root := outer + "/root"
	put(t, outer+"/etc/x", "outside")
	put(t, root+"/etc/x", "inside")
	mustImage(t, root, pack(t, symlink("up", "../etc"), symlink("abs", outer+"/etc")), pack(t, file("up/.wh.x", ""), file("abs/.wh.x", ""), file("abs/.wh..wh..opq", "")))
	if contentOf(t, outer+"/etc/x") != "outside" {
		t.Error("the file outside changed")
	}
	if _, err := os.Lstat(root + "/etc/x"); err == nil {
		t.Error("the file inside is still there")
	}
}

func TestHardLinksOfImagesMayBeRooted(t *testing.T) {
	root := t.TempDir()
	mustImage(t, root, pack(t, file("bin/a", "x"), hardlink("b", "/bin/a"), symlink("s", "bin"), hardlink("c", "s/a")))
	var a, b, c unix.Stat_t
	if err := errors.Join(unix.Stat(root+"/bin/a", &a), unix.Stat(root+"/b", &b), unix.Stat(root+"/c", &c)); err != nil {
		t.Fatal(err)
	}
	if a.Ino != b.Ino || a.Ino != c.Ino || a.Nlink != 3 {
		t.Errorf("inodes %d %d %d", a.Ino, b.Ino, c.Ino)
	}
	for _, target := range []string{"../x", "gone", "bin"} {
		if _, err := image(t, t.TempDir(), pack(t, folder("bin"), hardlink("h", target))); err == nil {
			t.Errorf("a hard link to %s is taken", target)
		}
	}
}

func TestTimesOfFoldersOutliveTheirEntries(t *testing.T) {
	root := t.TempDir()
	mustImage(t, root, pack(t, folder("d"), file("d/a", "x"), folder("d/e"), file("d/e/f", "x")))
	for _, path := range []string{"d", "d/e", "d/a"} {
		if info, err := os.Stat(root + "/" + path); err != nil || !info.ModTime().Equal(stamp) {
			t.Errorf("%s: %v %v", path, info.ModTime(), err)
		}
	}
}
