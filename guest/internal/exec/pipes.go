package exec

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipes are the pipes of one command. The ends of the command block, ours do not.
type pipes struct {
	// stdin is nil when the command reads /dev/null.
	stdin, stdout, stderr *os.File
	// theirs are descriptors 0, 1 and 2 of the command.
	theirs [3]int
}

// makePipes leaves nothing open when it fails. null is used as stdin unless one is wanted, and stays open.
func makePipes(withStdin bool, null int) (*pipes, error) {
	p := &pipes{theirs: [3]int{null, -1, -1}}
	var err error
	if withStdin {
		p.stdin, p.theirs[0], err = pipeFrom(false)
	}
	if err == nil {
		p.stdout, p.theirs[1], err = pipeFrom(true)
	}
	if err == nil {
		p.stderr, p.theirs[2], err = pipeFrom(true)
	}
	if err != nil {
		p.closeTheirs(null)
		p.closeOurs()
		return nil, err
	}
	return p, nil
}

func (p *pipes) closeTheirs(null int) {
	for _, fd := range p.theirs {
		if fd >= 0 && fd != null {
			unix.Close(fd)
		}
	}
}

func (p *pipes) closeOurs() {
	for _, file := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if file != nil {
			file.Close()
		}
	}
}

// pipeFrom makes a pipe of which we keep one end.
func pipeFrom(weRead bool) (ours *os.File, theirs int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, os.NewSyscallError("pipe2", err)
	}
	mine, other := ends[0], ends[1]
	if !weRead {
		mine, other = other, mine
	}
	// Nothing else is set on it, so that nothing has to be asked for first.
	if _, err := unix.FcntlInt(uintptr(mine), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		unix.Close(mine)
		unix.Close(other)
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(mine), "pipe"), other, nil
}
