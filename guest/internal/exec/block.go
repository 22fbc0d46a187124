package exec

import (
	"sync"
	"sync/atomic"

	"pyro.dev/agent/internal/frames"
)

const (
	// Blocks grow with the output of a pipe. The largest holds four reads of a default pipe (64 KiB) with their headers.
	smallBlockBytes  = 4 << 10
	mediumBlockBytes = 32 << 10
	largeBlockBytes  = 256<<10 + 4*frames.HeaderBytes
	// roomBytes is the least room for which a block is read into once more.
	roomBytes = 1 << 10
	// spareBlocks are large blocks kept for the next reader.
	spareBlocks = 16
	// ringsLimitBytes bounds the output of all commands together (each of kept and unsent), shareFloorBytes the least
	// that one command may have.
	ringsLimitBytes = 64 << 20
	shareFloorBytes = 128 << 10
)

// block is memory that pipes are read into. Its references (segments, batches, the pipe's reader) are counted under the
// lock of the one ring it belongs to.
type block struct {
	buffer     []byte
	used       int
	references int
}

var spare struct {
	mu     sync.Mutex
	blocks []*block
}

// nextBlock makes the block after one of the given size.
func nextBlock(before int) *block {
	switch {
	case before == 0:
		return &block{buffer: make([]byte, smallBlockBytes)}
	case before < mediumBlockBytes:
		return &block{buffer: make([]byte, mediumBlockBytes)}
	}
	spare.mu.Lock()
	defer spare.mu.Unlock()
	if last := len(spare.blocks) - 1; last >= 0 {
		b := spare.blocks[last]
		spare.blocks[last] = nil
		spare.blocks = spare.blocks[:last]
		return b
	}
	return &block{buffer: make([]byte, largeBlockBytes)}
}

func recycle(b *block) {
	if len(b.buffer) != largeBlockBytes {
		return
	}
	spare.mu.Lock()
	defer spare.mu.Unlock()
	if len(spare.blocks) < spareBlocks {
		b.used = 0
		spare.blocks = append(spare.blocks, b)
	}
}

// budget shares the memory for output among all commands.
type budget struct{ rings atomic.Int64 }

func (b *budget) share() int {
	return max(shareFloorBytes, ringsLimitBytes/int(max(1, b.rings.Load())))
}
