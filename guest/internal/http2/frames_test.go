package http2

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// writes answers with a text.
func writes(text []byte) Handler {
	return func(a Answer, r *Request) {
		a.Begin(200, "")
		_, _ = a.Write(text)
	}
}

func TestHeadersComeInAnyShape(t *testing.T) {
	p := startPeer(t, func(a Answer, r *Request) { _, _ = io.WriteString(a, r.Method+" "+r.Path) })
	priority := []byte{0, 0, 0, 0, 16}
	padded := func(payload []byte) []byte { return append(append([]byte{7}, payload...), make([]byte, 7)...) }
	const end = flagEndStream
	fields := func() []byte { return p.fields("/v1/" + strings.Repeat("long/", 20)) }
	stream := uint32(1)
	for name, frames := range map[string]func() []byte{
		"plain":  func() []byte { return rawFrame(frameHeaders, end|flagEndHeaders, stream, fields()) },
		"padded": func() []byte { return rawFrame(frameHeaders, end|flagEndHeaders|flagPadded, stream, padded(fields())) },
		"priority": func() []byte {
			return rawFrame(frameHeaders, end|flagEndHeaders|flagPriority, stream, append(priority, fields()...))
		},
		"both": func() []byte {
			return rawFrame(frameHeaders, end|flagEndHeaders|flagPriority|flagPadded, stream, padded(append(priority, fields()...)))
		},
		"byte by byte": func() []byte {
			all := fields()
			frames := rawFrame(frameHeaders, end, stream, nil)
			for i := range all {
				frames = append(frames, rawFrame(frameContinuation, 0, stream, all[i:i+1])...)
			}
			return append(frames, rawFrame(frameContinuation, flagEndHeaders, stream, nil)...)
		},
		"begun in a frame with padding and priority": func() []byte {
			all := fields()
			begin := rawFrame(frameHeaders, end|flagPriority|flagPadded, stream, padded(append(priority, all[:3]...)))
			return append(begin, rawFrame(frameContinuation, flagEndHeaders, stream, all[3:])...)
		},
	} {
		p.write(frames())
		if got := p.body(stream); got != "POST /v1/"+strings.Repeat("long/", 20) {
			t.Errorf("%s: got %q", name, got)
		}
		stream += 2
	}
}

func TestWhatMeansNothingIsPassedOver(t *testing.T) {
	p := startPeer(t, echo)
	p.write(
		rawFrame(framePriority, 0, 1, []byte{0, 0, 0, 0, 16}), rawFrame(0x10, 0xff, 0, noise(5, 1000)), rawFrame(0xff, 0, 9, nil),
		appendSettings(nil, [2]uint32{0x99, 1}), p.open(1, "/"), rawFrame(framePing, flagAck, 0, make([]byte, 8)),
		rawFrame(frameSettings, flagAck, 0, nil), rawFrame(0x42, 0, 1, []byte("between")), dataFrame(1, nil), lastFrame(1, []byte("x")),
	)
	p.expect(frameSettings)
	if got := p.body(1); got != "x" {
		t.Errorf("got %q", got)
	}
}

func TestWhatWasOnItsWayWhenAStreamEndedIsPassedOver(t *testing.T) {
	p := startPeer(t, writes([]byte("y")))
	p.write(p.open(1, "/"))
	if got := p.body(1); got != "y" {
		t.Errorf("got %q", got)
	}
	p.expect(frameReset)
	p.write(dataFrame(1, []byte("x")), lastFrame(1, []byte("x")), appendReset(nil, 1, codeNone), appendWindowUpdate(nil, 1, 5))
	p.ping()
}

func TestPaddingOfDataIsNoPartOfIt(t *testing.T) {
	p := startPeer(t, echo)
	p.write(p.open(1, "/"))
	for _, padding := range []int{0, 1, 255} {
		payload := append(append([]byte{byte(padding)}, "text,"...), make([]byte, padding)...)
		p.write(rawFrame(frameData, flagPadded, 1, payload))
	}
	p.write(rawFrame(frameData, flagPadded|flagEndStream, 1, []byte{2, 0, 0}))
	if got := p.body(1); got != "text,text,text," {
		t.Errorf("got %q", got)
	}
}

