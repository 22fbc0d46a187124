package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// held is what a hog got.
type held struct {
	Hog string `json:"hog"`
	// Count is how much of it, in the unit of the resource.
	Count int `json:"count"`
	// End says why there was no more; null when the limit was reached that was asked for.
	End *string `json:"end"`
}

// hogs take a resource until it is refused, or until limit when that is not 0.
var hogs = map[string]func(limit int) (count int, end error){
	"inotify": counted(func(int) error { return descriptor(unix.InotifyInit1(unix.IN_CLOEXEC)) }),
	"watches": watches,
	"fanotify": counted(func(int) error {
		return descriptor(unix.FanotifyInit(unix.FAN_CLASS_NOTIF|fanReportFid, unix.O_RDONLY))
	}),
	"files": counted(func(int) error { return descriptor(unix.Dup(0)) }),
	"opened": counted(func(int) error {
		return descriptor(unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
	}),
	"requests": asyncRequests,
	"epoll":    epollWatches,
	"pipes":    pipes,
	"ptys": counted(func(int) error {
		return descriptor(unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0))
	}),
	"queues":      counted(messageQueue),
	"signals":     pendingSignals,
	"timers":      counted(timer),
	"segments":    segments,
	"semaphores":  semaphores,
	"locked":      lockedSegments,
	"memory":      memory,
	"processes":   processes,
	"descriptors": inFlight,
	"locks":       fileLocks,
}

func take(name, argument string) {
	limit, err := strconv.Atoi(argument)
	if err != nil {
		fail(err)
	}
	count, end := hogs[name](limit)
	result := held{Hog: name, Count: count}
	if end != nil {
		text := end.Error()
		result.End = &text
	}
	say(result)
}

// giveBack undoes what outlives the process.
var giveBack []func()

// counted takes one more until it is refused.
func counted(take func(index int) error) func(limit int) (int, error) {
	return func(limit int) (int, error) {
		for count := 0; ; count++ {
			if limit > 0 && count == limit {
				return count, nil
			}
			if err := take(count); err != nil {
				return count, err
			}
		}
	}
}

func descriptor(_ int, err error) error { return err }

// fanReportFid is what a group without rights must ask for.
const fanReportFid = 0x200

func watches(limit int) (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return 0, err
	}
	folder, err := os.MkdirTemp("", "probe-watches-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	return counted(func(index int) error {
		path := filepath.Join(folder, strconv.Itoa(index))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		_, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY)
		return err
	})(limit)
}

// epollWatches puts every descriptor it can have into every epoll it can have.
func epollWatches(limit int) (int, error) {
	const targets = 4000
	files := make([]int, 0, targets)
	for range targets {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			break
		}
		files = append(files, fd)
	}
	total := 0
	for {
		epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return total, err
		}
		for _, fd := range files {
			if limit > 0 && total == limit {
				return total, nil
			}
			if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
				return total, err
			}
			total++
		}
	}
}

// pipes counts the pipes that are as large as usual.
func pipes(limit int) (int, error) {
	const usual = 64 << 10
	return counted(func(int) error {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		size, err := unix.FcntlInt(uintptr(ends[0]), unix.F_GETPIPE_SZ, 0)
		if err == nil && size < usual {
			return fmt.Errorf("a pipe of %d bytes", size)
		}
		return err
	})(limit)
}

// asyncRequests takes contexts of asynchronous input and output, of which all users have so many requests together.
func asyncRequests(limit int) (int, error) {
	const perContext = 1000
	return counted(func(int) error {
		var context uintptr
		_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, perContext, uintptr(unsafe.Pointer(&context)), 0)
		return call("io_setup", errno)
	})(limit)
}

func messageQueue(index int) error {
	name, err := unix.BytePtrFromString(fmt.Sprintf("probe-%d-%d", os.Getpid(), index))
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
	if errno == 0 {
		// The queue goes with its last descriptor.
		_, _, errno = unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name)), 0, 0)
	}
	return call("message queue", errno)
}

// pendingSignals queues a blocked signal to itself.
func pendingSignals(limit int) (int, error) {
	const signal = 40
	runtime.LockOSThread()
	set := unix.Sigset_t{Val: [16]uint64{1 << (signal - 1)}}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		return 0, err
	}
	return counted(func(int) error {
		return queue(unix.SYS_RT_TGSIGQUEUEINFO, []uintptr{uintptr(unix.Getpid()), uintptr(unix.Gettid())}, signal)
	})(limit)
}

func timer(int) error {
	var id int32
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, 0, uintptr(unsafe.Pointer(&id)))
	return call("timer_create", errno)
}

func segment(size int) (int, error) {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, size, unix.IPC_CREAT|0o600)
	if err == nil {
		giveBack = append(giveBack, func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	}
	return id, err
}

// segments fills memory that outlives its process, a MiB each.
func segments(limit int) (int, error) {
	return counted(func(int) error {
		id, err := segment(1 << 20)
		if err != nil {
			return err
		}
		memory, err := unix.SysvShmAttach(id, 0, 0)
		if err != nil {
			return err
		}
		touch(memory)
		return unix.SysvShmDetach(memory)
	})(limit)
}

func semaphores(limit int) (int, error) {
	return counted(func(int) error {
		id, _, errno := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 1, unix.IPC_CREAT|0o600)
		if errno == 0 {
			giveBack = append(giveBack, func() { _, _, _ = unix.Syscall(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID) })
		}
		return call("semget", errno)
	})(limit)
}

// lockedSegments counts pages that may not be swapped out, by the user's account.
func lockedSegments(limit int) (int, error) {
	return counted(func(int) error {
		id, err := segment(64 << 10)
		if err != nil {
			return err
		}
		const lock = 11
		_, err = unix.SysvShmCtl(id, lock, nil)
		return err
	})(limit)
}

// memory takes ordinary memory, a MiB each.
func memory(limit int) (int, error) {
	var taken [][]byte
	return counted(func(int) error {
		block := make([]byte, 1<<20)
		touch(block)
		taken = append(taken, block)
		return nil
	})(limit)
}

func touch(block []byte) {
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
}

// processes starts children that wait as it does.
func processes(limit int) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	return counted(func(int) error {
		_, err := syscall.ForkExec(self, []string{self, "hog", "files", "1"}, &syscall.ProcAttr{Files: []uintptr{0, 2, 2}})
		return err
	})(limit)
}

// inFlight sends descriptors that nobody receives, many in each message. The sockets sit in themselves, and live on when they are
// closed. Linux looks for such cycles at each close, in a time that grows faster than what is in flight: a pair takes all it holds.
func inFlight(limit int) (int, error) {
	const perMessage = 100
	var pair [2]int
	var rights []byte
	full := true
	return counted(func(int) error {
		for {
			if full {
				var err error
				if pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
					return err
				}
				rights = unix.UnixRights(slices.Repeat(pair[:1], perMessage)...)
			}
			err := unix.Sendmsg(pair[1], []byte{0}, rights, nil, 0)
			if full = err == unix.EAGAIN; !full {
				return err
			}
		}
	})(limit)
}

func fileLocks(limit int) (int, error) {
	file, err := os.CreateTemp("", "probe-locks-")
	if err != nil {
		return 0, err
	}
	return counted(func(index int) error {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(index) * 2, Len: 1}
		return unix.FcntlFlock(file.Fd(), unix.F_SETLK, &lock)
	})(limit)
}
