package http2

// control sends frames without waiting for whoever writes, who sends them otherwise.
func (c *conn) control(frames []byte) {
	c.mu.Lock()
	c.controls = append(c.controls, frames...)
	c.mu.Unlock()
	c.flushControls()
}

func (c *conn) flushControls() {
	for {
		c.mu.Lock()
		waiting := len(c.controls) > 0
		c.mu.Unlock()
		if !waiting || !c.writing.TryLock() {
			return
		}
		c.out = c.takeControls(c.out[:0])
		err := c.send(c.out, nil)
		c.writing.Unlock()
		if err != nil {
			return
		}
	}
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
