package isolate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/proc"
)

const idBase = 1 << 30

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// probe is what the inside is asked to do.
type probe struct {
	What string `json:"what"`
	Path string `json:"path"`
}

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "probe" && os.Args[2] == InsideArgument:
		os.Exit(inside())
	case len(os.Args) > 2 && os.Args[1] == "host":
		spec := Spec{
			Role: "probe", Mapping: Mapping{idBase, 65536}, Mounts: []Mount{{Host: os.Args[2], Target: "/"}}, Write: true,
			Input: probe{What: "wait"}, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		}
		code, err := Run(spec)
		fmt.Fprintln(os.Stderr, code, err)
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func inside() int {
	var p probe
	if err := Enter(&p); err != nil {
		fmt.Println("enter:", err)
		return 99
	}
	found := map[string]string{}
	switch p.What {
	case "look":
		look(found)
	case "calls":
		forbidden(found)
	case "files":
		files(found)
	case "write":
		writes(found)
	case "exit":
		return 42
	case "crash":
		*(*int)(nil) = 1
	case "wait":
		fmt.Println("{}")
		time.Sleep(time.Hour)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		return 98
	}
	return 0
}

func say(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return fmt.Sprint(err)
}

func names(path string) string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return say(err)
	}
	list := make([]string, len(entries))
	for at, entry := range entries {
		list[at] = entry.Name()
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func look(found map[string]string) {
	found["root"] = names("/")
	found["above"] = names("/../../..")
	found["mounted"] = names("/mounted")
	found["ids"] = fmt.Sprint(os.Getuid(), os.Getgid(), os.Getpid())
	var status unix.Stat_t
	found["proc"] = say(unix.Stat("/proc/self", &status))
	found["env"] = strings.Join(os.Environ(), " ")
}

// forbidden tries what escapes begin with.
func forbidden(found map[string]string) {
	call := func(name string, number uintptr, arguments ...uintptr) {
		var a [6]uintptr
		copy(a[:], arguments)
		_, _, errno := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == 0 {
			found[name] = "works"
		} else {
			found[name] = unix.ErrnoName(errno)
		}
	}
	slash, err := unix.BytePtrFromString("/")
	if err != nil {
		found["slash"] = err.Error()
		return
	}
	root := uintptr(unsafe.Pointer(slash))
	call("mount", unix.SYS_MOUNT, root, root, 0, unix.MS_BIND)
	call("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	call("setns", unix.SYS_SETNS, 0, 0)
	call("chroot", unix.SYS_CHROOT, root)
	call("pivot_root", unix.SYS_PIVOT_ROOT, root, root)
	call("socket", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM)
	call("ptrace", unix.SYS_PTRACE, unix.PTRACE_TRACEME)
	call("bpf", unix.SYS_BPF)
	call("keyctl", unix.SYS_KEYCTL)
	call("perf_event_open", unix.SYS_PERF_EVENT_OPEN)
	call("io_uring_setup", unix.SYS_IO_URING_SETUP, 1)
	call("userfaultfd", unix.SYS_USERFAULTFD)
	call("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT)
	call("kill", unix.SYS_KILL, 1, 0)
	call("fork", unix.SYS_CLONE, uintptr(unix.SIGCHLD))
	call("clone3", unix.SYS_CLONE3)
	call("execve", unix.SYS_EXECVE, root)
	call("execveat", unix.SYS_EXECVEAT, 0, root)
	call("capset", unix.SYS_CAPSET)
	call("setuid", unix.SYS_SETUID, 0)
	call("ioctl", unix.SYS_IOCTL, 0, unix.TIOCSTI)
	call("mknod", unix.SYS_MKNODAT, ^uintptr(99), root, unix.S_IFCHR|0o666, 0x103)
	call("sethostname", unix.SYS_SETHOSTNAME, root, 1)
	call("name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT)
	call("x32", 0x40000000|unix.SYS_GETPID)
}

func files(found map[string]string) {
	open := func(name, path string, flags int) {
		fd, err := unix.Open(path, flags, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		found[name] = say(err)
	}
	open("read", "/a/file", unix.O_RDONLY)
	open("write", "/a/file", unix.O_WRONLY)
	open("create", "/a/new", unix.O_WRONLY|unix.O_CREAT)
	open("device", "/a/null", unix.O_RDONLY)
	open("symlink", "/a/link", unix.O_RDONLY)
	open("root", "/new", unix.O_WRONLY|unix.O_CREAT)
	open("host", "/etc/passwd", unix.O_RDONLY)
	found["second"] = names("/b")
}

func writes(found map[string]string) {
	found["write"] = say(os.WriteFile("/new", []byte("x"), 0o644))
	found["fifo"] = say(unix.Mknod("/fifo", unix.S_IFIFO|0o644, 0))
	found["device"] = say(unix.Mknod("/device", unix.S_IFCHR|0o644, 0x103))
	found["chown"] = say(os.Chown("/new", 1000, 1000))
	found["override"] = say(os.WriteFile("/closed", []byte("x"), 0o644))
	found["root"] = names("/")
}

// run asks inside and decodes what it found.
func run(t *testing.T, spec Spec) map[string]string {
	t.Helper()
	out, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	spec.Role, spec.Mapping, spec.Stdout, spec.Stderr = "probe", Mapping{idBase, 65536}, out, os.Stderr
	code, err := Run(spec)
	if err != nil || code != 0 {
		content, _ := os.ReadFile(out.Name())
		t.Fatalf("code %d, %v: %s", code, err, content)
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var found map[string]string
	if err := json.NewDecoder(out).Decode(&found); err != nil {
		t.Fatal(err)
	}
	return found
}

func want(t *testing.T, found, expected map[string]string) {
	t.Helper()
	for name, answer := range expected {
		if found[name] != answer {
			t.Errorf("%s: %q, want %q", name, found[name], answer)
		}
	}
}

func newVolume(t *testing.T) string {
	t.Helper()
	volume := t.TempDir()
	for _, err := range []error{
		os.WriteFile(volume+"/file", []byte("text"), 0o644), os.Symlink("file", volume+"/link"),
		unix.Mknod(volume+"/null", unix.S_IFCHR|0o666, 0x103), os.Chown(volume, idBase, idBase), os.Chown(volume+"/file", idBase, idBase), os.Chmod(volume, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return volume
}

func TestTheInsideSeesItsVolumesAndNothingElse(t *testing.T) {
	volume := newVolume(t)
	found := run(t, Spec{Mounts: []Mount{{Host: volume, Target: "/"}}, Write: true, Input: probe{What: "look"}})
	want(t, found, map[string]string{
		"root": "file link null", "above": "file link null", "ids": "0 0 1", "proc": "ENOENT", "env": "GOTRACEBACK=none",
	})
	found = run(t, Spec{
		Mounts: []Mount{{Host: volume, Target: "a", ReadOnly: true}, {Host: t.TempDir(), Target: "b", ReadOnly: true}}, Input: probe{What: "look"},
	})
	want(t, found, map[string]string{"root": "a b", "above": "a b"})
}

func TestNothingThatEscapesBeginWithIsAllowed(t *testing.T) {
	for _, write := range []bool{false, true} {
		found := run(t, Spec{Mounts: []Mount{{Host: newVolume(t), Target: "/"}}, Write: write, Input: probe{What: "calls"}})
		if len(found) < 20 {
			t.Errorf("only %d calls were tried: %v", len(found), found)
		}
		for name, answer := range found {
			if wanted := map[string]string{"clone3": "ENOSYS"}[name]; answer != wanted && (wanted != "" || answer != "EPERM") {
				t.Errorf("%s (writing %t): %s", name, write, answer)
			}
		}
	}
}

func TestReadOnlyVolumesAreThat(t *testing.T) {
	first, second := newVolume(t), newVolume(t)
	found := run(t, Spec{
		Mounts: []Mount{{Host: first, Target: "a", ReadOnly: true}, {Host: second, Target: "b", ReadOnly: true}}, Input: probe{What: "files"},
	})
	want(t, found, map[string]string{
		"read": "<nil>", "write": "EROFS", "create": "EROFS", "device": "EACCES", "symlink": "ELOOP", "root": "EROFS", "host": "ENOENT",
		"second": "file link null",
	})
	if _, err := os.Lstat(first + "/new"); err == nil {
		t.Error("something was written")
	}
}

func TestWhatIsWrittenBelongsToTheMappedIDs(t *testing.T) {
	volume := newVolume(t)
	if err := os.WriteFile(volume+"/closed", nil, 0); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Mounts: []Mount{{Host: volume, Target: "/"}}, Write: true, Input: probe{What: "write"}}
	want(t, run(t, spec), map[string]string{
		"write": "<nil>", "fifo": "<nil>", "device": "EPERM", "chown": "EPERM", "override": "EACCES", "root": "closed fifo file link new null",
	})
	spec.Capabilities = []uintptr{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE}
	if err := os.Chown(volume+"/closed", idBase, idBase); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(volume + "/fifo"); err != nil {
		t.Fatal(err)
	}
	want(t, run(t, spec), map[string]string{"write": "<nil>", "device": "EPERM", "chown": "<nil>", "override": "<nil>"})
	var stat unix.Stat_t
	if err := unix.Stat(volume+"/new", &stat); err != nil || stat.Uid != idBase+1000 || stat.Gid != idBase+1000 {
		t.Errorf("the file belongs to %d:%d, %v", stat.Uid, stat.Gid, err)
	}
}

func TestAMountBelowAVolumeIsNotSeen(t *testing.T) {
	volume := newVolume(t)
	if err := os.Mkdir(volume+"/mounted", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", volume+"/mounted", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(volume+"/mounted", unix.MNT_DETACH)
	if err := os.WriteFile(volume+"/mounted/secret", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	found := run(t, Spec{Mounts: []Mount{{Host: volume, Target: "/"}}, Write: true, Input: probe{What: "look"}})
	want(t, found, map[string]string{"root": "file link mounted null", "mounted": ""})
}

func TestHowTheInsideEndedIsTold(t *testing.T) {
	spec := Spec{
		Role: "probe", Mapping: Mapping{idBase, 65536}, Mounts: []Mount{{Host: newVolume(t), Target: "/"}}, Write: true,
		Stdout: os.Stderr, Input: probe{What: "exit"},
	}
	if code, err := Run(spec); code != 42 || err != nil {
		t.Errorf("got %d %v", code, err)
	}
	spec.Input = probe{What: "crash"}
	if code, err := Run(spec); code == 0 && err == nil {
		t.Errorf("a crash is %d %v", code, err)
	}
	spec.Mapping = Mapping{}
	if _, err := Run(spec); err == nil {
		t.Error("a sandbox without ids of its own starts")
	}
	spec.Mapping = Mapping{idBase, 65536}
	spec.Mounts[0].Host += "/gone"
	if _, err := Run(spec); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a missing volume: %v", err)
	}
}

func TestTheInsideDiesWithItsParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(self, "host", newVolume(t))
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	defer host.Wait()
	defer host.Process.Kill()
	if _, err := io.ReadFull(out, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	children := childrenOf(t, host.Process.Pid)
	if len(children) != 1 {
		t.Fatalf("the host has the children %v", children)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if stat, err := proc.ReadStat(children[0]); err != nil || stat.Dead() {
			return
		}
		if time.Now().After(deadline) {
			_ = unix.Kill(children[0], unix.SIGKILL)
			t.Fatal("the inside outlives the host")
		}
	}
}

func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var children []int
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			children = append(children, child)
		}
	}
	return children
}