func TestNoMoreIsSentThanWasGranted(t *testing.T) {
	text := noise(6, 20)
	p := startPeer(t, writes(text), [2]uint32{settingWindowBytes, 0})
	p.write(p.ask(1, "/"))
	p.expect(frameHeaders)
	for i := range text {
		p.ping()
		p.write(appendWindowUpdate(nil, 1, 1))
		if f := p.expect(frameData); !bytes.Equal(f.payload, text[i:i+1]) || (f.flags == flagEndStream) != (i == len(text)-1) {
			t.Fatalf("got %+v", f)
		}
	}
}

func TestTheSessionWindowIsSharedByAllStreams(t *testing.T) {
	p := newPeer(startSession(t, writes(make([]byte, 50_000))))
	p.write([]byte(preface), appendSettings(nil))
	for _, kind := range []frameType{frameSettings, frameWindowUpdate, frameSettings} {
		p.expect(kind)
	}
	p.write(p.ask(1, "/"), p.ask(3, "/"))
	for got := 0; got < defaultWindowBytes; {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.kind == frameData {
			got += f.length
		}
	}
	// The end of the first that is sent whole needs no window.
	granted := func(bytes int) {
		t.Helper()
		p.write(appendWindowUpdate(nil, 0, bytes))
		for got := 0; got < bytes; {
			if got += p.expect(frameData).length; got > bytes {
				t.Fatalf("got %d bytes of %d", got, bytes)
			}
		}
	}
	for range 3 {
		granted(1)
	}
	granted(100_000 - defaultWindowBytes - 3)
}

func TestAWindowThatShrinksBelowNothingIsFilledUpFirst(t *testing.T) {
	text := noise(7, 5000)
	p := startPeer(t, writes(text), [2]uint32{settingWindowBytes, 1000})
	p.write(p.ask(1, "/"))
	p.expect(frameHeaders)
	if f := p.expect(frameData); f.length != 1000 {
		t.Fatalf("got %d bytes", f.length)
	}
	// The window is at -900 now; then at 0, and at 10.
	p.write(appendSettings(nil, [2]uint32{settingWindowBytes, 100}))
	p.expect(frameSettings)
	p.write(appendWindowUpdate(nil, 1, 900))
	p.ping()
	p.write(appendWindowUpdate(nil, 1, 10))
	if f := p.expect(frameData); !bytes.Equal(f.payload, text[1000:1010]) {
		t.Fatalf("got %d bytes", f.length)
	}
	p.write(appendSettings(nil, [2]uint32{settingWindowBytes, 0}))
	p.expect(frameSettings)
	p.write(appendSettings(nil, [2]uint32{settingWindowBytes, 10_000}))
	p.expect(frameSettings)
	if f := p.expect(frameData); !bytes.Equal(f.payload, text[1010:]) {
		t.Fatalf("got %d bytes", f.length)
	}
	p.expect(frameData)
}

func TestFramesAreAsLongAsTheEngineAllows(t *testing.T) {
	text := noise(8, 300_000)
	p := startPeer(t, writes(text), [2]uint32{settingWindowBytes, 1 << 20})
	longest := func(stream uint32) (most int) {
		p.write(p.ask(stream, "/"))
		p.expect(frameHeaders)
		for ended := false; !ended; {
			f := p.expect(frameData)
			most = max(most, f.length)
			ended = f.flags == flagEndStream
		}
		return most
	}
	if got := longest(1); got != defaultFrameBytes {
		t.Errorf("got frames of %d bytes", got)
	}
	p.write(appendSettings(nil, [2]uint32{settingFrameBytes, 100_000}))
	p.expect(frameSettings)
	if got := longest(3); got != 100_000 {
		t.Errorf("got frames of %d bytes", got)
	}
}

