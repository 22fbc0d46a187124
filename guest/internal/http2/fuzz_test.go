package http2

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"
	"runtime"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// recording is a connection that gives a text, in pieces, and then ends. It takes everything.
type recording struct {
	net.Conn
	text  io.Reader
	piece int
}

func (r *recording) Read(p []byte) (int, error)  { return r.text.Read(p[:min(len(p), r.piece)]) }
func (r *recording) Write(p []byte) (int, error) { return len(p), nil }
func (r *recording) Close() error                { return nil }

// replay serves a text and waits until nothing of it is left.
func replay(t *testing.T, text []byte, piece int) {
	before := runtime.NumGoroutine()
	handler := func(a Answer, r *Request) {
		switch len(r.Path) % 4 {
		case 0:
			_, _ = io.Copy(a, r.Body)
		case 1:
			_, _ = a.Write(make([]byte, 1<<20))
		case 2:
			<-r.Context.Done()
		}
		_ = a.Flush()
	}
	conn := &recording{text: bytes.NewReader(text), piece: piece}
	served := make(chan struct{})
	go func() {
		_ = Serve(conn, bufio.NewReader(conn), handler, log.New(io.Discard, "", 0))
		close(served)
	}()
	within(t, "Serve returns", served)
	eventually(t, "handlers end", func() bool { return runtime.NumGoroutine() <= before })
}

func FuzzServe(f *testing.F) {
	f.Add([]byte("PYRO 0123456789abcdef0123456789abcdef\n"), uint8(1))
	f.Add(appendSettings(nil, [2]uint32{settingWindowBytes, 0}, [2]uint32{settingHeaderTableBytes, 0}), uint8(9))
	f.Add(dataFrame(1, []byte("x")), uint8(255))
	f.Fuzz(func(t *testing.T, text []byte, piece uint8) {
		replay(t, append([]byte(preface), text...), 1+int(piece))
	})
}

// FuzzServeFrames replaces bytes of a session, each by another, and appends some.
func FuzzServeFrames(f *testing.F) {
	var p peer
	p.encoder = hpack.NewEncoder(&p.block)
	session := bytes.Join([][]byte{
		[]byte(preface), appendSettings(nil, [2]uint32{settingWindowBytes, 1000}, [2]uint32{settingFrameBytes, defaultFrameBytes}),
		p.open(1, "/abc"), dataFrame(1, []byte("the body")), p.ask(3, "/"), p.open(5, "/a"),
		rawFrame(frameData, flagPadded, 1, append([]byte{3}, "more of it..."...)), appendWindowUpdate(nil, 3, 1<<20), appendWindowUpdate(nil, 0, 1<<20),
		rawFrame(frameHeaders, flagEndStream, 7, p.fields("/ab")), rawFrame(frameContinuation, flagEndHeaders, 7, nil),
		rawFrame(framePing, 0, 0, make([]byte, 8)), appendReset(nil, 5, codeNone), lastFrame(1, []byte("its end")),
		appendSettings(nil, [2]uint32{settingHeaderTableBytes, 0}, [2]uint32{settingWindowBytes, 10}), p.open(9, "/abc"),
	}, nil)
	f.Add([]byte{}, []byte{}, uint8(0))
	f.Add([]byte{0, 24, 5}, rawFrame(frameGoAway, 0, 0, uint32s(0, 0)), uint8(7))
	f.Add([]byte{0, 60, 1, 0, 90, 255}, dataFrame(9, make([]byte, 300)), uint8(255))
	f.Fuzz(func(t *testing.T, changes, more []byte, piece uint8) {
		text := append(bytes.Clone(session), more...)
		for ; len(changes) >= 3; changes = changes[3:] {
			at := len(preface) + (int(changes[0])<<8|int(changes[1]))%(len(text)-len(preface))
			text[at] = changes[2]
		}
		replay(t, text, 1+int(piece))
	})
}
