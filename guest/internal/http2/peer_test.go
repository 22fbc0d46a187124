package http2

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// frame is one that a test reads.
type frame struct {
	frameHeader
	payload []byte
}

func (f frame) number() uint32 { return binary.BigEndian.Uint32(f.payload) }

// peer speaks frames with a server, whatever the protocol says.
type peer struct {
	*session
	reader  *bufio.Reader
	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
}

// startPeer has read the settings of the server, and granted it a window on the session.
func startPeer(t *testing.T, handler Handler, settings ...[2]uint32) *peer {
	t.Helper()
	p := newPeer(startSession(t, handler))
	p.write([]byte(preface), appendSettings(nil, settings...), appendWindowUpdate(nil, 0, 1<<30))
	p.expect(frameSettings)
	p.expect(frameWindowUpdate)
	p.expect(frameSettings)
	return p
}

func newPeer(s *session) *peer {
	p := &peer{session: s, reader: bufio.NewReader(s.conn), decoder: hpack.NewDecoder(tableBytes, nil)}
	p.encoder = hpack.NewEncoder(&p.block)
	return p
}

// write may be told more than the connection holds: it does not wait.
func (p *peer) write(frames ...[]byte) {
	p.t.Helper()
	if err := p.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.conn.Write(bytes.Join(frames, nil)); err != nil {
		p.t.Fatal(err)
	}
}

func rawFrame(kind frameType, flags byte, stream uint32, payload []byte) []byte {
	return append(appendFrameHeader(nil, len(payload), kind, flags, stream), payload...)
}

// uint32s is the payload of many frames.
func uint32s(values ...uint32) []byte {
	var payload []byte
	for _, value := range values {
		payload = binary.BigEndian.AppendUint32(payload, value)
	}
	return payload
}

// fields encodes the headers of a request.
func (p *peer) fields(path string) []byte {
	p.block.Reset()
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "agent"}, {":path", path}} {
		if err := p.encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			p.t.Fatal(err)
		}
	}
	return bytes.Clone(p.block.Bytes())
}

// open gives the frame that begins a request with a body.
func (p *peer) open(stream uint32, path string) []byte {
	return rawFrame(frameHeaders, flagEndHeaders, stream, p.fields(path))
}

// ask gives the frame of a request without a body.
func (p *peer) ask(stream uint32, path string) []byte {
	return rawFrame(frameHeaders, flagEndHeaders|flagEndStream, stream, p.fields(path))
}

func dataFrame(stream uint32, text []byte) []byte { return rawFrame(frameData, 0, stream, text) }

func lastFrame(stream uint32, text []byte) []byte {
	return rawFrame(frameData, flagEndStream, stream, text)
}

// next gives the next frame, or io.EOF.
func (p *peer) next() (frame, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return frame{}, err
	}
	var head [frameHeaderBytes]byte
	if _, err := io.ReadFull(p.reader, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{frameHeader: parseFrameHeader(head[:])}
	f.payload = make([]byte, f.length)
	_, err := io.ReadFull(p.reader, f.payload)
	return f, err
}

func (p *peer) expect(kind frameType) frame {
	p.t.Helper()
	f, err := p.next()
	if err != nil || f.kind != kind {
		p.t.Fatalf("got %+v, %v; want a frame of kind %d", f.frameHeader, err, kind)
	}
	return f
}

// status decodes the headers of an answer.
func (p *peer) status(f frame) string {
	p.t.Helper()
	fields, err := p.decoder.DecodeFull(f.payload)
	if err != nil || len(fields) == 0 || fields[0].Name != ":status" {
		p.t.Fatalf("got %v, %v", fields, err)
	}
	return fields[0].Value
}

// body reads an answer with its headers to its end.
func (p *peer) body(stream uint32) string {
	p.t.Helper()
	head := p.expect(frameHeaders)
	if status := p.status(head); status != "200" || head.stream != stream {
		p.t.Fatalf("got %s for stream %d", status, head.stream)
	}
	var text strings.Builder
	for ended := head.flags&flagEndStream != 0; !ended; {
		f := p.expect(frameData)
		if f.stream != stream {
			p.t.Fatalf("got data of stream %d", f.stream)
		}
		text.Write(f.payload)
		ended = f.flags&flagEndStream != 0
	}
	return text.String()
}

// ping waits until the server has read what it was sent.
func (p *peer) ping() {
	p.t.Helper()
	p.write(rawFrame(framePing, 0, 0, []byte("are you?")))
	if f := p.expect(framePing); f.flags != flagAck || string(f.payload) != "are you?" {
		p.t.Fatalf("got %+v", f)
	}
}

// goAway reads on to the end of the connection and gives why the server ended it.
func (p *peer) goAway() (errorCode, bool) {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				p.t.Fatal("the connection does not end")
			}
			return 0, false
		}
		if f.kind == frameGoAway {
			return errorCode(binary.BigEndian.Uint32(f.payload[4:])), true
		}
	}
}
