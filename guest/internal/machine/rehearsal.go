package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/prefork"
)

// rehearsal begins and ends a program that does nothing, on one processor while the other mounts the disk. Where code is translated,
// the first time that it runs takes many times longer than the next: so does the first command otherwise.
type rehearsal struct {
	// nothing is the program, in memory.
	nothing *os.File
	null    int
	cgroup  int
}

// sampleConfig has what a config may have.
const sampleConfig = `{"agent":{},"entropy":"","limits":{},"root":{},"inspect":[{}]}`

// newRehearsal is for the half before the memory is saved. In that a config is decoded, too: package json looks through a type once.
func newRehearsal(commands *commandGroup) (*rehearsal, error) {
	var config Config
	if err := message.Decode(bytes.NewReader([]byte(sampleConfig)), configLimitBytes, &config); err != nil {
		return nil, err
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	fd, err := unix.MemfdCreate("nothing", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	nothing := os.NewFile(uintptr(fd), "nothing")
	if _, err := nothing.Write(program(endsAtOnce)); err != nil {
		return nil, err
	}
	return &rehearsal{nothing: nothing, null: null, cgroup: commands.fd}, nil
}

// over is called when nothing is rehearsed.
func (r *rehearsal) over() {
	unix.Close(r.null)
	r.nothing.Close()
}

// exec is done once. What fails here will fail where somebody waits for it.
func (r *rehearsal) exec() error {
	defer r.over()
	process, err := prefork.Start(r.cgroup, [3]int{r.null, r.null, r.null})
	if err != nil {
		return err
	}
	err = process.Become(&prefork.Program{
		Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.nothing.Fd()), Argv: []string{"nothing"}, Dir: "/",
	})
	if errors.Is(err, prefork.ErrStuck) {
		_ = unix.Kill(process.Pid, unix.SIGKILL)
	}
	for {
		// Whoever collects all children may have been first.
		if _, failed := unix.Wait4(process.Pid, nil, 0, nil); failed != unix.EINTR {
			break
		}
	}
	process.Left()
	return err
}

// program is an executable file with one segment, and in that nothing but code (elf(5)).
func program(code []byte) []byte {
	const (
		base        = 0x400000
		headerBytes = 64
		entryBytes  = 56
		executable  = 2
		version     = 1
		load        = 1
		readExecute = 5
		pageBytes   = 4096
	)
	start := uint64(headerBytes + entryBytes)
	size := start + uint64(len(code))
	little := binary.LittleEndian
	file := []byte{0x7f, 'E', 'L', 'F', 2 /* 64 bit */, 1 /* little endian */, version, 15: 0}
	for _, half := range []uint16{executable, elfMachine} {
		file = little.AppendUint16(file, half)
	}
	file = little.AppendUint32(file, version)
	for _, word := range []uint64{base + start, headerBytes, 0} {
		file = little.AppendUint64(file, word)
	}
	file = little.AppendUint32(file, 0)
	for _, half := range []uint16{headerBytes, entryBytes, 1, 0, 0, 0} {
		file = little.AppendUint16(file, half)
	}
	for _, half := range []uint32{load, readExecute} {
		file = little.AppendUint32(file, half)
	}
	for _, word := range []uint64{0, base, base, size, size, pageBytes} {
		file = little.AppendUint64(file, word)
	}
	return append(file, code...)
}
