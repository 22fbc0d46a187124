package http2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestARequestIsAnsweredWithItsBodyAndPath(t *testing.T) {
	_, client := startClient(t, func(a Answer, r *Request) {
		body, err := io.ReadAll(r.Body)
		a.Begin(201, "application/json")
		fmt.Fprintf(a, "%s %s %q %v", r.Method, r.Path, body, err)
	})
	for _, body := range []string{"", "x", "{}", strings.Repeat("long ", 1000)} {
		answer, err := client.Post("http://agent/v1/a?b=c", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if want := fmt.Sprintf("POST /v1/a?b=c %q <nil>", body); err != nil || string(content) != want {
			t.Errorf("got %q, %v; want %q", content, err, want)
		}
		if answer.StatusCode != 201 || answer.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %d %v", answer.StatusCode, answer.Header)
		}
	}
}

func TestAHandlerThatWritesNothingAnswersAnEmpty200(t *testing.T) {
	_, client := startClient(t, func(a Answer, r *Request) {
		switch r.Path {
		case "/begin":
			a.Begin(404, "")
		case "/flush":
			if err := a.Flush(); err != nil {
				t.Error(err)
			}
		}
	})
	for path, want := range map[string]int{"/": 200, "/flush": 200, "/begin": 404} {
		for _, body := range []string{"", "not read"} {
			if status, content := post(t, client, path, strings.NewReader(body)); status != want || len(content) != 0 {
				t.Errorf("%s with %q: got %d %q", path, body, status, content)
			}
		}
	}
}

func TestAnswersOfAllSizesArriveWhole(t *testing.T) {
	text := noise(1, 1<<20)
	_, client := startClient(t, func(a Answer, r *Request) {
		var total, piece int
		if _, err := fmt.Sscanf(r.Path, "/%d/%d", &total, &piece); err != nil {
			t.Error(err)
		}
		for rest := text[:total]; len(rest) > 0; {
			n := min(piece, len(rest))
			if wrote, err := a.Write(rest[:n]); wrote != n || err != nil {
				t.Errorf("wrote %d of %d: %v", wrote, n, err)
			}
			rest = rest[n:]
		}
	})
	for _, total := range []int{1, heldBytes - 1, heldBytes, heldBytes + 1, joinedBytes, defaultFrameBytes, defaultWindowBytes + 1, len(text)} {
		for _, piece := range []int{100, heldBytes, heldBytes + 1, joinedBytes + 1, len(text)} {
			if status, content := post(t, client, fmt.Sprintf("/%d/%d", total, piece), nil); status != 200 || !bytes.Equal(content, text[:total]) {
				t.Errorf("%d in pieces of %d: got %d bytes", total, piece, len(content))
			}
		}
	}
}

