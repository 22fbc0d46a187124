package inspect

import (
	"io"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/frames"
)

// dataFrameBytes is the payload of a full data frame.
const dataFrameBytes = 1 << 20

// frameStream cuts what is written into large data frames.
type frameStream struct {
	to io.Writer
	// buffer holds the header of the frame, then fill bytes of its payload.
	buffer []byte
	fill   int
}

func newFrameStream(to io.Writer) *frameStream {
	return &frameStream{to: to, buffer: make([]byte, frames.HeaderBytes+dataFrameBytes)}
}

func (s *frameStream) free() []byte { return s.buffer[frames.HeaderBytes+s.fill:] }

func (s *frameStream) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := copy(s.free(), p)
		s.fill += n
		p = p[n:]
		if err := s.flushFull(); err != nil {
			return written - len(p), err
		}
	}
	return written, nil
}

// copyFrom reads straight into the frame.
func (s *frameStream) copyFrom(fd int, size int64) error {
	for at := int64(0); at < size; {
		free := s.free()
		n, err := unix.Pread(fd, free[:min(int64(len(free)), size-at)], at)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		s.fill += n
		at += int64(n)
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

func (s *frameStream) flushFull() error {
	if len(s.free()) > 0 {
		return nil
	}
	return s.Flush()
}

// Flush sends what is there.
func (s *frameStream) Flush() error {
	if s.fill == 0 {
		return nil
	}
	frames.PutHeader(s.buffer, frames.Data, s.fill)
	_, err := s.to.Write(s.buffer[:frames.HeaderBytes+s.fill])
	s.fill = 0
	return err
}
