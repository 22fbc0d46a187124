// Package http2 serves HTTP/2 (RFC 9113) on one connection, as far as the engine speaks it: requests with a path and a body, answers
// with a status, a content type and a body. An answer is written by whoever makes it, its headers together with what follows them,
// and a request costs one wake-up: on an emulated processor, where each costs as much as a system call elsewhere, that is most of
// what a small request takes.
package http2

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"runtime/debug"
	"sync"

	"golang.org/x/net/http2/hpack"
)

const (
	// What the engine is granted; it grants more.
	concurrentStreams  = 4096
	windowBytes        = 256 << 10
	sessionWindowBytes = 64 << 20
	frameBytes         = 256 << 10
	// headerLimitBytes bounds the headers of a request, of which the engine sends five short ones.
	headerLimitBytes = 16 << 10
	// A window is granted again when this much of it was taken.
	windowStepBytes        = windowBytes / 4
	sessionWindowStepBytes = sessionWindowBytes / 4
	// tableBytes of the headers that were seen before (RFC 7541, 4.2): the default of both sides.
	tableBytes = 4096
	// idleWorkers wait for the next request: their stacks have grown already.
	idleWorkers = 8
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Request is what the engine asks.
type Request struct {
	Method, Path string
	// Body ends with io.EOF, or with another error when the engine breaks the request off or is gone. So does Context.
	Body    io.Reader
	Context context.Context
}

// Answer is written by one goroutine.
type Answer interface {
	// Write holds back what is small until Flush or the end of the handler.
	io.Writer
	// Begin comes before the first Write; without it the status is 200 and there is no content type.
	Begin(status int, contentType string)
	// Flush sends what was written.
	Flush() error
}

// Handler answers a request. What it leaves unread is dropped.
type Handler func(Answer, *Request)

// Serve returns when the connection is over; it is closed by then. reader reads from it and may have read ahead. That the engine is
// gone is no error.
func Serve(connection net.Conn, reader *bufio.Reader, handler Handler, logger *log.Logger) error {
	ctx, cancel := context.WithCancel(context.Background())
	c := &conn{
		connection: connection, reader: reader, handler: handler, log: logger, context: ctx,
		streams: map[uint32]*stream{}, decoder: hpack.NewDecoder(tableBytes, nil),
		window: defaultWindowBytes, streamWindow: defaultWindowBytes, frameLimit: defaultFrameBytes,
		receivable: sessionWindowBytes,
	}
	c.granted.L = &c.mu
	c.encoder = hpack.NewEncoder(&c.headers)
	c.decoder.SetMaxStringLength(headerLimitBytes)
	err := c.serve()
	var fault connectionError
	if errors.As(err, &fault) {
		c.farewell(fault.code)
	}
	cancel()
	c.close(err)
	if fault.why != "" {
		return err
	}
	return nil
}

type conn struct {
	connection net.Conn
	reader     *bufio.Reader
	handler    Handler
	log        *log.Logger
	context    context.Context

	// Of the reading goroutine alone: the last stream that was opened, headers that go on in the next frame, requests that nobody
	// was told of yet, and the payloads of small frames.
	decoder *hpack.Decoder
	last    uint32
	pending pendingHeaders
	fresh   []*stream
	payload []byte

	// writing is held while bytes go out, with headers and encoder. It is never waited for with mu held, nor by the reading goroutine
	// before that is done.
	writing sync.Mutex
	out     []byte
	headers bytes.Buffer
	encoder *hpack.Encoder

	mu      sync.Mutex
	granted sync.Cond
	streams map[uint32]*stream
	idle    []chan *stream
	over    error
	// tableLimit is how much the engine keeps of headers, until the encoder knows.
	tableLimit *uint32
	// window is what may be sent on all streams together, streamWindow what a new one begins with, frameLimit how long a frame may be.
	window, streamWindow int64
	frameLimit           int
	// controls are frames that wait for whoever writes.
	controls []byte
	// receivable is what the engine may send of all bodies together, consumed what was taken of it and is not granted again yet.
	receivable, consumed int
}

type pendingHeaders struct {
	stream    uint32
	block     []byte
	endStream bool
}

func (c *conn) serve() error {
	var begin [len(preface)]byte
	if _, err := io.ReadFull(c.reader, begin[:]); err != nil {
		return err
	}
	if string(begin[:]) != preface {
		return broken(codeProtocol, "it does not begin with the preface")
	}
	first := appendSettings(nil,
		[2]uint32{settingConcurrentStreams, concurrentStreams}, [2]uint32{settingWindowBytes, windowBytes},
		[2]uint32{settingFrameBytes, frameBytes}, [2]uint32{settingHeaderListBytes, headerLimitBytes})
	c.queue(appendWindowUpdate(first, 0, sessionWindowBytes-defaultWindowBytes))
	for {
		if err := c.next(); err != nil {
			return err
		}
	}
}

// next reads one frame. Requests that came together with their bodies are handed on when nothing more is there.
func (c *conn) next() error {
	if err := c.flushAside(); err != nil {
		return err
	}
	if c.reader.Buffered() < frameHeaderBytes {
		c.dispatch()
	}
	head, err := c.reader.Peek(frameHeaderBytes)
	if err != nil {
		return err
	}
	h := parseFrameHeader(head)
	if _, err := c.reader.Discard(frameHeaderBytes); err != nil {
		return err
	}
	if h.length > frameBytes {
		return broken(codeFrameSize, "a frame of %d bytes", h.length)
	}
	if c.reader.Buffered() < h.length {
		c.dispatch()
	}
	if c.pending.stream != 0 && (h.kind != frameContinuation || h.stream != c.pending.stream) {
		return broken(codeProtocol, "headers are cut short")
	}
	if h.kind == frameData {
		return c.data(h)
	}
	if h.length > cap(c.payload) {
		c.payload = make([]byte, h.length)
	}
	payload := c.payload[:h.length]
	if _, err := io.ReadFull(c.reader, payload); err != nil {
		return err
	}
	switch h.kind {
	case frameHeaders:
		return c.openStream(h, payload)
	case frameContinuation:
		return c.continueHeaders(h, payload)
	case frameReset:
		return c.resetStream(h, payload)
	case frameSettings:
		return c.settings(h, payload)
	case framePing:
		return c.ping(h, payload)
	case frameWindowUpdate:
		return c.windowUpdate(h, payload)
	case frameGoAway:
		return io.EOF
	case framePushPromise:
		return broken(codeProtocol, "a client promises nothing")
	}
	// Priorities and kinds that are not known mean nothing here.
	return nil
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

// close ends everything. Handlers that still run find out.
func (c *conn) close(reason error) {
	c.connection.Close()
	c.mu.Lock()
	if c.over != nil {
		c.mu.Unlock()
		return
	}
	c.over = fmt.Errorf("the link is gone: %w", cmp.Or(reason, net.ErrClosed))
	streams := c.streams
	c.streams = map[uint32]*stream{}
	for _, s := range streams {
		s.over = c.over
	}
	for _, worker := range c.idle {
		close(worker)
	}
	c.idle = nil
	c.granted.Broadcast()
	c.mu.Unlock()
	for _, s := range streams {
		s.cancel()
		s.body.drop(c.over)
	}
}