func TestLargeBodiesGoBothWaysAtOnceByteForByte(t *testing.T) {
	_, client := startClient(t, echo)
	text := noise(2, 48<<20)
	answer, err := client.Post("http://agent/", "text/plain", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got := sha256.New()
	if n, err := io.Copy(got, answer.Body); n != int64(len(text)) || err != nil {
		t.Fatalf("got %d bytes, %v", n, err)
	}
	if want := sha256.Sum256(text); !bytes.Equal(got.Sum(nil), want[:]) {
		t.Error("got other bytes")
	}
}

func TestThousandsOfStreamsAreOpenAtATime(t *testing.T) {
	const streams = 2000
	proceed := make(chan struct{})
	s, client := startClient(t, func(a Answer, r *Request) {
		a.Begin(200, "")
		if err := a.Flush(); err != nil {
			t.Error(err)
		}
		if r.Path != "/first" {
			<-proceed
		}
		_, _ = io.Copy(a, r.Body)
	})
	// The client learns by this how many requests it may make at a time.
	post(t, client, "/first", nil)
	var done sync.WaitGroup
	for i := range streams {
		done.Add(1)
		go func() {
			defer done.Done()
			want := fmt.Sprint("body of ", i)
			if _, content, err := tryPost(client, "/", strings.NewReader(want)); err != nil || string(content) != want {
				t.Errorf("got %q, %v", content, err)
			}
		}()
	}
	eventually(t, "all are open", func() bool { return s.running.Load() == streams })
	close(proceed)
	done.Wait()
}

func TestManySmallRequestsAtATimeAreAllAnswered(t *testing.T) {
	_, client := startClient(t, echo)
	post(t, client, "/", nil)
	var done sync.WaitGroup
	for worker := range 50 {
		done.Add(1)
		go func() {
			defer done.Done()
			for i := range 100 {
				want := fmt.Sprint(worker, " ", i, strings.Repeat(".", i*i))
				if status, content, err := tryPost(client, "/", strings.NewReader(want)); err != nil || status != 200 || string(content) != want {
					t.Errorf("got %d %q, %v", status, content, err)
				}
			}
		}()
	}
	done.Wait()
}

func TestWhoDoesNotReadItsAnswerOrItsRequestStopsNoOther(t *testing.T) {
	proceed := make(chan struct{})
	_, client := startClient(t, func(a Answer, r *Request) {
		if r.Path == "/stuck" {
			<-proceed
		}
		echo(a, r)
	})
	text := noise(3, 8<<20)
	unread, err := client.Post("http://agent/", "", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Body.Close()
	stuck := make(chan error, 1)
	go func() {
		_, content, err := tryPost(client, "/stuck", bytes.NewReader(text))
		if err == nil && !bytes.Equal(content, text) {
			err = errors.New("other bytes")
		}
		stuck <- err
	}()
	for range 20 {
		if _, content := post(t, client, "/", bytes.NewReader(text[:1<<20])); !bytes.Equal(content, text[:1<<20]) {
			t.Fatalf("got %d bytes", len(content))
		}
	}
	if content, err := io.ReadAll(unread.Body); err != nil || !bytes.Equal(content, text) {
		t.Errorf("got %d bytes, %v", len(content), err)
	}
	close(proceed)
	if err := within(t, "the stuck one ends", stuck); err != nil {
		t.Error(err)
	}
}

func TestAHandlerMayAnswerWithoutReadingALargeBody(t *testing.T) {
	_, client := startClient(t, func(a Answer, r *Request) {
		a.Begin(413, "text/plain")
		_, _ = io.WriteString(a, "too large")
	})
	text := noise(4, 1<<20)
	// Each sends up to a window that nobody reads: together more than the session's.
	for range 3 * sessionWindowBytes / windowBytes {
		if status, content := post(t, client, "/", bytes.NewReader(text)); status != 413 || string(content) != "too large" {
			t.Fatalf("got %d %q", status, content)
		}
	}
}

func TestAHandlerFindsOutThatItsRequestWasBrokenOff(t *testing.T) {
	type end struct{ body, context, write error }
	ends := make(chan end, 1)
	s, client := startClient(t, func(a Answer, r *Request) {
		if r.Path == "/other" {
			echo(a, r)
			return
		}
		if err := a.Flush(); err != nil {
			t.Error(err)
		}
		_, body := io.Copy(io.Discard, r.Body)
		<-r.Context.Done()
		_, write := a.Write(make([]byte, 1<<20))
		ends <- end{body, r.Context.Err(), write}
	})
	ctx, cancel := context.WithCancel(context.Background())
	body, more := io.Pipe()
	defer more.Close()
	request, err := http.NewRequestWithContext(ctx, "POST", "http://agent/", body)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(more, "begin") }()
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	answer.Body.Close()
	got := within(t, "the handler ends", ends)
	if !errors.Is(got.body, errReset) || got.context == nil || !errors.Is(got.write, errReset) {
		t.Errorf("got %+v", got)
	}
	if _, content := post(t, client, "/other", strings.NewReader("x")); string(content) != "x" {
		t.Errorf("got %q", content)
	}
	eventually(t, "handlers end", func() bool { return s.running.Load() == 0 })
}

func TestFlushShowsWhatWasWritten(t *testing.T) {
	proceed := make(chan struct{})
	_, client := startClient(t, func(a Answer, r *Request) {
		for i := range 5 {
			fmt.Fprint(a, i)
			if err := a.Flush(); err != nil {
				t.Error(err)
			}
			<-proceed
		}
	})
	answer, err := client.Post("http://agent/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	for i := range 5 {
		var piece [2]byte
		if n, err := answer.Body.Read(piece[:]); n != 1 || err != nil || piece[0] != byte('0'+i) {
			t.Fatalf("got %q, %v", piece[:n], err)
		}
		proceed <- struct{}{}
	}
	if rest, err := io.ReadAll(answer.Body); len(rest) != 0 || err != nil {
		t.Errorf("got %q, %v", rest, err)
	}
}

func TestAHandlerThatPanicsBreaksOnlyItsOwnAnswer(t *testing.T) {
	s, client := startClient(t, func(a Answer, r *Request) {
		switch r.Path {
		case "/panic/late":
			_, _ = a.Write(make([]byte, 100<<10))
			panic("late")
		case "/panic/early":
			panic("early")
		}
		if err := a.Flush(); err != nil {
			t.Error(err)
		}
		echo(a, r)
	})
	body, more := io.Pipe()
	answer, err := client.Post("http://agent/", "", body)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	for range 20 {
		for _, path := range []string{"/panic/late", "/panic/early"} {
			if _, content, err := tryPost(client, path, strings.NewReader("body")); err == nil {
				t.Errorf("%s: got %q", path, content)
			}
		}
	}
	go func() {
		_, _ = io.WriteString(more, "unharmed")
		more.Close()
	}()
	if content, err := io.ReadAll(answer.Body); string(content) != "unharmed" || err != nil {
		t.Errorf("got %q, %v", content, err)
	}
	if text := s.log.String(); !strings.Contains(text, "/panic/early: panic: early") {
		t.Errorf("logged %q", text)
	}
}

func TestTheEndOfTheConnectionEndsAllHandlers(t *testing.T) {
	ends := make(chan error, 4)
	gone := make(chan struct{})
	s, client := startClient(t, func(a Answer, r *Request) {
		var err error
		switch r.Path {
		case "/first":
			return
		case "/reads":
			_, err = io.Copy(io.Discard, r.Body)
		case "/writes":
			for err == nil {
				_, err = a.Write(make([]byte, 64<<10))
			}
		case "/waits":
			<-r.Context.Done()
			err = r.Context.Err()
		case "/flushes":
			for err == nil {
				if _, err = a.Write([]byte("x")); err == nil {
					err = a.Flush()
				}
			}
		}
		ends <- err
	})
	// The client dials once.
	post(t, client, "/first", nil)
	for _, path := range []string{"/reads", "/writes", "/waits", "/flushes"} {
		go func() {
			body, more := io.Pipe()
			defer more.Close()
			if answer, err := client.Post("http://agent"+path, "", body); err == nil {
				defer answer.Body.Close()
				<-gone
			}
		}()
	}
	eventually(t, "all run", func() bool { return s.running.Load() == 4 })
	s.conn.Close()
	close(gone)
	if err := s.awaitEnd(); err != nil {
		t.Errorf("got %v", err)
	}
	for range 4 {
		if err := within(t, "a handler ends", ends); err == nil {
			t.Error("a handler saw no error")
		}
	}
}
