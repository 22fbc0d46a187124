package http2

import "time"

const (
	// controlsLimitBytes bounds what waits for an engine that reads nothing. All that it may rightly have us say at a time, a reset
	// and a grant of each stream, is a tenth.
	controlsLimitBytes = 1 << 20
	// farewellTimeout is how long the engine may take to read what it broke.
	farewellTimeout = time.Second
)

// queue leaves frames to whoever writes next.
func (c *conn) queue(frames []byte) {
	c.mu.Lock()
	c.controls = append(c.controls, frames...)
	c.mu.Unlock()
}

func (c *conn) queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.controls)
}

// flushControls sends what is queued, or leaves it to whoever writes, who does it otherwise.
func (c *conn) flushControls() {
	for c.queued() > 0 && c.writing.TryLock() {
		if err := c.sendControls(); err != nil {
			return
		}
	}
}

// flushAside is flushControls for the reading goroutine. That never writes: an engine may read nothing until it is read (Node's does
// while it writes), and with both waiting nothing would ever move.
func (c *conn) flushAside() error {
	queued := c.queued()
	if queued > controlsLimitBytes {
		return broken(codeEnhanceYourCalm, "%d bytes of answers wait to be read", queued)
	}
	if queued > 0 && c.writing.TryLock() {
		go func() {
			if err := c.sendControls(); err == nil {
				c.flushControls()
			}
		}()
	}
	return nil
}

// sendControls is called with writing held, and gives it up.
func (c *conn) sendControls() error {
	defer c.writing.Unlock()
	c.out = c.takeControls(c.out[:0])
	return c.send(c.out, nil)
}

// farewell tells the engine what it broke.
func (c *conn) farewell(code errorCode) {
	cut := time.AfterFunc(farewellTimeout, func() { c.connection.Close() })
	defer cut.Stop()
	c.writing.Lock()
	defer c.writing.Unlock()
	// The connection ends whether or not this arrives.
	_ = c.send(appendGoAway(c.takeControls(nil), c.last, code), nil)
}

// takeControls is called with writing held.
func (c *conn) takeControls(to []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	to = append(to, c.controls...)
	c.controls = c.controls[:0]
	if c.tableLimit != nil {
		c.encoder.SetMaxDynamicTableSizeLimit(*c.tableLimit)
		c.tableLimit = nil
	}
	return to
}

// send is called with writing held. A connection that does not take everything is over.
func (c *conn) send(first, second []byte) error {
	_, err := c.connection.Write(first)
	if err == nil && len(second) > 0 {
		_, err = c.connection.Write(second)
	}
	if err != nil {
		c.close(err)
	}
	return err
}
