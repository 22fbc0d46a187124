package inspect

import (
	"io"

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
	// began tells that something was sent.
	began bool
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

// copyFrom reads size bytes from a place of a file straight into frames.
func (s *frameStream) copyFrom(file descriptor, from, size int64) error {
	for size > 0 {
		free := s.free()
		n, err := file.ReadAt(free[:min(int64(len(free)), size)], from)
		if err != nil {
			return err
		}
		s.fill += n
		from += int64(n)
		size -= int64(n)
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

// zeros writes as many.
func (s *frameStream) zeros(size int64) error {
	for size > 0 {
		free := s.free()
		n := min(int64(len(free)), size)
		clear(free[:n])
		s.fill += int(n)
		size -= n
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
	s.began = true
	frames.PutHeader(s.buffer, frames.Data, s.fill)
	_, err := s.to.Write(s.buffer[:frames.HeaderBytes+s.fill])
	s.fill = 0
	return err
}
