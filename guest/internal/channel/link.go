// Package channel is the agent's side of the link: it dials the engine and serves what that asks.
package channel

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"regexp"
	"time"

	"pyro.dev/agent/internal/http2"
	"pyro.dev/agent/internal/message"
)

const (
	// Redialling begins at firstRedial and doubles up to lastRedial.
	firstRedial = 10 * time.Millisecond
	lastRedial  = 200 * time.Millisecond
	dialTimeout = 5 * time.Second
	// resyncTimeout is how long the engine may take for its first line, helloTimeout for reading the answer.
	resyncTimeout = 30 * time.Second
	helloTimeout  = 5 * time.Second
	// readBufferBytes holds a small request; what is larger is read past it.
	readBufferBytes = 4 << 10
)

var resyncLine = regexp.MustCompile(`^PYRO ([0-9a-f]{32})\n$`)

// Link keeps a link to the engine for ever.
type Link struct {
	// Dial gives a new connection to the engine.
	Dial func() (net.Conn, error)
	// Hello is sent with the nonce and the uptime filled in.
	Hello   message.Hello
	Uptime  func() time.Duration
	Handler http2.Handler
	Log     *log.Logger
}

// DialSocket dials a unix socket, as seen from here.
func DialSocket(path string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.DialTimeout("unix", path, dialTimeout) }
}

// Run dials, serves and dials again; it never returns.
func (l *Link) Run() {
	pause := firstRedial
	lastProblem := ""
	for {
		served, err := l.once()
		if served {
			pause = firstRedial
			lastProblem = ""
		}
		if err != nil && err.Error() != lastProblem {
			lastProblem = err.Error()
			l.Log.Printf("link: %s", err)
		}
		time.Sleep(pause)
		pause = min(2*pause, lastRedial)
	}
}

// once reports whether a session was served.
func (l *Link) once() (bool, error) {
	conn, err := l.Dial()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	session, err := l.resync(conn)
	if err != nil {
		return false, err
	}
	return true, http2.Serve(conn, session, l.Handler, l.Log)
}

// resync answers `PYRO <nonce>` with the hello, as often as it comes: an engine asks again when it gets no answer, and where
// a link is no connection the first line may be that of an engine that is gone. It gives the reader that the session goes on with.
func (l *Link) resync(conn net.Conn) (*bufio.Reader, error) {
	session := bufio.NewReaderSize(conn, readBufferBytes)
	for {
		if err := conn.SetDeadline(time.Now().Add(resyncTimeout)); err != nil {
			return nil, err
		}
		nonce, err := readNonce(session)
		if err != nil {
			return nil, err
		}
		if err := l.answer(conn, nonce); err != nil {
			return nil, err
		}
		// Enough to tell another line from HTTP/2, which begins with PRI.
		begun, err := session.Peek(2)
		if err != nil {
			return nil, fmt.Errorf("the engine began no session: %w", err)
		}
		if !resyncPrefix(begun) {
			return session, nil
		}
	}
}

// answer sends the hello.
func (l *Link) answer(conn net.Conn, nonce string) error {
	hello := l.Hello
	hello.Nonce, hello.UptimeUs = nonce, l.Uptime().Microseconds()
	answer, err := json.Marshal(hello)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "PYRO %s\n", answer); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// ResyncBytes is the length of the engine's line.
const ResyncBytes = len("PYRO ") + 32 + 1

// FindResync gives where in a text the engine's line begins when the text ends with it, or -1.
func FindResync(text []byte) int {
	at := len(text) - ResyncBytes
	if at < 0 || !resyncLine.Match(text[at:]) {
		return -1
	}
	return at
}

// ResyncWants gives how many bytes may be read after a text without reading beyond the engine's line.
func ResyncWants(text []byte) int {
	for at := max(0, len(text)-ResyncBytes+1); at < len(text); at++ {
		if resyncPrefix(text[at:]) {
			return at + ResyncBytes - len(text)
		}
	}
	return ResyncBytes
}

// resyncPrefix reports whether a text may become the engine's line.
func resyncPrefix(text []byte) bool {
	const start = "PYRO "
	return bytes.HasPrefix([]byte(start), text[:min(len(text), len(start))])
}

// readNonce reads exactly the line: what follows belongs to HTTP/2.
func readNonce(from io.Reader) (string, error) {
	line := make([]byte, ResyncBytes)
	if _, err := io.ReadFull(from, line); err != nil {
		return "", fmt.Errorf("the engine sent no resync: %w", err)
	}
	match := resyncLine.FindSubmatch(line)
	if match == nil {
		return "", errors.New("the engine's first line is no resync")
	}
	return string(match[1]), nil
}
