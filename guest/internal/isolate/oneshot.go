package isolate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/message"
)

// ErrEnded is met when the inside started and was killed: it may have answered in part.
var ErrEnded = errors.New("the sandbox ended before it answered")

// stdinPipeBytes makes a feeding engine and a writing helper wait less for each other.
const stdinPipeBytes = 1 << 20

// ReadInput reads the first frame of stdin, and not a byte more: the rest is for the inside.
func ReadInput(into any) error {
	kind, payload, err := frames.NewReader(os.Stdin).Next()
	if err != nil {
		return message.Errorf(message.KindInvalid, "read the input frame: %v", err)
	}
	if kind != frames.Input {
		return message.Errorf(message.KindInvalid, "the first frame is of type %d, not input", kind)
	}
	return DecodeInput(payload, into)
}

// Host runs the host half of a one-shot role: it answers with an error frame unless the inside may have answered.
// It dies with the engine that started it: the next one clears up what this one would still write to.
func Host(spec Spec) int {
	// The signal is this thread's, which therefore stays.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return Fail(fmt.Errorf("ask to die with the engine: %w", err))
	}
	spec.Stdin, spec.Stdout, spec.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Only pipes have a size; files need none.
	if _, err := unix.FcntlInt(os.Stdin.Fd(), unix.F_SETPIPE_SZ, stdinPipeBytes); err != nil && err != unix.EBADF && err != unix.EPERM {
		return Fail(fmt.Errorf("enlarge stdin: %w", err))
	}
	code, err := Run(spec)
	if errors.Is(err, ErrEnded) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err != nil {
		return Fail(err)
	}
	return code
}

// Fail answers with an error frame.
func Fail(err error) int {
	if sent := frames.WriteJSON(os.Stdout, frames.Error, asMessage(err)); sent != nil {
		fmt.Fprintln(os.Stderr, "answer:", sent, "after:", err)
	}
	return 1
}

// Succeed answers with a result frame.
func Succeed(result any) int {
	if err := frames.WriteJSON(os.Stdout, frames.Result, result); err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
		return 1
	}
	return 0
}

// Report sends a progress event; a reader that is gone shows at the result.
func Report(progress message.Progress) {
	if err := frames.WriteJSON(os.Stdout, frames.Event, progress); err != nil {
		fmt.Fprintln(os.Stderr, "progress:", err)
	}
}

// Data is the stream of data frames on stdin.
func Data() io.Reader {
	return frames.NewDataReader(frames.NewReader(bufio.NewReaderSize(os.Stdin, 256<<10)))
}

func asMessage(err error) *message.Error {
	var sent *message.Error
	if errors.As(err, &sent) {
		return sent
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return message.Errorf(message.KindNoSpace, "%v", err)
	case errors.Is(err, unix.ENOENT):
		return message.Errorf(message.KindNotFound, "%v", err)
	}
	return message.Errorf(message.KindFailed, "%v", err)
}
