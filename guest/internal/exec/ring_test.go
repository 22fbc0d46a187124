package exec

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"pyro.dev/agent/internal/frames"
)

// ringModel is a ring beside everything that was ever put into it.
type ringModel struct {
	ring    *ring
	blocks  []*block
	last    *block
	payload []byte
	streams []frames.Type
}

func (m *ringModel) add(stream frames.Type, payload []byte) {
	need := frames.HeaderBytes + len(payload)
	if m.last == nil || len(m.last.buffer)-m.last.used < need {
		if m.last != nil {
			m.ring.letGo(m.last)
		}
		m.last = &block{buffer: make([]byte, 16<<10)}
		m.blocks = append(m.blocks, m.last)
		m.ring.hold(m.last)
	}
	from := m.last.used
	copy(m.last.buffer[from+frames.HeaderBytes:], payload)
	m.last.used += need
	m.ring.add(stream, m.last, from, m.last.used)
	m.payload = append(m.payload, payload...)
	for range payload {
		m.streams = append(m.streams, stream)
	}
}

// read takes one batch at cursor, checks it against the model and returns the cursor behind it.
func (m *ringModel) read(t *testing.T, cursor int64, handed bool) int64 {
	t.Helper()
	var taken batch
	if err := m.ring.take(context.Background(), cursor, &taken); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeBatch(&out, cursor, &taken); err != nil {
		t.Fatal(err)
	}
	at := taken.from
	reader := frames.NewReader(&out)
	for {
		kind, payload, err := reader.Next()
		if err != nil {
			break
		}
		if kind == frames.Event {
			continue
		}
		for n := range payload {
			if payload[n] != m.payload[at] || m.streams[at] != kind {
				t.Fatalf("byte %d is %q of stream %d, want %q of %d", at, payload[n], kind, m.payload[at], m.streams[at])
			}
			at++
		}
	}
	if at != taken.to {
		t.Fatalf("a batch up to %d ends at %d", taken.to, at)
	}
	m.ring.giveBack(&taken, handed)
	return taken.to
}

func (m *ringModel) check(t *testing.T) {
	t.Helper()
	r := m.ring
	kept, unsent := 0, 0
	expected := r.oldest()
	for i := range r.segments {
		s := &r.segments[i]
		if s.cursor != expected || s.block == nil {
			t.Fatalf("segment %d is at %d, want %d", i, s.cursor, expected)
		}
		expected = s.end()
		if s.end() <= r.sent {
			kept += s.cost()
		} else {
			unsent += s.cost()
		}
	}
	if kept != r.keptCost || unsent != r.unsentCost || expected != int64(len(m.payload)) {
		t.Fatalf("kept %d (said %d), unsent %d (said %d), ends at %d of %d", kept, r.keptCost, unsent, r.unsentCost, expected, len(m.payload))
	}
}

func TestARingGivesEveryReaderWhatWasPutIn(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 7))
		shared := &budget{}
		// A crowd of rings makes the share small, so that the oldest output is dropped.
		shared.rings.Store(int64(1 + random.IntN(2)*4096))
		m := &ringModel{ring: newRing(shared)}
		cursors := make([]int64, 3)
		for range 400 {
			if random.IntN(3) > 0 {
				payload := make([]byte, 1+random.IntN(3000))
				for n := range payload {
					payload[n] = byte(random.Uint32())
				}
				m.add([]frames.Type{frames.Stdout, frames.Stderr}[random.IntN(2)], payload)
			}
			who := random.IntN(len(cursors))
			if random.IntN(10) == 0 {
				cursors[who] = random.Int64N(int64(len(m.payload)) + 1)
			}
			if cursors[who] < int64(len(m.payload)) {
				handed := random.IntN(4) > 0
				if next := m.read(t, cursors[who], handed); handed {
					cursors[who] = next
				}
			}
			m.check(t)
		}
		m.ring.letGo(m.last)
		m.ring.drop()
		for n, b := range m.blocks {
			if b.references != 0 {
				t.Fatalf("seed %d: block %d has %d references at the end", seed, n, b.references)
			}
		}
	}
}

func TestACursorWithinAFrameGetsItsRest(t *testing.T) {
	m := &ringModel{ring: newRing(&budget{})}
	m.add(frames.Stdout, []byte("abc"))
	m.add(frames.Stderr, []byte("def"))
	for cursor := range int64(6) {
		if end := m.read(t, cursor, true); end != 6 {
			t.Errorf("from %d the batch ends at %d", cursor, end)
		}
	}
	m.check(t)
}

func TestOutputInSingleBytesCountsWhatItOccupies(t *testing.T) {
	m := &ringModel{ring: newRing(&budget{})}
	for range 1000 {
		m.add(frames.Stdout, []byte{'x'})
	}
	if m.ring.unsentCost < 1000*(segmentCostBytes+1) {
		t.Errorf("1000 bytes cost %d", m.ring.unsentCost)
	}
}
