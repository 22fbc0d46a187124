package exec

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// readAheadBytes is more than a library of C has.
const readAheadBytes = 4 << 20

// kernelNames are what Linux calls the processors that Go has other names for.
var kernelNames = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// firstFiles are what the first command reads in most environments: accounts, a shell, and the loader and the C library of glibc
// (multiarch or not) or musl.
func firstFiles() []string {
	machine := kernelNames[runtime.GOARCH]
	return []string{
		"/etc/passwd", "/etc/group", "/bin/sh",
		"/lib/" + machine + "-linux-gnu/libc.so.6", "/lib64/libc.so.6",
		"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-" + machine + ".so.1",
	}
}

// GetReady does ahead what the first command would wait for, where that has a kernel of its own. It changes nothing on the disk.
func (r *Registry) GetReady() {
	if !r.spares.forks {
		return
	}
	for _, path := range firstFiles() {
		readAhead(path)
	}
	r.prepareSpare()
	_, _ = lookUpProgram("sh", "/", nil)
}

// readAhead returns before anything is read.
func readAhead(path string) {
	if status, err := stat(path); err != nil || status.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.Fadvise(fd, 0, readAheadBytes, unix.FADV_WILLNEED)
}
