package http2

func (c *conn) data(h frameHeader) error {
	if h.stream == 0 || h.stream > c.last {
		return broken(codeProtocol, "data for stream %d, which is not open", h.stream)
	}
	length, padding := h.length, 0
	if h.flags&flagPadded != 0 {
		if length == 0 {
			return broken(codeFrameSize, "a padded frame of no bytes")
		}
		pad, err := c.reader.ReadByte()
		if err != nil {
			return err
		}
		padding = int(pad)
		if length -= 1 + padding; length < 0 {
			return broken(codeProtocol, "a frame is all padding")
		}
	}
	s := c.find(h.stream)
	lost := h.length - length
	switch {
	case !c.receive(s, h.length):
		return broken(codeFlowControl, "more data on stream %d than was granted", h.stream)
	case s == nil:
		// It was answered or broken off while this was on its way.
		if _, err := c.reader.Discard(length); err != nil {
			return err
		}
		lost = h.length
	case s.closedByEngine.Load():
		return broken(codeStreamClosed, "data for stream %d after its end", h.stream)
	default:
		unread, err := s.body.fill(c.reader, length)
		if err != nil {
			return err
		}
		lost += unread
	}
	if _, err := c.reader.Discard(padding); err != nil {
		return err
	}
	if s != nil && h.flags&flagEndStream != 0 {
		s.endOfBody()
	}
	c.taken(s, lost)
	return nil
}

func (c *conn) resetStream(h frameHeader, payload []byte) error {
	if len(payload) != 4 {
		return broken(codeFrameSize, "a reset of %d bytes", len(payload))
	}
	if h.stream == 0 || h.stream > c.last {
		return broken(codeProtocol, "a reset of stream %d, which is not open", h.stream)
	}
	if s := c.find(h.stream); s != nil {
		c.forget(s, errReset)
	}
	return nil
}

// receive reports whether the session, and a stream that goes on, may carry that much.
func (c *conn) receive(s *stream, bytes int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.receivable -= bytes
	if s == nil {
		return c.receivable >= 0
	}
	s.receivable -= bytes
	return c.receivable >= 0 && s.receivable >= 0
}

// taken grants the engine again what is not held any more: on the session, and on the stream if that goes on. Who is not the
// reading goroutine flushes it.
func (c *conn) taken(s *stream, bytes int) {
	if bytes == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.consumed += bytes; c.consumed >= sessionWindowStepBytes {
		c.controls = appendWindowUpdate(c.controls, 0, c.consumed)
		c.receivable += c.consumed
		c.consumed = 0
	}
	if s != nil && c.streams[s.id] == s && !s.closedByEngine.Load() {
		if s.consumed += bytes; s.consumed >= windowStepBytes {
			c.controls = appendWindowUpdate(c.controls, s.id, s.consumed)
			s.receivable += s.consumed
			s.consumed = 0
		}
	}
}
