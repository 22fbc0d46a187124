package inspect

import (
	"bytes"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

const (
	openFile = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC

	compareBufferBytes = 256 << 10
	// sniffBytes is where git looks for what makes a file binary.
	sniffBytes = 8000
)

// openRegular opens a file of a frozen tree. Nothing changes there, so it is what stat said; checked all the same.
func openRegular(folder *sharedFolder, name string) (int, error) {
	fd, err := unix.Openat(folder.fd, name, openFile, 0)
	if err != nil {
		return -1, fmt.Errorf("open %q: %w", name, err)
	}
	var stat unix.Stat_t
	if err = unix.Fstat(fd, &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EINVAL
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("open %q: %w", name, err)
	}
	return fd, nil
}

func readAll(fd int, size int64) ([]byte, error) {
	content := make([]byte, size)
	n, err := readFull(fd, content, 0)
	if err == nil && int64(n) < size {
		err = io.ErrUnexpectedEOF
	}
	return content, err
}

// readFull fills the buffer as far as the file goes.
func readFull(fd int, buffer []byte, offset int64) (int, error) {
	done := 0
	for done < len(buffer) {
		n, err := unix.Pread(fd, buffer[done:], offset+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return done, fmt.Errorf("read: %w", err)
		case n == 0:
			return done, nil
		}
		done += n
	}
	return done, nil
}

// comparer holds the buffers of one worker.
type comparer struct{ a, b []byte }

// same compares two files of one size. What is a hole in both is not read, so that a huge empty file costs nothing.
func (c *comparer) same(a, b int, size int64) (bool, error) {
	if c.a == nil {
		c.a, c.b = make([]byte, compareBufferBytes), make([]byte, compareBufferBytes)
	}
	holes := size > compareBufferBytes
	for at := int64(0); at < size; {
		end := size
		if holes {
			var err error
			if at, end, err = nextData(a, b, at, size); err != nil || at == size {
				return err == nil, err
			}
		}
		for at < end {
			n := min(end-at, compareBufferBytes)
			readA, err := readFull(a, c.a[:n], at)
			if err != nil {
				return false, err
			}
			readB, err := readFull(b, c.b[:n], at)
			if err != nil {
				return false, err
			}
			if !bytes.Equal(c.a[:readA], c.b[:readB]) {
				return false, nil
			}
			at += n
		}
	}
	return true, nil
}

// nextData is the next range that is not a hole in both; size when there is none.
func nextData(a, b int, at, size int64) (start, end int64, err error) {
	startA, err := seek(a, at, unix.SEEK_DATA, size)
	if err != nil {
		return 0, 0, err
	}
	startB, err := seek(b, at, unix.SEEK_DATA, size)
	if err != nil {
		return 0, 0, err
	}
	start = min(startA, startB)
	if start == size {
		return size, size, nil
	}
	endA, endB := startA, startB
	if startA == start {
		endA, err = seek(a, start, unix.SEEK_HOLE, size)
	}
	if err == nil && startB == start {
		endB, err = seek(b, start, unix.SEEK_HOLE, size)
	}
	return start, min(endA, endB), err
}

func seek(fd int, at int64, whence int, size int64) (int64, error) {
	found, err := unix.Seek(fd, at, whence)
	switch err {
	case nil:
		return min(found, size), nil
	case unix.ENXIO:
		return size, nil
	case unix.EINVAL, unix.EOPNOTSUPP:
		// A filesystem that does not tell has data everywhere.
		if whence == unix.SEEK_DATA {
			return at, nil
		}
		return size, nil
	}
	return 0, fmt.Errorf("look for holes: %w", err)
}
