package http2

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
)

func TestEachViolationEndsTheConnectionWithItsCode(t *testing.T) {
	settings := func(id, value uint32) []byte { return appendSettings(nil, [2]uint32{id, value}) }
	for _, c := range []struct {
		name string
		code errorCode
		// frames follow settings, and a request on stream 3 whose body is open.
		frames func(p *peer) []byte
	}{
		{"a frame that is too long", codeFrameSize, func(p *peer) []byte { return appendFrameHeader(nil, frameBytes+1, frameData, 0, 3) }},
		{"the line of another engine", codeFrameSize, func(p *peer) []byte { return []byte("PYRO " + strings.Repeat("a1", 16) + "\n") }},
		{"settings of a stream", codeProtocol, func(p *peer) []byte { return rawFrame(frameSettings, 0, 3, nil) }},
		{"settings cut short", codeFrameSize, func(p *peer) []byte { return rawFrame(frameSettings, 0, 0, make([]byte, 5)) }},
		{"a window that is too large", codeFlowControl, func(p *peer) []byte { return settings(settingWindowBytes, 1<<31) }},
		{"frames that are too small", codeProtocol, func(p *peer) []byte { return settings(settingFrameBytes, defaultFrameBytes-1) }},
		{"frames that are too large", codeProtocol, func(p *peer) []byte { return settings(settingFrameBytes, 1<<24) }},
		{"settings that make a window too large", codeFlowControl, func(p *peer) []byte {
			return append(appendWindowUpdate(nil, 3, windowLimitBytes-defaultWindowBytes), settings(settingWindowBytes, defaultWindowBytes+1)...)
		}},
		{"a ping cut short", codeFrameSize, func(p *peer) []byte { return rawFrame(framePing, 0, 0, make([]byte, 7)) }},
		{"a reset cut short", codeFrameSize, func(p *peer) []byte { return rawFrame(frameReset, 0, 3, make([]byte, 3)) }},
		{"a reset of the session", codeProtocol, func(p *peer) []byte { return appendReset(nil, 0, codeNone) }},
		{"a reset of a stream to come", codeProtocol, func(p *peer) []byte { return appendReset(nil, 5, codeNone) }},
		{"a window update cut short", codeFrameSize, func(p *peer) []byte { return rawFrame(frameWindowUpdate, 0, 3, make([]byte, 3)) }},
		{"a window update of nothing", codeProtocol, func(p *peer) []byte { return appendWindowUpdate(nil, 0, 0) }},
		{"a window update of nothing of a stream", codeProtocol, func(p *peer) []byte { return appendWindowUpdate(nil, 3, 0) }},
		{"a window update of a stream to come", codeProtocol, func(p *peer) []byte { return appendWindowUpdate(nil, 5, 1) }},
		{"a session window that flows over", codeFlowControl, func(p *peer) []byte { return appendWindowUpdate(nil, 0, windowLimitBytes) }},
		{"a stream window that flows over", codeFlowControl, func(p *peer) []byte { return appendWindowUpdate(nil, 3, windowLimitBytes) }},
		{"a stream of the server's", codeProtocol, func(p *peer) []byte { return p.ask(4, "/") }},
		{"a stream before the last", codeProtocol, func(p *peer) []byte { return p.ask(1, "/") }},
		{"headers of the session", codeProtocol, func(p *peer) []byte { return p.ask(0, "/") }},
		{"a promise", codeProtocol, func(p *peer) []byte { return rawFrame(framePushPromise, flagEndHeaders, 3, uint32s(5)) }},
		{"headers that are no HPACK", codeCompression, func(p *peer) []byte {
			return rawFrame(frameHeaders, flagEndHeaders, 5, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		}},
		{"headers that end within a field", codeCompression, func(p *peer) []byte {
			return rawFrame(frameHeaders, flagEndHeaders, 5, []byte{0x40, 0x0a, 'x'})
		}},
		{"headers that are too long", codeEnhanceYourCalm, func(p *peer) []byte {
			return rawFrame(frameHeaders, flagEndHeaders, 5, make([]byte, headerLimitBytes+1))
		}},
		{"headers that go on too long", codeEnhanceYourCalm, func(p *peer) []byte {
			return append(rawFrame(frameHeaders, 0, 5, make([]byte, headerLimitBytes)), rawFrame(frameContinuation, 0, 5, []byte{0})...)
		}},
		{"headers followed by another frame", codeProtocol, func(p *peer) []byte {
			return append(rawFrame(frameHeaders, 0, 5, p.fields("/")), dataFrame(3, nil)...)
		}},
		{"headers that go on in another stream", codeProtocol, func(p *peer) []byte {
			return append(rawFrame(frameHeaders, 0, 5, p.fields("/")), rawFrame(frameContinuation, flagEndHeaders, 3, nil)...)
		}},
		{"headers that go on without a begin", codeProtocol, func(p *peer) []byte { return rawFrame(frameContinuation, flagEndHeaders, 3, nil) }},
		{"headers cut short before their priority", codeFrameSize, func(p *peer) []byte {
			return rawFrame(frameHeaders, flagEndHeaders|flagPriority, 5, make([]byte, 4))
		}},
		{"headers that are all padding", codeProtocol, func(p *peer) []byte {
			return rawFrame(frameHeaders, flagEndHeaders|flagPadded, 5, []byte{3, 0, 0})
		}},
		{"headers too short for padding", codeProtocol, func(p *peer) []byte { return rawFrame(frameHeaders, flagEndHeaders|flagPadded, 5, nil) }},
		{"data that is all padding", codeProtocol, func(p *peer) []byte { return rawFrame(frameData, flagPadded, 3, []byte{3, 0, 0}) }},
		{"data too short for padding", codeFrameSize, func(p *peer) []byte { return rawFrame(frameData, flagPadded, 3, nil) }},
		{"data of the session", codeProtocol, func(p *peer) []byte { return dataFrame(0, nil) }},
		{"data of a stream to come", codeProtocol, func(p *peer) []byte { return dataFrame(5, nil) }},
		{"data after its end", codeStreamClosed, func(p *peer) []byte { return append(lastFrame(3, nil), dataFrame(3, nil)...) }},
		{"data beyond what the stream was granted", codeFlowControl, func(p *peer) []byte {
			return append(dataFrame(3, make([]byte, windowBytes)), dataFrame(3, []byte("x"))...)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startPeer(t, func(a Answer, r *Request) { <-r.Context.Done() })
			frames := bytes.Join([][]byte{p.open(3, "/"), c.frames(p)}, nil)
			go func() { _, _ = p.conn.Write(frames) }()
			code, said := p.goAway()
			if !said || code != c.code {
				t.Errorf("said %v: got the code %d, want %d", said, code, c.code)
			}
			var fault connectionError
			if err := p.awaitEnd(); !errors.As(err, &fault) || fault.code != c.code {
				t.Errorf("Serve gave %v", err)
			}
		})
	}
}

func TestWhatIsNoHTTP2IsToldSo(t *testing.T) {
	for _, text := range []string{strings.ToLower(preface), "GET / HTTP/1.1\r\nHost: agent\r\n\r\n", strings.Repeat("x", 100)} {
		p := newPeer(startSession(t, echo))
		p.write([]byte(text))
		if code, said := p.goAway(); !said || code != codeProtocol {
			t.Errorf("%q: said %v, code %d", text, said, code)
		}
		if err := p.awaitEnd(); err == nil {
			t.Error("Serve gave no error")
		}
	}
}

func TestMoreDataThanTheSessionWasGrantedEndsTheConnection(t *testing.T) {
	p := startPeer(t, func(a Answer, r *Request) { <-r.Context.Done() })
	full := make([]byte, windowBytes)
	stream := uint32(1)
	for range sessionWindowBytes / windowBytes {
		p.write(p.open(stream, "/"), dataFrame(stream, full))
		stream += 2
	}
	p.ping()
	p.write(p.open(stream, "/"), dataFrame(stream, []byte("x")))
	if code, said := p.goAway(); !said || code != codeFlowControl {
		t.Errorf("said %v, code %d", said, code)
	}
}

func TestStreamsBeyondTheLimitAreRefused(t *testing.T) {
	proceed := make(chan struct{})
	p := startPeer(t, func(a Answer, r *Request) { <-proceed })
	stream := uint32(1)
	for range concurrentStreams {
		p.write(p.ask(stream, "/"))
		stream += 2
	}
	for range 3 {
		p.write(p.open(stream, "/"), dataFrame(stream, []byte("body")))
		if f := p.expect(frameReset); f.stream != stream || errorCode(f.number()) != codeRefusedStream {
			t.Fatalf("got %+v", f)
		}
		stream += 2
	}
	p.write(appendReset(nil, 1, codeNone))
	p.write(p.ask(stream, "/"))
	p.ping()
	close(proceed)
	answered := map[uint32]bool{}
	for range concurrentStreams {
		f := p.expect(frameHeaders)
		answered[f.stream] = p.status(f) == "200"
	}
	if !answered[stream] || answered[1] {
		t.Error("a stream that ended makes no room")
	}
}

func TestAnEngineThatAsksOnWithoutReadingIsCutOff(t *testing.T) {
	p := startPeer(t, echo)
	pings := bytes.Repeat(rawFrame(framePing, 0, 0, make([]byte, 8)), 1000)
	for range 10 * controlsLimitBytes / len(pings) {
		if _, err := p.conn.Write(pings); err != nil {
			break
		}
	}
	var fault connectionError
	if err := p.awaitEnd(); !errors.As(err, &fault) || fault.code != codeEnhanceYourCalm {
		t.Errorf("Serve gave %v", err)
	}
}

func TestAnEngineThatReadsNothingIsCutOffWithoutBeingToldWhy(t *testing.T) {
	ours, theirs := net.Pipe()
	p := newPeer(startSessionOn(t, ours, theirs, echo))
	p.write([]byte(strings.Repeat("x", len(preface))))
	if err := p.awaitEnd(); err == nil {
		t.Error("Serve gave no error")
	}
}
