// Package volumes is the engine's long-lived helper for everything that needs an ioctl or a careful
// walk: btrfs subvolumes and quotas, the pool file and its loop device, mounts, and plain trees.
// It speaks JSON lines; docs/guest-protocol.md, section "Volumes", is its contract.
package volumes

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// protocolVersion is announced in the first line.
	protocolVersion = 1
	// requestLimitBytes bounds one line from the engine.
	requestLimitBytes = 1 << 20
	// concurrentRequests bounds the requests under way; more wait in stdin.
	concurrentRequests = 64
	// drainTimeout is how long requests under way may go on after stdin ended.
	drainTimeout = 5 * time.Second
)

// Main serves requests on stdin and stdout until stdin ends.
func Main(args []string) int {
	if len(args) != 0 {
		fmt.Fprintln(os.Stderr, "volumes: takes no arguments")
		return 2
	}
	server := newServer(os.Stdout)
	if err := server.serve(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "volumes:", err)
		return 1
	}
	return 0
}

type server struct {
	outMu sync.Mutex
	out   io.Writer

	mu      sync.Mutex
	running map[int64]context.CancelFunc

	loops *loopTable
}

func newServer(out io.Writer) *server {
	return &server{out: out, running: map[int64]context.CancelFunc{}, loops: newLoopTable()}
}

type header struct {
	ID int64  `json:"id"`
	Op string `json:"op"`
}

type answer struct {
	ID     int64    `json:"id"`
	Result any      `json:"result,omitempty"`
	Error  *opError `json:"error,omitempty"`
}

func (s *server) serve(in io.Reader) error {
	if err := s.write(map[string]any{"ready": map[string]int{"protocol": protocolVersion}}); err != nil {
		return err
	}
	lines := bufio.NewReaderSize(in, 64<<10)
	slots := make(chan struct{}, concurrentRequests)
	var group sync.WaitGroup
	var readErr error
	for {
		line, err := readLine(lines)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				readErr = err
			}
			break
		}
		if len(line) == 0 {
			continue
		}
		s.dispatch(line, slots, &group)
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(drainTimeout):
		s.cancelAll()
		select {
		case <-done:
		case <-time.After(time.Second):
		}
	}
	return readErr
}

func (s *server) dispatch(line []byte, slots chan struct{}, group *sync.WaitGroup) {
	var head header
	if err := json.Unmarshal(line, &head); err != nil || head.ID <= 0 {
		s.reply(answer{ID: max(head.ID, 0), Error: invalid("not a request: a JSON object with a positive id and an op")})
		return
	}
	if head.Op == "cancel" {
		s.cancel(head, line)
		return
	}
	run, known := operations[head.Op]
	if !known {
		s.reply(answer{ID: head.ID, Error: invalid(fmt.Sprintf("unknown op %q", head.Op))})
		return
	}
	cx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	if _, duplicate := s.running[head.ID]; duplicate {
		s.mu.Unlock()
		cancel()
		s.reply(answer{ID: head.ID, Error: invalid("a request with this id is under way")})
		return
	}
	s.running[head.ID] = cancel
	s.mu.Unlock()
	slots <- struct{}{}
	group.Add(1)
	go func() {
		defer group.Done()
		result, err := s.run(cx, run, head, line)
		s.mu.Lock()
		delete(s.running, head.ID)
		s.mu.Unlock()
		cancel()
		<-slots
		if err != nil {
			s.reply(answer{ID: head.ID, Error: asOpError(err)})
			return
		}
		s.reply(answer{ID: head.ID, Result: result})
	}()
}

// run turns a defect in one operation into its error: the helper holds loop devices that others need.
func (s *server) run(cx context.Context, op operation, head header, line []byte) (result any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &opError{Code: codeFailed, Message: fmt.Sprintf("%s: defect: %v", head.Op, cause)}
		}
	}()
	return op(cx, s, line)
}

func (s *server) cancel(head header, line []byte) {
	var in struct {
		header
		Request int64 `json:"request"`
	}
	if err := decodeStrict(line, &in); err != nil {
		s.reply(answer{ID: head.ID, Error: asOpError(err)})
		return
	}
	s.mu.Lock()
	if stop, found := s.running[in.Request]; found {
		stop()
	}
	s.mu.Unlock()
	s.reply(answer{ID: head.ID, Result: struct{}{}})
}

func (s *server) cancelAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stop := range s.running {
		stop()
	}
}

func (s *server) reply(a answer) {
	if err := s.write(a); err != nil {
		// The engine is gone; stdin ends too and the loop with it.
		fmt.Fprintln(os.Stderr, "volumes: answer:", err)
	}
}

func (s *server) write(value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	s.outMu.Lock()
	defer s.outMu.Unlock()
	_, err = s.out.Write(append(line, '\n'))
	return err
}

// readLine returns one line without its end; longer lines than allowed end the helper, as the stream cannot be trusted then.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > requestLimitBytes {
			return nil, fmt.Errorf("request of more than %d bytes", requestLimitBytes)
		}
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}
