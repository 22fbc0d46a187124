package monitor

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// logBufferBytes is read of a sandbox at a time.
	logBufferBytes = 16 << 10
	// logDrainLimit is how long a message waits for what was said last.
	logDrainLimit = 500 * time.Millisecond
)

// boundedLog keeps the newest of what is written to it in a file.
type boundedLog struct {
	file        *os.File
	size, limit int64
	// drained is closed when nobody can write any more.
	drained chan struct{}
}

// pipeToLog gives the descriptor whose reader is the log.
func pipeToLog(path string, limit int64) (int, *boundedLog, error) {
	fd, err := open(path, unix.O_RDWR|unix.O_CREAT|unix.O_APPEND)
	if err != nil {
		return -1, nil, err
	}
	l := &boundedLog{file: os.NewFile(uintptr(fd), path), limit: limit, drained: make(chan struct{})}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		l.file.Close()
		return -1, nil, os.NewSyscallError("pipe2", err)
	}
	go l.fill(os.NewFile(uintptr(ends[0]), "log"))
	return ends[1], l, nil
}

func (l *boundedLog) fill(from *os.File) {
	defer close(l.drained)
	defer from.Close()
	buffer := make([]byte, logBufferBytes)
	for {
		n, err := from.Read(buffer)
		// What a full host does not take is lost: whoever writes must not wait for it.
		_ = l.write(buffer[:n])
		if err != nil {
			return
		}
	}
}

func (l *boundedLog) write(p []byte) error {
	n, err := l.file.Write(p)
	l.size += int64(n)
	if err != nil || l.size <= l.limit {
		return err
	}
	newest := make([]byte, l.limit/2)
	if _, err := l.file.ReadAt(newest, l.size-l.limit/2); err != nil && err != io.EOF {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	n, err = l.file.Write(newest)
	l.size = int64(n)
	return err
}

func (l *boundedLog) drain() {
	select {
	case <-l.drained:
	case <-time.After(logDrainLimit):
	}
}
