package exec

import (
	"context"
	"sync"
	"time"

	"pyro.dev/agent/internal/frames"
)

const (
	// keptLimitBytes bounds the output that a reader already has, kept so that an engine that died can ask again.
	keptLimitBytes = 4 << 20
	// unsentLimitBytes bounds the output no reader has yet; beyond it the command waits.
	unsentLimitBytes = 4 << 20
	// batchLimitBytes bounds what one reader takes at a time.
	batchLimitBytes = 1 << 20
	// segmentCostBytes is what a segment counts besides its payload, or output in single bytes would take 50 times its
	// size in memory.
	segmentCostBytes = 64
)

// segment is the output of one read from a pipe: a frame, header and payload, in a block.
type segment struct {
	block *block
	// from and to delimit the frame in the block.
	from, to int
	// cursor of the first payload byte.
	cursor int64
	stream frames.Type
}

func (s *segment) payload() int { return s.to - s.from - frames.HeaderBytes }
func (s *segment) end() int64   { return s.cursor + int64(s.payload()) }
func (s *segment) cost() int    { return s.payload() + segmentCostBytes }

// ring keeps the newest output of one command. Positions are cursors: payload bytes since the start.
type ring struct {
	budget *budget

	mu       sync.Mutex
	changed  chan struct{}
	segments []segment
	// end is the cursor behind the last byte, sent the furthest one any reader was handed.
	end, sent int64
	// keptCost and unsentCost sum the costs of segments before and behind sent.
	keptCost, unsentCost int
	bytes                map[frames.Type]int64
	closed, dropped      bool
}

func newRing(budget *budget) *ring {
	return &ring{budget: budget, changed: make(chan struct{}), bytes: map[frames.Type]int64{}}
}

// notify wakes everyone who waits; with mu held.
func (r *ring) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// waitSpace returns when more output may be read; false when nobody will ever read it.
func (r *ring) waitSpace() bool {
	for {
		r.mu.Lock()
		changed, full, dropped := r.changed, r.unsentCost >= min(unsentLimitBytes, r.budget.share()), r.dropped
		r.mu.Unlock()
		if dropped {
			return false
		}
		if !full {
			return true
		}
		<-changed
	}
}

// add takes the frame at b.buffer[from:to], whose header it fills in.
func (r *ring) add(stream frames.Type, b *block, from, to int) {
	frames.PutHeader(b.buffer[from:], stream, to-from-frames.HeaderBytes)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := segment{block: b, from: from, to: to, cursor: r.end, stream: stream}
	r.bytes[stream] += int64(s.payload())
	r.end = s.end()
	if r.dropped {
		return
	}
	b.references++
	r.segments = append(r.segments, s)
	r.unsentCost += s.cost()
	r.notify()
}

// close says that no more output comes.
func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.notify()
}

// drop forgets everything; writers go on into nothing.
func (r *ring) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped = true
	for i := range r.segments {
		r.release(r.segments[i].block)
	}
	r.segments, r.keptCost, r.unsentCost = nil, 0, 0
	r.notify()
}

// release gives up one reference to a block; with mu held.
func (r *ring) release(b *block) {
	b.references--
	if b.references == 0 {
		recycle(b)
	}
}

// hold and letGo are the references of a pipe's reader to the block it fills.
func (r *ring) hold(b *block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.references++
}

func (r *ring) letGo(b *block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release(b)
}

// batch is output taken by one reader; the blocks stay referenced until it is given back.
type batch struct {
	// cursor of its first byte and behind its last.
	from, to int64
	segments []segment
	// ended is true when nothing comes behind this batch.
	ended bool
}

// first returns the oldest cursor at or behind the wanted one that is still kept, and whether the wanted one exists.
func (r *ring) first(wanted int64) (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if wanted > r.end {
		return 0, false
	}
	return max(wanted, r.oldest()), true
}

func (r *ring) oldest() int64 {
	if len(r.segments) == 0 {
		return r.end
	}
	return r.segments[0].cursor
}

// comesWithin waits for output behind cursor, or for the end, up to a limit.
func (r *ring) comesWithin(ctx context.Context, limit time.Duration, cursor int64) bool {
	if limit <= 0 {
		return false
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		r.mu.Lock()
		came, changed := r.has(cursor), r.changed
		r.mu.Unlock()
		if came {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// has reports whether a reader at cursor need not wait; with mu held.
func (r *ring) has(cursor int64) bool { return r.end > cursor || r.closed || r.dropped }

// take waits for output at cursor. A batch that begins behind cursor says that the bytes between are gone.
func (r *ring) take(ctx context.Context, cursor int64, into *batch) error {
	for {
		r.mu.Lock()
		if r.has(cursor) {
			r.fill(cursor, into)
			r.mu.Unlock()
			return nil
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *ring) fill(cursor int64, into *batch) {
	into.segments = into.segments[:0]
	into.from = max(cursor, r.oldest())
	into.to = into.from
	bytes := 0
	for i := r.search(into.from); i < len(r.segments) && bytes < batchLimitBytes; i++ {
		s := r.segments[i]
		s.block.references++
		into.segments = append(into.segments, s)
		into.to = s.end()
		bytes += s.payload()
	}
	into.ended = (r.closed || r.dropped) && into.to >= r.end
	if r.dropped {
		into.ended = true
	}
}

// search finds the segment that holds cursor.
func (r *ring) search(cursor int64) int {
	low, high := 0, len(r.segments)
	for low < high {
		middle := (low + high) / 2
		if r.segments[middle].end() <= cursor {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// giveBack ends the use of a batch. handed says whether the reader got it all.
func (r *ring) giveBack(b *batch, handed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range b.segments {
		r.release(b.segments[i].block)
	}
	b.segments = b.segments[:0]
	if !handed || b.to <= r.sent || r.dropped {
		return
	}
	for i := r.search(r.sent); i < len(r.segments) && r.segments[i].end() <= b.to; i++ {
		cost := r.segments[i].cost()
		r.unsentCost -= cost
		r.keptCost += cost
	}
	r.sent = b.to
	limit := min(keptLimitBytes, r.budget.share())
	gone := 0
	for r.keptCost > limit && gone < len(r.segments) && r.segments[gone].end() <= r.sent {
		r.keptCost -= r.segments[gone].cost()
		r.release(r.segments[gone].block)
		r.segments[gone].block = nil
		gone++
	}
	if gone > 0 {
		r.segments = compact(r.segments, gone)
	}
	r.notify()
}

// compact drops the first gone segments; the array behind is reused once half of it is unused.
func compact(segments []segment, gone int) []segment {
	rest := segments[gone:]
	if len(rest) == 0 {
		return segments[:0]
	}
	if cap(rest) < cap(segments)/2 || cap(rest) == len(rest) {
		return append(make([]segment, 0, 2*len(rest)), rest...)
	}
	return rest
}

// progress returns the cursor behind the last byte and the bytes of each stream.
func (r *ring) progress() (end, stdout, stderr int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end, r.bytes[frames.Stdout], r.bytes[frames.Stderr]
}
