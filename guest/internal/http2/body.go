package http2

import (
	"io"
	"sync"
)

// body is what the engine sends of one request and its handler has not read yet, at most a window. One goroutine fills it, one
// empties it; neither copies under the lock.
type body struct {
	// consumed is told how many bytes the handler has taken.
	consumed func(n int)

	mu   sync.Mutex
	more sync.Cond
	// ring holds size bytes from start on. It grows as needed and is given up when the body is over.
	ring        []byte
	start, size int
	// ended is set when nothing follows: io.EOF or why it broke off.
	ended error
}

func (b *body) init(consumed func(n int)) {
	b.consumed = consumed
	b.more.L = &b.mu
}

// Read waits for the next bytes.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b.mu.Lock()
	for b.size == 0 && b.ended == nil {
		b.more.Wait()
	}
	if b.size == 0 {
		defer b.mu.Unlock()
		b.ring = nil
		return 0, b.ended
	}
	first, second := b.filled()
	b.mu.Unlock()
	n := copy(p, first)
	n += copy(p[n:], second)
	b.mu.Lock()
	// A break-off meanwhile has dropped the rest.
	taken := min(n, b.size)
	b.size -= taken
	if len(b.ring) > 0 {
		b.start = (b.start + taken) % len(b.ring)
	}
	b.mu.Unlock()
	b.consumed(taken)
	return n, nil
}

// fill takes n bytes from a reader and gives how many of them nobody will read.
func (b *body) fill(from io.Reader, n int) (lost int, err error) {
	for n > 0 {
		room := b.room(n)
		if _, err := io.ReadFull(from, room); err != nil {
			return lost, err
		}
		b.mu.Lock()
		if b.ended == nil {
			b.size += len(room)
			b.more.Signal()
		} else {
			lost += len(room)
		}
		b.mu.Unlock()
		n -= len(room)
	}
	return lost, nil
}

// room gives up to n bytes behind what is there, in one piece.
func (b *body) room(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return make([]byte, n)
	}
	if b.size+n > len(b.ring) {
		// The first frame is often the whole request.
		larger := make([]byte, max(b.size+n, min(2*len(b.ring), windowBytes)))
		first, second := b.filled()
		copy(larger[copy(larger, first):], second)
		b.ring, b.start = larger, 0
	}
	from := (b.start + b.size) % len(b.ring)
	return b.ring[from:min(from+n, len(b.ring))]
}

// filled is called with the lock held.
func (b *body) filled() (first, second []byte) {
	end := b.start + b.size
	if end <= len(b.ring) {
		return b.ring[b.start:end], nil
	}
	return b.ring[b.start:], b.ring[:end-len(b.ring)]
}

// end lets the handler read what is there, and then this.
func (b *body) end(reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = reason
		b.more.Broadcast()
	}
}

// drop ends the body and forgets what nobody read: it gives how much that was.
func (b *body) drop(reason error) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	unread := b.size
	b.size, b.start, b.ring = 0, 0, nil
	if b.ended == nil || b.ended == io.EOF {
		b.ended = reason
	}
	b.more.Broadcast()
	return unread
}
