package exec

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
)

// smallTree is a filesystem of its own that notes each access.
func smallTree(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := unix.Mount("tree", folder, "tmpfs", unix.MS_STRICTATIME, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// resident counts the pages of a file that are in memory.
func resident(t *testing.T, path string) int {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	status, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, int(status.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(memory) }()
	pages := make([]byte, (len(memory)+os.Getpagesize()-1)/os.Getpagesize())
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&memory[0])), uintptr(len(memory)), uintptr(unsafe.Pointer(&pages[0])))
	if errno != 0 {
		t.Fatal(errno)
	}
	count := 0
	for _, page := range pages {
		count += int(page & 1)
	}
	return count
}

func TestReadingAheadBringsTheWholeFile(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is read ahead there.
		return
	}
	const bytes = 3 << 20
	// The pages of a file in a folder of the host's can be dropped from memory; its links are those of the tree.
	file := filepath.Join(t.TempDir(), "library")
	if err := os.WriteFile(file, make([]byte, bytes), 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Fsync(fd); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	if kept := resident(t, file); kept > 100 {
		t.Fatalf("%d pages stayed in memory", kept)
	}
	tree, err := quietTree(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tree)
	readAhead(tree, "/library")
	eventually(t, "the file is in memory", func() bool { return resident(t, file) == bytes/os.Getpagesize() })
}

func TestLookingAheadLeavesNoTimeOfAccess(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is read ahead there.
		return
	}
	folder := smallTree(t)
	for name, target := range map[string]string{"lib": "usr/lib", "absolute": "/usr/lib"} {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(folder, "usr/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "usr/lib/libc.so"), []byte("library"), 0o644); err != nil {
		t.Fatal(err)
	}
	accessed := func() map[string]unix.Timespec {
		times := map[string]unix.Timespec{}
		for _, name := range []string{"lib", "absolute", "usr", "usr/lib", "usr/lib/libc.so"} {
			var status unix.Stat_t
			if err := unix.Lstat(filepath.Join(folder, name), &status); err != nil {
				t.Fatal(err)
			}
			times[name] = status.Atim
		}
		return times
	}
	before := accessed()
	tree, err := quietTree(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tree)
	for _, path := range []string{"/lib/libc.so", "/absolute/libc.so"} {
		readAhead(tree, path)
		fd, err := openWithin(tree, path, unix.O_PATH)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		unix.Close(fd)
	}
	for name, time := range accessed() {
		if time != before[name] {
			t.Errorf("%s has another time of access", name)
		}
	}
}

func TestReadingAheadWaitsForNobody(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is read ahead there.
		return
	}
	folder := smallTree(t)
	make := map[string]func(path string) error{
		"pipe":   func(path string) error { return unix.Mkfifo(path, 0o600) },
		"device": func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) },
		"loop":   func(path string) error { return os.Symlink("loop", path) },
		"magic":  func(path string) error { return os.Symlink("/proc/self/exe", path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o755) },
	}
	for name, one := range make {
		if err := one(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := quietTree(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tree)
	for name := range make {
		readAhead(tree, name)
	}
	readAhead(tree, "/no/such")
	// Outside of the tree there is nothing.
	if fd, err := openWithin(tree, "/../../etc/passwd", unix.O_PATH); err == nil {
		unix.Close(fd)
		t.Error("the way led out of the tree")
	}
}

func TestAProcessWaitsBeforeTheFirstCommand(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is forked ahead there.
		return
	}
	registry := newRegistryIn(t, commandGroup(t))
	registry.spares.keeps, registry.spares.forks = true, true
	registry.GetReady()
	waited := registry.WaitingPid()
	first := start(t, registry, "first", script("exit 0"))
	wantCode(t, attach(t, first, 0), 0)
	if waited == 0 || first.Pid() != waited {
		t.Errorf("process %d waited, the command is %d", waited, first.Pid())
	}
}
