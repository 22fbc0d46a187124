package inspect

import (
	"bytes"
	"io"

	"golang.org/x/sys/unix"
)

const (
	openFile = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC

	compareBufferBytes = 256 << 10
	// sniffBytes is where git looks for what makes a file binary.
	sniffBytes = 8000
)

func readAll(from file, size int64) ([]byte, error) {
	content := make([]byte, size)
	n, err := from.read(content, 0)
	if err == nil && int64(n) < size {
		err = io.ErrUnexpectedEOF
	}
	return content, err
}

// comparer holds the buffers of one worker.
type comparer struct{ a, b []byte }

// same compares two files of one size. What is a hole in both is not read, so that a huge empty file costs nothing.
func (c *comparer) same(a, b file, size int64) (bool, error) {
	if c.a == nil {
		c.a, c.b = make([]byte, compareBufferBytes), make([]byte, compareBufferBytes)
	}
	holes := size > compareBufferBytes
	for at := int64(0); at < size; {
		end := size
		if holes {
			var err error
			if at, end, err = nextPart(a, b, at, size); err != nil || at == size {
				return err == nil, err
			}
		}
		for at < end {
			n := min(end-at, compareBufferBytes)
			readA, err := a.read(c.a[:n], at)
			if err != nil {
				return false, err
			}
			readB, err := b.read(c.b[:n], at)
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

// nextPart is the next range that is not a hole in both; size when there is none.
func nextPart(a, b file, at, size int64) (start, end int64, err error) {
	startA, err := a.nextData(at, size)
	if err != nil {
		return 0, 0, err
	}
	startB, err := b.nextData(at, size)
	if err != nil {
		return 0, 0, err
	}
	start = min(startA, startB)
	if start == size {
		return size, size, nil
	}
	endA, endB := startA, startB
	if startA == start {
		endA, err = a.nextHole(start, size)
	}
	if err == nil && startB == start {
		endB, err = b.nextHole(start, size)
	}
	return start, min(endA, endB), err
}