func TestTheEngineDecidesHowMuchItKeepsOfHeaders(t *testing.T) {
	p := startPeer(t, func(a Answer, r *Request) { a.Begin(200, "application/of-"+r.Path) })
	answered := func(stream uint32) []hpack.HeaderField {
		t.Helper()
		p.write(p.ask(stream, "/x"))
		fields, err := p.decoder.DecodeFull(p.expect(frameHeaders).payload)
		if err != nil || len(fields) != 2 || fields[1].Value != "application/of-/x" {
			t.Fatalf("got %v, %v", fields, err)
		}
		return fields
	}
	answered(1)
	answered(3)
	// Together with what follows: what was kept is forgotten in between.
	p.write(appendSettings(nil, [2]uint32{settingHeaderTableBytes, 0}, [2]uint32{settingHeaderTableBytes, tableBytes}))
	p.expect(frameSettings)
	p.decoder.SetMaxDynamicTableSize(0)
	p.decoder.SetMaxDynamicTableSize(tableBytes)
	answered(5)
	p.write(appendSettings(nil, [2]uint32{settingHeaderTableBytes, 0}))
	p.expect(frameSettings)
	p.decoder.SetAllowedMaxDynamicTableSize(0)
	answered(7)
	answered(9)
}

func TestEachByteIsGrantedAgainOnce(t *testing.T) {
	proceed := make(chan struct{})
	var asked sync.WaitGroup
	p := startPeer(t, func(a Answer, r *Request) {
		switch r.Path {
		case "/reads":
			_, _ = io.Copy(io.Discard, r.Body)
		case "/reads-some":
			_, _ = io.CopyN(io.Discard, r.Body, 100_000)
		case "/fails":
			defer asked.Done()
			<-proceed
			panic("on purpose")
		case "/leaves":
			defer asked.Done()
			<-proceed
		}
	})
	var sent, granted int
	next := func() frame {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.kind == frameWindowUpdate && f.stream == 0 {
			granted += int(f.number())
		}
		return f
	}
	ended := func(stream uint32, kind frameType) {
		t.Helper()
		for f := next(); f.stream != stream || f.kind != kind; f = next() {
			if f.kind == frameGoAway {
				t.Fatalf("got %+v", f)
			}
		}
	}
	text := make([]byte, windowBytes)
	stream := uint32(1)
	send := func(path string) {
		p.write(p.open(stream, path), dataFrame(stream, text[:windowBytes/2]))
		p.write(rawFrame(frameData, flagPadded, stream, append([]byte{200}, text[:windowBytes/2-1]...)))
		sent += windowBytes
	}
	for range 2 * sessionWindowBytes / (5 * windowBytes) {
		send("/reads")
		p.write(lastFrame(stream, nil))
		ended(stream, frameHeaders)
		stream += 2
		send("/reads-some")
		ended(stream, frameReset)
		p.write(dataFrame(stream, text[:1000]))
		sent += 1000
		stream += 2
		for _, path := range []string{"/leaves", "/fails"} {
			asked.Add(1)
			send(path)
			proceed <- struct{}{}
			ended(stream, frameReset)
			stream += 2
		}
		asked.Wait()
		asked.Add(1)
		send("/leaves")
		p.write(appendReset(nil, stream, codeNone))
		p.write(rawFrame(framePing, 0, 0, make([]byte, 8)))
		ended(0, framePing)
		proceed <- struct{}{}
		asked.Wait()
		stream += 2
	}
	// What is short of a step comes with the rest of it.
	rest := sessionWindowStepBytes - (sent - granted)
	if rest <= 0 || rest > sessionWindowStepBytes {
		t.Fatalf("of %d bytes %d were granted again", sent, granted)
	}
	before := granted
	for ; rest > 0; rest -= min(rest, windowBytes) {
		if granted != before {
			t.Fatalf("granted %d bytes early", rest)
		}
		p.write(p.open(stream, "/reads"), lastFrame(stream, text[:min(rest, windowBytes)]))
		sent += min(rest, windowBytes)
		ended(stream, frameHeaders)
		stream += 2
	}
	p.write(rawFrame(framePing, 0, 0, make([]byte, 8)))
	ended(0, framePing)
	if granted != sent {
		t.Errorf("of %d bytes %d were granted again", sent, granted)
	}
}

