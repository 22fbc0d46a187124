package http2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// session is a server on one end of a connection; conn is the other.
type session struct {
	t    *testing.T
	conn net.Conn
	log  *safeBuffer
	// served gives what Serve returned.
	served chan error
	// running is how many handlers run.
	running atomic.Int32
}

// startSession ends with the test, which must leave nothing behind.
func startSession(t *testing.T, handler Handler) *session {
	t.Helper()
	ours, theirs := socketPair(t)
	return startSessionOn(t, ours, theirs, handler)
}

func startSessionOn(t *testing.T, ours, theirs net.Conn, handler Handler) *session {
	t.Helper()
	before := runtime.NumGoroutine()
	s := &session{t: t, conn: theirs, served: make(chan error, 1), log: &safeBuffer{}}
	counted := func(a Answer, r *Request) {
		s.running.Add(1)
		defer s.running.Add(-1)
		handler(a, r)
	}
	go func() { s.served <- Serve(ours, bufio.NewReaderSize(ours, 4<<10), counted, log.New(s.log, "", 0)) }()
	t.Cleanup(func() {
		theirs.Close()
		s.awaitEnd()
		eventually(t, "handlers end", func() bool { return s.running.Load() == 0 })
		eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	})
	return s
}

// awaitEnd gives what Serve returned, as often as it is asked.
func (s *session) awaitEnd() error {
	s.t.Helper()
	select {
	case err := <-s.served:
		s.served <- err
		return err
	case <-time.After(patience):
		stacks := make([]byte, 64<<10)
		s.t.Fatalf("Serve does not return\n%s", stacks[:runtime.Stack(stacks, true)])
		return nil
	}
}

// startClient gives Go's own client of a server.
func startClient(t *testing.T, handler Handler) (*session, *http.Client) {
	t.Helper()
	s := startSession(t, handler)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	var taken atomic.Bool
	transport := &http.Transport{
		Protocols: &protocols, DisableCompression: true,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: concurrentStreams},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if taken.Swap(true) {
				return nil, errors.New("there is one connection")
			}
			return s.conn, nil
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return s, &http.Client{Transport: transport}
}

func socketPair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range pair {
		file := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	return ends[0], ends[1]
}

// post gives the status and the body of an answer.
func post(t *testing.T, client *http.Client, path string, body io.Reader) (int, []byte) {
	t.Helper()
	status, content, err := tryPost(client, path, body)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return status, content
}

func tryPost(client *http.Client, path string, body io.Reader) (int, []byte, error) {
	answer, err := client.Post("http://agent"+path, "text/plain", body)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	return answer.StatusCode, content, err
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 64<<10)
			t.Fatalf("not: %s\n%s", what, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// within fails a test that waits for ever.
func within[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatalf("not: %s", what)
		panic("unreachable")
	}
}

// noise gives bytes of which none may be lost or swapped unseen.
func noise(seed int64, bytes int) []byte {
	text := make([]byte, bytes)
	rand.New(rand.NewSource(seed)).Read(text)
	return text
}

// echo answers with the body of the request.
func echo(a Answer, r *Request) {
	a.Begin(200, "text/plain")
	_, _ = io.Copy(a, r.Body)
}

// safeBuffer is written and read by several goroutines.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
