package monitor

import (
	"os"

	"golang.org/x/sys/unix"
)

// files are what the runtime and the sandbox get.
type files struct {
	stdin, log int
	// bounded is the reader of log, where it has one.
	bounded *boundedLog
	passed  []int
}

func openFiles(s *spec) (*files, error) {
	f := &files{stdin: -1, log: -1}
	ok := false
	defer func() {
		if !ok {
			f.close()
		}
	}()
	var err error
	if f.stdin, err = open(s.StdinFile, unix.O_RDONLY); err != nil {
		return nil, err
	}
	if s.LogLimitBytes != nil {
		f.log, f.bounded, err = pipeToLog(s.LogFile, *s.LogLimitBytes)
	} else {
		f.log, err = open(s.LogFile, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT)
	}
	if err != nil {
		return nil, err
	}
	for _, file := range s.PassFiles {
		flags := unix.O_WRONLY
		if file.Open == "directory" {
			flags = unix.O_RDONLY | unix.O_DIRECTORY
		}
		fd, err := open(file.Path, flags)
		if err != nil {
			return nil, err
		}
		f.passed = append(f.passed, fd)
	}
	ok = true
	return f, nil
}

func open(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0o600)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

func (f *files) stdio() [3]int { return [3]int{f.stdin, f.log, f.log} }

// drainLog waits until the log holds what was said, as far as its writers are gone.
func (f *files) drainLog() {
	if f.bounded == nil {
		return
	}
	unix.Close(f.log)
	f.log = -1
	f.bounded.drain()
	if null, err := open(os.DevNull, unix.O_WRONLY); err == nil {
		f.log = null
	}
}

func (f *files) close() {
	for _, fd := range append([]int{f.stdin, f.log}, f.passed...) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	f.stdin, f.log, f.passed = -1, -1, nil
}
