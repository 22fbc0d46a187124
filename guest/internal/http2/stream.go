package http2

import (
	"context"
	"io"
	"strconv"
	"sync/atomic"

	"golang.org/x/net/http2/hpack"
)

const (
	// heldBytes of an answer wait for more of it.
	heldBytes = 4 << 10
	// joinedBytes go out in one write, which is what a machine's port takes at a time (virtio_console of Linux).
	joinedBytes = 32 << 10
)

// stream is one request and its answer.
type stream struct {
	conn    *conn
	id      uint32
	request Request
	body    body
	cancel  context.CancelFunc
	// closedByEngine: the request is complete.
	closedByEngine atomic.Bool

	// Of the handler's goroutine alone.
	status      int
	contentType string
	begun       bool
	held        []byte

	// Under the connection's lock: why nothing may be sent any more, what may be sent, what may be received, and what was read of
	// the body and is not granted again yet.
	over       error
	window     int64
	receivable int
	consumed   int
}

var _ Answer = (*stream)(nil)

func (s *stream) endOfBody() {
	s.closedByEngine.Store(true)
	s.body.end(io.EOF)
}

func (s *stream) bodyConsumed(n int) {
	s.conn.taken(s, n)
	s.conn.flushControls()
}

func (s *stream) Begin(status int, contentType string) {
	s.status, s.contentType = status, contentType
}

func (s *stream) Write(p []byte) (int, error) {
	if len(s.held)+len(p) <= heldBytes {
		s.held = append(s.held, p...)
		return len(p), nil
	}
	if err := s.sendHeld(); err != nil {
		return 0, err
	}
	if len(p) <= heldBytes {
		s.held = append(s.held, p...)
		return len(p), nil
	}
	if err := s.send(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *stream) Flush() error {
	if s.begun && len(s.held) == 0 {
		return nil
	}
	return s.sendHeld()
}

func (s *stream) sendHeld() error {
	if len(s.held) == 0 && s.begun {
		return nil
	}
	err := s.send(s.held, false)
	s.held = s.held[:0]
	return err
}

func (s *stream) finish() error { return s.send(s.held, true) }

// send waits until the engine grants what is sent.
func (s *stream) send(p []byte, end bool) error {
	for {
		n, err := s.reserve(len(p))
		if err != nil {
			return err
		}
		if n > 0 || len(p) == 0 || !s.begun {
			if err := s.sendFrame(p[:n], end && n == len(p)); err != nil {
				return err
			}
		}
		p = p[n:]
		if len(p) == 0 {
			return nil
		}
	}
}

// reserve takes up to wanted bytes of the windows. It waits for some, unless the answer has not begun: its headers go first.
func (s *stream) reserve(wanted int) (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if s.over != nil {
			return 0, s.over
		}
		n := min(int64(wanted), int64(c.frameLimit), s.window, c.window)
		if n > 0 {
			s.window -= n
			c.window -= n
			return int(n), nil
		}
		if wanted == 0 || !s.begun {
			return 0, nil
		}
		c.granted.Wait()
	}
}

// sendFrame writes one piece of the answer, after the headers if they were not sent.
func (s *stream) sendFrame(p []byte, end bool) error {
	c := s.conn
	c.writing.Lock()
	err := s.stillWanted(len(p))
	if err == nil {
		err = s.writeFrame(p, end)
	}
	c.writing.Unlock()
	c.flushControls()
	return err
}

// stillWanted gives reserved bytes back of a stream that ended while it waited for others to write: nghttp2 ends a session on which
// too much comes for streams that it broke off.
func (s *stream) stillWanted(reserved int) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.over != nil {
		c.window += int64(reserved)
		c.granted.Broadcast()
	}
	return s.over
}

// writeFrame is called with writing held.
func (s *stream) writeFrame(p []byte, end bool) error {
	c := s.conn
	out := c.takeControls(c.out[:0])
	if !s.begun {
		s.begun = true
		out = s.appendHeaders(out, end && len(p) == 0)
		end = end && len(p) > 0
	}
	if len(p) > 0 || end {
		flags := byte(0)
		if end {
			flags = flagEndStream
		}
		out = appendFrameHeader(out, len(p), frameData, flags, s.id)
	}
	joined := min(len(p), max(0, joinedBytes-len(out)))
	c.out = append(out, p[:joined]...)
	return c.send(c.out, p[joined:])
}

// appendHeaders is called with writing held.
func (s *stream) appendHeaders(out []byte, end bool) []byte {
	c := s.conn
	c.headers.Reset()
	status := s.status
	if status == 0 {
		status = 200
	}
	// A bytes.Buffer takes everything.
	_ = c.encoder.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)})
	if s.contentType != "" {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: "content-type", Value: s.contentType})
	}
	flags := byte(flagEndHeaders)
	if end {
		flags |= flagEndStream
	}
	return append(appendFrameHeader(out, c.headers.Len(), frameHeaders, flags, s.id), c.headers.Bytes()...)
}
