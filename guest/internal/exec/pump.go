package exec

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/frames"
)

const (
	// silence is how long a pipe may be quiet after the main process ended, while others still hold it open.
	silence = 200 * time.Millisecond
	// lateLimit bounds the reading after the main process ended when others go on writing.
	lateLimit        = 2 * time.Second
	defaultPipeBytes = 64 << 10
	// drainBytes is the size of one read into nothing.
	drainBytes = 64 << 10
)

// growth says how many reads in a row fill a default pipe before it is made larger, and how large.
type growth struct{ afterFullReads, bytes int }

var (
	// Pipe memory is accounted per user across all sandboxes of a host: only busy pipes take more, and little.
	sharedKernelGrowth = growth{afterFullReads: 8, bytes: 256 << 10}
	// A sandbox with a kernel of its own takes from nobody, and there each change between writer and reader is dear: in gVisor this
	// is twice the throughput.
	ownKernelGrowth = growth{afterFullReads: 1, bytes: 1 << 20}
)

// pump moves one pipe into a ring.
type pump struct {
	ring   *ring
	stream frames.Type
	file   *os.File
	raw    syscall.RawConn
	// endedAt is when the main process ended, in nanoseconds since the epoch; 0 before.
	endedAt atomic.Int64
	// over is set when the pipe has ended, whatever the command does.
	over atomic.Bool

	growth    growth
	block     *block
	fullReads int
	waited    time.Duration
}

func newPump(r *ring, stream frames.Type, file *os.File, growth growth) (*pump, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &pump{ring: r, stream: stream, file: file, raw: raw, growth: growth}, nil
}

// mainEnded tells the pump that the main process ended: from now on only what is in the pipe counts.
func (p *pump) mainEnded(at time.Time) {
	if p.over.Load() {
		return
	}
	p.endedAt.Store(at.UnixNano())
	// Only fails on a closed file, whose pump is done.
	_ = p.file.SetReadDeadline(time.Now().Add(silence))
}

// run returns when all output that counts is in the ring. It reports whether others still hold the pipe open: then
// drain must follow.
func (p *pump) run() (open bool) {
	defer func() {
		if p.block != nil {
			p.ring.letGo(p.block)
			p.block = nil
		}
	}()
	for {
		before := time.Now()
		if !p.ring.waitSpace() {
			return true
		}
		ended := p.endedAt.Load()
		if ended != 0 {
			now := time.Now()
			p.waited += now.Sub(max2(before, time.Unix(0, ended)))
			if now.Sub(time.Unix(0, ended))-p.waited > lateLimit {
				return true
			}
			_ = p.file.SetReadDeadline(now.Add(silence))
		}
		n, err := p.read()
		switch {
		case n > 0:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			// A deadline that passed before the read looked at the pipe says nothing of the pipe.
			if p.readNow() > 0 {
				continue
			}
			return true
		default:
			return false
		}
	}
}

func max2(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (p *pump) room() []byte {
	b := p.block
	if b == nil || len(b.buffer)-b.used < roomBytes+frames.HeaderBytes {
		before := 0
		if b != nil {
			before = len(b.buffer)
			p.ring.letGo(b)
		}
		b = nextBlock(before)
		p.ring.hold(b)
		p.block = b
	}
	return b.buffer[b.used+frames.HeaderBytes:]
}

func (p *pump) read() (int, error) {
	n := 0
	var failed error
	err := p.raw.Read(func(fd uintptr) bool {
		n, failed = p.readOnce(int(fd))
		return failed != unix.EAGAIN
	})
	if err != nil {
		return 0, err
	}
	if n == 0 && failed == nil {
		return 0, io.EOF
	}
	return n, failed
}

// readNow reads without waiting and whatever the deadline.
func (p *pump) readNow() int {
	n := 0
	err := p.raw.Control(func(fd uintptr) {
		n, _ = p.readOnce(int(fd))
	})
	if err != nil {
		return 0
	}
	return n
}

func (p *pump) readOnce(fd int) (int, error) {
	room := p.room()
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, room) })
	if n <= 0 {
		return 0, err
	}
	b := p.block
	from := b.used
	b.used += frames.HeaderBytes + n
	p.ring.add(p.stream, b, from, b.used)
	p.grow(fd, n, len(room))
	return n, nil
}

func (p *pump) grow(fd, read, room int) {
	if p.fullReads < 0 {
		return
	}
	if read < defaultPipeBytes && read < room {
		p.fullReads = 0
		return
	}
	p.fullReads++
	if p.fullReads >= p.growth.afterFullReads {
		p.fullReads = -1
		// Refused when the user's pipes have too much memory already; it is only speed.
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, p.growth.bytes)
	}
}

// drain reads into nothing until nobody holds the pipe any more, so that what was left behind never gets SIGPIPE.
func (p *pump) drain() {
	defer p.file.Close()
	if p.file.SetReadDeadline(time.Time{}) != nil {
		return
	}
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			var failed error
			scrap := scraps.Get().(*[drainBytes]byte)
			n, failed = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), scrap[:]) })
			scraps.Put(scrap)
			return failed != unix.EAGAIN
		})
		if err != nil || n <= 0 {
			return
		}
	}
}

// scraps are buffers whose content nobody wants.
var scraps = sync.Pool{New: func() any { return new([drainBytes]byte) }}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
