package machine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// enginePort is what the engine listens at (docs/guest-protocol.md, machines).
	enginePort = 1024
	// connectLimit is how long a connection may take. The VMM answers at once; an answer that a template was saved without
	// never comes.
	connectLimit = 250 * time.Millisecond
	// absentPause is how long a host on which nobody listens is left alone.
	absentPause = 5 * time.Millisecond
)

// hostSocket is a port of the host that a socket device leads to. Nobody listens there while a template is made: the VMM
// refuses each try, and nothing of it remains. The first connection that comes about is that of a machine which goes on.
type hostSocket struct{ port uint32 }

func (h *hostSocket) await() (net.Conn, error) {
	for {
		conn, err := h.dial()
		var refused *net.OpError
		if !errors.As(err, &refused) {
			return conn, err
		}
		time.Sleep(absentPause)
	}
}

func (h *hostSocket) dial() (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := h.connect(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return h.session(fd)
}

// session takes over a socket that is connected. What does not block can be given deadlines.
func (h *hostSocket) session(fd int) (net.Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &hostConn{os.NewFile(uintptr(fd), h.String()), h}, nil
}

func (h *hostSocket) connect(fd int) error {
	limit := unix.NsecToTimeval(connectLimit.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.AF_VSOCK, unix.SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(fd, h.address()); err != nil {
		return &net.OpError{Op: "dial", Net: h.Network(), Addr: h, Err: os.NewSyscallError("connect", err)}
	}
	return nil
}

func (h *hostSocket) address() *unix.SockaddrVM {
	return &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: h.port}
}

func (h *hostSocket) Network() string { return "vsock" }
func (h *hostSocket) String() string  { return fmt.Sprintf("host:%d", h.port) }

// hostConn is one session.
type hostConn struct {
	*os.File
	host *hostSocket
}

func (c *hostConn) LocalAddr() net.Addr  { return c.host }
func (c *hostConn) RemoteAddr() net.Addr { return c.host }
