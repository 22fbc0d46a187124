package http2

import "encoding/binary"

func (c *conn) settings(h frameHeader, payload []byte) error {
	switch {
	case h.stream != 0:
		return broken(codeProtocol, "settings of one stream")
	case h.flags&flagAck != 0:
		return nil
	case len(payload)%6 != 0:
		return broken(codeFrameSize, "settings of %d bytes", len(payload))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; len(payload) > 0; payload = payload[6:] {
		value := binary.BigEndian.Uint32(payload[2:])
		switch binary.BigEndian.Uint16(payload) {
		case settingHeaderTableBytes:
			// The engine forgets at the smallest of the limits it tells in between (RFC 7541, 4.2).
			if c.tableLimit == nil || value < *c.tableLimit {
				c.tableLimit = &value
			}
		case settingWindowBytes:
			if value > windowLimitBytes {
				return broken(codeFlowControl, "a window of %d bytes", value)
			}
			more := int64(value) - c.streamWindow
			c.streamWindow = int64(value)
			for _, s := range c.streams {
				if s.window += more; s.window > windowLimitBytes {
					return broken(codeFlowControl, "a window of %d bytes", s.window)
				}
			}
			c.granted.Broadcast()
		case settingFrameBytes:
			if value < defaultFrameBytes || value > 1<<24-1 {
				return broken(codeProtocol, "frames of %d bytes", value)
			}
			c.frameLimit = int(value)
		}
	}
	c.controls = appendFrameHeader(c.controls, 0, frameSettings, flagAck, 0)
	return nil
}

func (c *conn) ping(h frameHeader, payload []byte) error {
	if len(payload) != 8 {
		return broken(codeFrameSize, "a ping of %d bytes", len(payload))
	}
	if h.flags&flagAck == 0 {
		c.queue(append(appendFrameHeader(nil, len(payload), framePing, flagAck, 0), payload...))
	}
	return nil
}

func (c *conn) windowUpdate(h frameHeader, payload []byte) error {
	if len(payload) != 4 {
		return broken(codeFrameSize, "a window update of %d bytes", len(payload))
	}
	more := int64(binary.BigEndian.Uint32(payload) & windowLimitBytes)
	if more == 0 || h.stream > c.last {
		return broken(codeProtocol, "a window update of %d bytes for stream %d", more, h.stream)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	window := &c.window
	if h.stream != 0 {
		s := c.streams[h.stream]
		if s == nil {
			return nil
		}
		window = &s.window
	}
	if *window += more; *window > windowLimitBytes {
		return broken(codeFlowControl, "a window of %d bytes", *window)
	}
	c.granted.Broadcast()
	return nil
}
