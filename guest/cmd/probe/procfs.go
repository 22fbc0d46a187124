package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const readLimitBytes = 64 << 10

// rewrite writes into a file what stands there already.
func rewrite(path string) func(string) (string, error) {
	return func(string) (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return "", err
		}
		defer file.Close()
		if _, err := file.Write(text); err != nil {
			return "", err
		}
		return fmt.Sprintf("wrote %q", text), nil
	}
}

func openToWrite(path string) func(string) (string, error) {
	return func(string) (string, error) {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return "", err
		}
		return "opened " + path, file.Close()
	}
}

// writableBelow opens every file of a tree for writing and writes nothing.
func writableBelow(folder string) func(string) (string, error) {
	return func(string) (string, error) {
		var found []string
		seen := 0
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil
			}
			seen++
			file, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				return nil
			}
			file.Close()
			found = append(found, path)
			return nil
		})
		if err != nil {
			return "", err
		}
		if len(found) == 0 {
			return "", fmt.Errorf("none of %d files below %s can be written", seen, folder)
		}
		return strings.Join(found, " "), nil
	}
}

// readable reads the beginning of a file, without waiting for more to come.
func readable(path string) func(string) (string, error) {
	return func(string) (string, error) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(fd)
		buffer := make([]byte, readLimitBytes)
		n, err := unix.Read(fd, buffer)
		if errors.Is(err, unix.EAGAIN) {
			return "opened, nothing new in it", nil
		}
		if err != nil {
			return "", &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return "", fmt.Errorf("%s is empty", path)
		}
		return fmt.Sprintf("%d bytes: %.80q", n, buffer[:n]), nil
	}
}

// kernelAddresses wants addresses, not the zeros that a careful kernel shows.
func kernelAddresses(string) (string, error) {
	text, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(text) {
		if strings.Trim(string(bytes.Fields(line)[0]), "0") != "" {
			return string(line), nil
		}
	}
	return "", errNothing
}

func namesBelow(folder string) func(string) (string, error) {
	return func(string) (string, error) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return "", err
		}
		if len(entries) == 0 {
			return "", errNothing
		}
		names := make([]string, 0, len(entries))
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return strings.Join(names, " "), nil
	}
}

func makeFileIn(folder string) func(string) (string, error) {
	return func(string) (string, error) {
		path := filepath.Join(folder, "probe")
		file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return "", err
		}
		file.Close()
		return "made " + path, os.Remove(path)
	}
}

// call turns the errno of a raw call into an error that names it.
func call(name string, errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w (%s)", name, errno, unix.ErrnoName(errno))
}

// passed is for calls that are stopped halfway on purpose: any errno but those of a refusal says that the gate was open.
func passed(name string, errno syscall.Errno) (string, error) {
	switch errno {
	case unix.EPERM, unix.EACCES, unix.ENOSYS:
		return "", call(name, errno)
	case 0:
		return name + " was done", nil
	}
	return fmt.Sprintf("%s was examined: %s", name, unix.ErrnoName(errno)), nil
}
