package volumes

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	loopControl = "/dev/loop-control"
	// loopAttachTries bounds the race for a free device against other users of the host.
	loopAttachTries = 32
	loopBlockBytes  = 4096
	// loopNodeWait is how long the node of a device just made may take to appear.
	loopNodeWait = 2 * time.Second
)

// loopTable keeps devices open from attach to mount: with autoclear a device vanishes at its last close.
type loopTable struct {
	mu   sync.Mutex
	held map[string]int
}

func newLoopTable() *loopTable { return &loopTable{held: map[string]int{}} }

func (t *loopTable) hold(device string, fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, found := t.held[device]; found {
		unix.Close(old)
	}
	t.held[device] = fd
}

func (t *loopTable) release(device string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fd, found := t.held[device]; found {
		unix.Close(fd)
		delete(t.held, device)
	}
}

// fileKey tells one file from every other.
type fileKey struct{ device, inode uint64 }

func keyOf(path string) (fileKey, unix.Stat_t, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return fileKey{}, stat, failure("stat", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return fileKey{}, stat, invalid(path + " is not a regular file")
	}
	return fileKey{stat.Dev, stat.Ino}, stat, nil
}

type attachInput struct {
	header
	Path     string `json:"path"`
	DirectIo bool   `json:"directIo"`
}

func (in attachInput) check() error { return checkPath("path", in.Path) }

type attachResult struct {
	Device   string `json:"device"`
	DirectIo bool   `json:"directIo"`
	Reused   bool   `json:"reused"`
}

func loopAttach(_ context.Context, s *server, in *attachInput) (attachResult, error) {
	key, _, err := keyOf(in.Path)
	if err != nil {
		return attachResult{}, err
	}
	for _, device := range loopDevices() {
		fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		// Asked after the open: from then on the device cannot be cleared under us.
		info, err := unix.IoctlLoopGetStatus64(fd)
		if err != nil || (fileKey{info.Device, info.Inode}) != key {
			unix.Close(fd)
			continue
		}
		s.loops.hold(device, fd)
		return attachResult{Device: device, DirectIo: info.Flags&unix.LO_FLAGS_DIRECT_IO != 0, Reused: true}, nil
	}
	backing, err := unix.Open(in.Path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return attachResult{}, failure("open", in.Path, err)
	}
	defer unix.Close(backing)
	device, fd, err := configureLoop(backing, in.Path, in.DirectIo)
	if err != nil {
		return attachResult{}, err
	}
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		unix.Close(fd)
		return attachResult{}, failure("look at", device, err)
	}
	s.loops.hold(device, fd)
	return attachResult{Device: device, DirectIo: info.Flags&unix.LO_FLAGS_DIRECT_IO != 0}, nil
}

func configureLoop(backing int, path string, direct bool) (string, int, error) {
	control, err := unix.Open(loopControl, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", -1, unsupported("this host offers no loop devices: open " + loopControl + ": " + err.Error())
	}
	defer unix.Close(control)
	config := unix.LoopConfig{Fd: uint32(backing), Size: loopBlockBytes}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	if direct {
		config.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], path)
	for range loopAttachTries {
		number, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", -1, failure("ask for a free loop device of", loopControl, err)
		}
		device := fmt.Sprintf("/dev/loop%d", number)
		fd, err := openNode(device)
		if err != nil {
			return "", -1, unsupported("open " + device + ": " + err.Error())
		}
		err = unix.IoctlLoopConfigure(fd, &config)
		if err == unix.EINVAL && config.Info.Flags&unix.LO_FLAGS_DIRECT_IO != 0 {
			config.Info.Flags &^= unix.LO_FLAGS_DIRECT_IO
			err = unix.IoctlLoopConfigure(fd, &config)
		}
		if err == unix.EINVAL && config.Size != 0 {
			config.Size = 0
			err = unix.IoctlLoopConfigure(fd, &config)
		}
		if err == nil {
			return device, fd, nil
		}
		unix.Close(fd)
		if err != unix.EBUSY {
			return "", -1, failure("attach "+path+" to", device, err)
		}
	}
	return "", -1, &opError{Code: codeBusy, Message: "no loop device stayed free long enough"}
}

// openNode opens a device node that the kernel may be about to make.
func openNode(device string) (int, error) {
	deadline := time.Now().Add(loopNodeWait)
	for {
		fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != unix.ENOENT || time.Now().After(deadline) {
			return fd, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// loopDevices lists the devices that have a backing file now.
func loopDevices() []string {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil
	}
	var devices []string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "loop") {
			continue
		}
		if _, err := os.Stat("/sys/block/" + entry.Name() + "/loop/backing_file"); err == nil {
			devices = append(devices, "/dev/"+entry.Name())
		}
	}
	return devices
}

type devicesResult struct {
	Devices []string `json:"devices"`
}

func loopFind(_ context.Context, _ *server, in *pathInput) (devicesResult, error) {
	key, _, err := keyOf(in.Path)
	if err != nil {
		return devicesResult{}, err
	}
	found := devicesResult{Devices: []string{}}
	for _, device := range loopDevices() {
		fd, err := openLoopOf(device, key)
		if err != nil {
			continue
		}
		unix.Close(fd)
		found.Devices = append(found.Devices, device)
	}
	return found, nil
}

// openLoopOf opens a device and proves that it stands on exactly that file.
func openLoopOf(device string, key fileKey) (int, error) {
	if !strings.HasPrefix(device, "/dev/loop") {
		return -1, invalid("not a loop device: " + device)
	}
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, failure("open", device, err)
	}
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		unix.Close(fd)
		if err == unix.ENXIO {
			return -1, notFound(device + " is not attached")
		}
		return -1, failure("look at", device, err)
	}
	if (fileKey{info.Device, info.Inode}) != key {
		unix.Close(fd)
		return -1, mismatch(device + " stands on another file")
	}
	return fd, nil
}

type deviceInput struct {
	header
	Device string `json:"device"`
	Path   string `json:"path"`
}

func (in deviceInput) check() error {
	if err := checkPath("device", in.Device); err != nil {
		return err
	}
	return checkPath("path", in.Path)
}

type sizeResult struct {
	SizeBytes uint64 `json:"sizeBytes"`
}

func loopResize(_ context.Context, _ *server, in *deviceInput) (sizeResult, error) {
	key, stat, err := keyOf(in.Path)
	if err != nil {
		return sizeResult{}, err
	}
	fd, err := openLoopOf(in.Device, key)
	if err != nil {
		return sizeResult{}, err
	}
	defer unix.Close(fd)
	err = unix.IoctlSetInt(fd, unix.LOOP_SET_CAPACITY, 0)
	return sizeResult{SizeBytes: uint64(stat.Size)}, failure("resize", in.Device, err)
}

func loopDetach(_ context.Context, s *server, in *deviceInput) (empty, error) {
	key, _, err := keyOf(in.Path)
	if err != nil {
		return empty{}, err
	}
	fd, err := openLoopOf(in.Device, key)
	if err != nil {
		return empty{}, err
	}
	defer unix.Close(fd)
	s.loops.release(in.Device)
	err = unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
	if err == unix.ENXIO {
		err = nil
	}
	return empty{}, failure("detach", in.Device, err)
}
