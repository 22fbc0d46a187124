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
