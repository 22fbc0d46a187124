package exec

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pyro.dev/agent/internal/message"
)

// limitedWriter fails once it took limit bytes, as a link that breaks.
type limitedWriter struct {
	bytes.Buffer
	limit int
}

var errBroken = errors.New("the link broke")

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.Len()+len(p) > w.limit {
		n, _ := w.Buffer.Write(p[:w.limit-w.Len()])
		return n, errBroken
	}
	return w.Buffer.Write(p)
}

func TestOutputIsReadAgainFromAnyCursor(t *testing.T) {
	command := start(t, newTestRegistry(t), "cmd", script("for n in 1 2 3 4 5 6 7 8 9; do echo out $n; echo err $n >&2; done; exit 7"))
	whole := attach(t, command, 0)
	wantCode(t, whole, 7)
	if whole.bytes != 108 {
		t.Fatalf("got %d bytes", whole.bytes)
	}
	for cursor := range whole.bytes + 1 {
		rest := attach(t, command, cursor)
		wantCode(t, rest, 7)
		if fmt.Sprint(rest.cursors) != fmt.Sprint([]int64{cursor}) || rest.bytes != whole.bytes-cursor {
			t.Fatalf("from %d: %d bytes, attached at %v", cursor, rest.bytes, rest.cursors)
		}
		if !strings.HasSuffix(whole.stdout, rest.stdout) || !strings.HasSuffix(whole.stderr, rest.stderr) {
			t.Fatalf("from %d: got %q %q", cursor, rest.stdout, rest.stderr)
		}
	}
	wantKind(t, command.CheckCursor(whole.bytes+1), message.KindInvalid)
	wantKind(t, command.Stream(context.Background(), whole.bytes+1, 0, io.Discard, func() error { return nil }), message.KindInvalid)
}

func TestSeveralReadersGetTheSame(t *testing.T) {
	command := start(t, newTestRegistry(t), "cmd", script("for n in 1 2 3 4 5; do echo out $n; sleep 0.01; echo err $n >&2; done"))
	var all sync.WaitGroup
	readings := make([]reading, 8)
	for n := range readings {
		all.Add(1)
		go func() {
			defer all.Done()
			var stream bytes.Buffer
			if err := command.Stream(context.Background(), 0, 0, &stream, func() error { return nil }); err != nil {
				t.Error(err)
			}
			readings[n] = parse(t, stream.Bytes())
		}()
	}
	all.Wait()
	for _, got := range readings {
		if got.stdout != readings[0].stdout || got.stderr != readings[0].stderr || got.exit == nil || strings.Count(got.stdout, "\n") != 5 {
			t.Errorf("got %q %q", got.stdout, got.stderr)
		}
	}
}

// stream makes sizeMib of numbered lines on stdout and, of each line, its number on stderr.
const stream = `i=0; while [ $i -lt %d ]; do echo $i >&2; printf '%%064d\n' $i; i=$((i+1)); done`

func TestAReaderWhoseLinkBreaksAnywhereGoesOnWithoutLossOrRepeat(t *testing.T) {
	const lines = 4000
	command := start(t, newTestRegistry(t), "cmd", script(fmt.Sprintf(stream, lines)))
	random := rand.New(rand.NewPCG(1, 2))
	var stdout, stderr strings.Builder
	cursor, breaks := int64(0), 0
	for {
		w := &limitedWriter{limit: 1 + random.IntN(20_000)}
		cx, cancel := context.WithTimeout(context.Background(), patience)
		err := command.Stream(cx, cursor, 0, w, func() error { return nil })
		cancel()
		got := parse(t, w.Bytes())
		stdout.WriteString(got.stdout)
		stderr.WriteString(got.stderr)
		cursor += got.bytes
		if got.exit != nil {
			break
		}
		if !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		breaks++
	}
	var wantOut, wantErr strings.Builder
	for n := range lines {
		fmt.Fprintf(&wantOut, "%064d\n", n)
		fmt.Fprintln(&wantErr, n)
	}
	if stdout.String() != wantOut.String() || stderr.String() != wantErr.String() {
		t.Errorf("after %d breaks: %d bytes of %d, %d of %d", breaks, stdout.Len(), wantOut.Len(), stderr.Len(), wantErr.Len())
	}
	if breaks < 10 {
		t.Errorf("the link broke only %d times", breaks)
	}
}

