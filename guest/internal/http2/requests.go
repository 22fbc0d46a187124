package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/net/http2/hpack"
)

type pendingHeaders struct {
	stream    uint32
	block     []byte
	endStream bool
}

func (c *conn) openStream(h frameHeader, payload []byte) error {
	block, err := unpad(h, payload)
	if err != nil {
		return err
	}
	if h.flags&flagPriority != 0 {
		if len(block) < 5 {
			return broken(codeFrameSize, "headers without their priority")
		}
		block = block[5:]
	}
	if h.stream <= c.last || h.stream%2 == 0 {
		return broken(codeProtocol, "stream %d was opened after stream %d", h.stream, c.last)
	}
	if len(block) > headerLimitBytes {
		return broken(codeEnhanceYourCalm, "more than %d bytes of headers", headerLimitBytes)
	}
	c.last = h.stream
	c.pending = pendingHeaders{stream: h.stream, block: block, endStream: h.flags&flagEndStream != 0}
	if h.flags&flagEndHeaders != 0 {
		return c.request()
	}
	c.pending.block = bytes.Clone(block)
	return nil
}

func (c *conn) continueHeaders(h frameHeader, payload []byte) error {
	if c.pending.stream == 0 {
		return broken(codeProtocol, "headers go on that did not begin")
	}
	if len(c.pending.block)+len(payload) > headerLimitBytes {
		return broken(codeEnhanceYourCalm, "more than %d bytes of headers", headerLimitBytes)
	}
	c.pending.block = append(c.pending.block, payload...)
	if h.flags&flagEndHeaders != 0 {
		return c.request()
	}
	return nil
}

// request opens the stream of headers that are complete.
func (c *conn) request() error {
	pending := c.pending
	c.pending = pendingHeaders{}
	s := &stream{conn: c, id: pending.stream}
	c.decoder.SetEmitFunc(func(field hpack.HeaderField) {
		switch field.Name {
		case ":method":
			s.request.Method = field.Value
		case ":path":
			s.request.Path = field.Value
		}
	})
	if _, err := c.decoder.Write(pending.block); err != nil {
		return broken(codeCompression, "%s", err)
	}
	if err := c.decoder.Close(); err != nil {
		return broken(codeCompression, "%s", err)
	}
	s.body.init(s.bodyConsumed)
	s.request.Body = &s.body
	s.request.Context, s.cancel = context.WithCancel(c.context)
	if pending.endStream {
		s.endOfBody()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		// Whoever wrote has ended it, and with it the streams there were.
		s.cancel()
		return c.over
	}
	if len(c.streams) >= concurrentStreams {
		s.cancel()
		c.controls = appendReset(c.controls, s.id, codeRefusedStream)
		return nil
	}
	s.window, s.receivable = c.streamWindow, windowBytes
	c.streams[s.id] = s
	c.fresh = append(c.fresh, s)
	return nil
}

// dispatch gives new requests to goroutines that wait, or to new ones.
func (c *conn) dispatch() {
	for _, s := range c.fresh {
		var worker chan *stream
		c.mu.Lock()
		if last := len(c.idle) - 1; last >= 0 {
			worker = c.idle[last]
			c.idle = c.idle[:last]
		}
		c.mu.Unlock()
		if worker == nil {
			go c.work(s)
		} else {
			worker <- s
		}
	}
	clear(c.fresh)
	c.fresh = c.fresh[:0]
}

func (c *conn) work(s *stream) {
	next := make(chan *stream, 1)
	for s != nil {
		c.answer(s)
		c.mu.Lock()
		if c.over != nil || len(c.idle) >= idleWorkers {
			c.mu.Unlock()
			return
		}
		c.idle = append(c.idle, next)
		c.mu.Unlock()
		s = <-next
	}
}

// answer lets the handler answer. One that panics must not end PID 1.
func (c *conn) answer(s *stream) {
	defer c.flushControls()
	defer func() {
		if problem := recover(); problem != nil {
			c.log.Printf("%s: panic: %v\n%s", s.request.Path, problem, debug.Stack())
			c.forget(s, fmt.Errorf("the handler of %s broke", s.request.Path))
			c.queue(appendReset(nil, s.id, codeInternal))
		}
	}()
	c.handler(s, &s.request)
	// Who does not get the end of the answer sees the stream's or the connection's.
	_ = s.finish()
	c.forget(s, errHandled)
}

var (
	errHandled = errors.New("the request is answered")
	errReset   = errors.New("the engine broke the request off")
)

// forget releases what is left of a stream. Who is not the reading goroutine flushes what there is to say of it.
func (c *conn) forget(s *stream, reason error) {
	c.mu.Lock()
	wanted := c.streams[s.id] == s && !s.closedByEngine.Load()
	delete(c.streams, s.id)
	if s.over == nil {
		s.over = reason
	}
	c.granted.Broadcast()
	c.mu.Unlock()
	s.cancel()
	c.taken(s, s.body.drop(reason))
	if wanted && reason == errHandled {
		// The rest of the request is not wanted (section 8.1).
		c.queue(appendReset(nil, s.id, codeNone))
	}
}

func (c *conn) find(id uint32) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}