func TestTheEngineMayWriteAllItWantsBeforeItReads(t *testing.T) {
	ours, theirs := net.Pipe()
	p := newPeer(startSessionOn(t, ours, theirs, echo))
	text := bytes.Repeat([]byte("text "), 10_000)
	p.write([]byte(preface), appendSettings(nil))
	for range 10 {
		p.write(rawFrame(framePing, 0, 0, make([]byte, 8)), appendSettings(nil))
	}
	p.write(p.open(1, "/"), lastFrame(1, text))
	pings, got := 0, 0
	for pings < 10 || got < len(text) {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		switch f.kind {
		case framePing:
			pings++
		case frameData:
			got += f.length
		}
	}
}

func TestAPingIsAnsweredThoughAnAnswerWaitsToBeRead(t *testing.T) {
	p := startPeer(t, writes(make([]byte, 1<<20)), [2]uint32{settingWindowBytes, 1 << 20})
	p.write(p.ask(1, "/"), p.ask(3, "/"), p.ask(5, "/"))
	for range 100 {
		p.write(rawFrame(framePing, 0, 0, make([]byte, 8)))
	}
	for pings := 0; pings < 100; {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.kind == framePing {
			pings++
		}
	}
}

func TestNothingIsSentForAStreamThatWasBrokenOffWhileOthersWrote(t *testing.T) {
	ours, theirs := net.Pipe()
	begun, ended := make(chan string), make(chan error, 3)
	p := newPeer(startSessionOn(t, ours, theirs, func(a Answer, r *Request) {
		begun <- r.Path
		_, err := a.Write(make([]byte, 20_000))
		if r.Path == "/broken-off" {
			ended <- err
		}
	}))
	p.write([]byte(preface), appendSettings(nil))
	p.expect(frameSettings)
	p.expect(frameWindowUpdate)
	p.expect(frameSettings)
	// Nobody reads what the first writes.
	p.write(p.ask(1, "/"))
	within(t, "the first begins", begun)
	p.expect(frameHeaders)
	p.write(p.ask(3, "/broken-off"))
	within(t, "the second begins", begun)
	time.Sleep(20 * time.Millisecond)
	p.write(appendReset(nil, 3, codeNone), appendWindowUpdate(nil, 0, 1))
	for last := false; !last; {
		f, err := p.next()
		if err != nil || f.stream == 3 {
			t.Fatalf("got %+v, %v", f.frameHeader, err)
		}
		last = f.stream == 1 && f.flags == flagEndStream
	}
	p.ping()
	if err := within(t, "the second ends", ended); !errors.Is(err, errReset) {
		t.Errorf("got %v", err)
	}
	// What it had reserved is there for others.
	p.write(p.ask(5, "/"), p.ask(7, "/"))
	for range 2 {
		within(t, "others begin", begun)
	}
	for ends := 0; ends < 2; {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.flags == flagEndStream {
			ends++
		}
	}
}

// deafConn takes nothing more once it is told so, and gives a last text to read after it was closed for that.
type deafConn struct {
	net.Conn
	last   io.Reader
	closed chan struct{}
	once   sync.Once
}

func (c *deafConn) Write([]byte) (int, error) { return 0, errors.New("nobody takes it") }
func (c *deafConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
func (c *deafConn) Read(p []byte) (int, error) {
	<-c.closed
	return c.last.Read(p)
}

func TestRequestsReadAfterAWriteFailedLeaveNoHandlerWaiting(t *testing.T) {
	var p peer
	p.encoder = hpack.NewEncoder(&p.block)
	request := rawFrame(frameHeaders, flagEndHeaders, 1, p.fields("/"))
	conn := &deafConn{last: bytes.NewReader(append([]byte{}, request...)), closed: make(chan struct{})}
	first := strings.NewReader(preface + string(appendSettings(nil)))
	before := runtime.NumGoroutine()
	served := make(chan error, 1)
	go func() {
		reader := bufio.NewReader(io.MultiReader(first, conn))
		served <- Serve(conn, reader, func(_ Answer, r *Request) { _, _ = io.Copy(io.Discard, r.Body) }, nil)
	}()
	if err := within(t, "Serve returns", served); err != nil {
		t.Errorf("got %v", err)
	}
	eventually(t, "handlers end", func() bool { return runtime.NumGoroutine() <= before })
}