func TestACommandThatNobodyReadsWaitsAndLosesNothing(t *testing.T) {
	registry := newTestRegistry(t)
	marker := t.TempDir() + "/done"
	const size = 24 << 20
	command := start(t, registry, "cmd", script(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo >%s", size, marker)))
	eventually(t, "the ring is full", func() bool {
		end, _, _ := command.ring.progress()
		return end >= unsentLimitBytes*9/10
	})
	time.Sleep(200 * time.Millisecond)
	end, _, _ := command.ring.progress()
	if exists(marker) || end > unsentLimitBytes+largeBlockBytes {
		t.Fatalf("%d bytes were taken before anybody read, done %t", end, exists(marker))
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	pipe, w := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		err := command.Stream(context.Background(), 0, 0, w, func() error { return nil })
		failed <- err
		w.CloseWithError(err)
	}()
	var stream bytes.Buffer
	if _, err := io.Copy(&stream, pipe); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	got := parse(t, stream.Bytes())
	wantCode(t, got, 0)
	if sha256.Sum256([]byte(got.stdout)) != sha256.Sum256(bytes.Repeat([]byte{'x'}, size)) || got.exit.StdoutBytes != size {
		t.Errorf("got %d bytes of %d", len(got.stdout), size)
	}
	rest := attach(t, command, 0)
	if len(rest.cursors) != 1 || rest.cursors[0] <= 0 || size-rest.cursors[0] > keptLimitBytes || rest.bytes != size-rest.cursors[0] {
		t.Errorf("a late reader is attached at %v and gets %d bytes", rest.cursors, rest.bytes)
	}
	if rest.bytes < keptLimitBytes/2 {
		t.Errorf("only %d bytes are kept", rest.bytes)
	}
}

func TestABackgroundChildThatKeepsThePipeDoesNotKeepTheCommand(t *testing.T) {
	folder := t.TempDir()
	registry := newTestRegistry(t)
	got := attach(t, start(t, registry, "cmd", script(fmt.Sprintf(
		`cd %s; (until [ -e go ]; do sleep 0.02; done; echo late; echo late >&2; echo >after) & echo now`, folder))), 0)
	wantCode(t, got, 0)
	if got.stdout != "now\n" {
		t.Errorf("got %q", got.stdout)
	}
	if err := registry.Release(own(t, "cmd")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child wrote without SIGPIPE", func() bool { return exists(folder + "/after") })
}

func TestABackgroundChildThatGoesOnWritingDoesNotKeepTheCommand(t *testing.T) {
	command := start(t, newTestRegistry(t), "cmd", script(`(while :; do echo more; sleep 0.02; done) & echo now`))
	got := attach(t, command, 0)
	wantCode(t, got, 0)
	if err := command.Kill(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.stdout, "now\n") {
		t.Errorf("got %.40q", got.stdout)
	}
}

func TestOutputThatIsInThePipeWhenTheCommandEndsIsKept(t *testing.T) {
	registry := newTestRegistry(t)
	for n := range 20 {
		command := start(t, registry, fmt.Sprint(n), script("head -c 60000 /dev/zero; head -c 60000 /dev/zero >&2"))
		if got := attach(t, command, 0); len(got.stdout) != 60000 || len(got.stderr) != 60000 {
			t.Fatalf("got %d and %d bytes", len(got.stdout), len(got.stderr))
		}
	}
}

func TestTheBeginningWaitsAsLongAsItMayForWhatFollows(t *testing.T) {
	registry := newTestRegistry(t)
	for _, c := range []struct {
		id, text string
		hold     time.Duration
		flushes  int
	}{
		{"ends", ":", patience, 0},
		{"says", "echo x; read y", patience, 1},
		{"is silent", "read y", time.Millisecond, 1},
		{"is not held", "read y", 0, 1},
	} {
		t.Run(c.id, func(t *testing.T) {
			request := script(c.text)
			request.Stdin = true
			command := start(t, registry, "cmd-"+c.id, request)
			flushed := make(chan struct{}, 8)
			failed := make(chan error, 1)
			go func() {
				failed <- command.Stream(context.Background(), 0, c.hold, io.Discard, func() error { flushed <- struct{}{}; return nil })
			}()
			for range c.flushes {
				select {
				case <-flushed:
				case <-time.After(patience):
					t.Fatal("the beginning is never sent")
				}
			}
			command.closeStdin()
			if err := <-failed; err != nil || len(flushed) > 0 {
				t.Errorf("got %v, %d more flushes", err, len(flushed))
			}
		})
	}
}

func TestAReaderThatGoesAwayIsNotWaitedFor(t *testing.T) {
	command := start(t, newTestRegistry(t), "cmd", script("echo x; sleep 100"))
	cx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := command.Stream(cx, 0, 0, io.Discard, func() error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestReleasedOutputIsForgottenWhileSomebodyReads(t *testing.T) {
	registry := newTestRegistry(t)
	command := start(t, registry, "cmd", script("head -c 3000000 /dev/zero"))
	<-command.done
	pipe, w := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		failed <- command.Stream(context.Background(), 0, 0, w, func() error { return nil })
		w.Close()
	}()
	if _, err := io.ReadFull(pipe, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := registry.Release(own(t, "cmd")); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(pipe)
	if err != nil || <-failed != nil || len(rest) > 3_000_000 {
		t.Errorf("got %d bytes more, %v", len(rest), err)
	}
}

func TestStdinIsDeliveredToItsEnd(t *testing.T) {
	registry := newTestRegistry(t)
	for _, size := range []int{0, 1, 65536, 5 << 20} {
		content := make([]byte, size)
		for n := range content {
			content[n] = byte(n * 7)
		}
		request := argv("sha256sum")
		request.Stdin = true
		command := start(t, registry, fmt.Sprint(size), request)
		if err := command.WriteStdin(context.Background(), bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		got := attach(t, command, 0)
		wantCode(t, got, 0)
		if want := fmt.Sprintf("%x  -\n", sha256.Sum256(content)); got.stdout != want {
			t.Errorf("%d bytes: got %q", size, got.stdout)
		}
	}
}

func TestWithoutStdinACommandReadsNothing(t *testing.T) {
	registry := newTestRegistry(t)
	command := start(t, registry, "cmd", script("readlink /proc/self/fd/0; cat; echo end"))
	if err := command.WriteStdin(context.Background(), strings.NewReader("unwanted")); err != nil {
		t.Fatal(err)
	}
	if got := attach(t, command, 0); got.stdout != "/dev/null\nend\n" {
		t.Errorf("got %q", got.stdout)
	}
}

func TestACommandThatStopsReadingEndsItsStdinQuietly(t *testing.T) {
	registry := newTestRegistry(t)
	request := script("head -c 3; exec 0<&-; sleep 100")
	request.Stdin = true
	command := start(t, registry, "cmd", request)
	if err := command.WriteStdin(context.Background(), bytes.NewReader(make([]byte, 10<<20))); err != nil {
		t.Errorf("got %v", err)
	}
	request = argv("true")
	request.Stdin = true
	ended := start(t, registry, "ended", request)
	attach(t, ended, 0)
	if err := ended.WriteStdin(context.Background(), bytes.NewReader(make([]byte, 10<<20))); err != nil {
		t.Errorf("got %v", err)
	}
}

// brokenReader gives its text and then fails.
type brokenReader struct{ text *strings.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.text.Read(p)
	if err == io.EOF {
		err = errBroken
	}
	return n, err
}

func TestStdinThatBreaksOffGoesOnWithAnotherWriter(t *testing.T) {
	request := argv("cat")
	request.Stdin = true
	command := start(t, newTestRegistry(t), "cmd", request)
	wantKind(t, command.WriteStdin(context.Background(), brokenReader{strings.NewReader("one ")}), message.KindTruncated)
	if err := command.WriteStdin(context.Background(), strings.NewReader("two")); err != nil {
		t.Fatal(err)
	}
	if got := attach(t, command, 0); got.stdout != "one two" {
		t.Errorf("got %q", got.stdout)
	}
}

func TestStdinHasOneWriter(t *testing.T) {
	request := argv("sleep", "100")
	request.Stdin = true
	command := start(t, newTestRegistry(t), "cmd", request)
	cx, cancel := context.WithCancel(context.Background())
	first := make(chan error, 1)
	go func() { first <- command.WriteStdin(cx, bytes.NewReader(make([]byte, 10<<20))) }()
	eventually(t, "the first writes", func() bool { return len(command.writer) == 1 })
	wantKind(t, command.WriteStdin(context.Background(), strings.NewReader("x")), message.KindExists)
	cancel()
	select {
	case err := <-first:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Error("a writer into a full pipe does not go away")
	}
}

func TestDevNullThatWasReplacedIsNotUsed(t *testing.T) {
	registry := newTestRegistry(t)
	info, err := os.Stat("/dev/null")
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Fatalf("no device: %v %v", info, err)
	}
	null := registry.null
	if null < 3 {
		t.Fatalf("the descriptor is %d", null)
	}
}
