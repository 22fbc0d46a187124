package inspect

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"pyro.dev/agent/internal/volumes"
)

// clockTick is more than the grain of the times that filesystems write.
const clockTick = 20 * time.Millisecond

// Proof is what the host half knows of two volumes before anybody looks into them: what need not be compared.
type Proof struct {
	// SettledBefore is a moment, in nanoseconds; 0 when inode numbers and times of both sides have nothing to do with
	// each other. A file with the same number, size, modification and change time on both sides, changed before that
	// moment, is the same.
	//
	// Snapshots of btrfs keep numbers and times, and a subvolume never uses a number twice. Whatever was written after the
	// older of both was made got a later change time, for the kernel sets it to the present at every change, and nobody
	// inside a sandbox sets the clock (that takes a capability of the host's own user namespace). Times are coarse: what
	// changed in the tick before the snapshot may change once more in the same tick, so it is compared in full. Should
	// the host's clock be set back and hit the very nanosecond, a change that keeps the size stays unseen: no guest can
	// bring that about, and what is not seen is handed to nobody.
	SettledBefore int64 `json:"settledBefore"`
	// Narrow tells that Touched is known: inodes with other numbers are the same on both sides, and, of folders,
	// everything below. That rests on the filesystem's transactions alone, which a guest has no part in.
	Narrow bool `json:"narrow"`
	// Touched is a list of 64-bit numbers, least significant byte first.
	Touched []byte `json:"touched"`
}

// prove asks the filesystem. Without an answer everything is compared.
func prove(from, to string) Proof {
	kin, err := volumes.FindKinship(from, to)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare in full:", err)
	}
	if kin == nil {
		return Proof{}
	}
	proof := Proof{SettledBefore: kin.OlderMadeAt - int64(clockTick), Narrow: kin.IsNarrow}
	for _, number := range kin.Touched {
		proof.Touched = binary.LittleEndian.AppendUint64(proof.Touched, number)
	}
	return proof
}

// touched gives the numbers back; nil when they are not known.
func (p Proof) touched() map[uint64]bool {
	if !p.Narrow {
		return nil
	}
	touched := make(map[uint64]bool, len(p.Touched)/8)
	for rest := p.Touched; len(rest) >= 8; rest = rest[8:] {
		touched[binary.LittleEndian.Uint64(rest)] = true
	}
	return touched
}
