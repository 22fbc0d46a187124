package machine

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/channel"
)

// disconnectedPause is how long a port without an engine is left alone, newPause how long one that never had any: a start
// waits for that.
const (
	disconnectedPause = 20 * time.Millisecond
	newPause          = 2 * time.Millisecond
)

// serialPort is a virtio serial port. It is no connection: whoever is at the other end comes and goes, what is written
// meanwhile is lost, and what is read may be the rest of what was meant for an earlier reader.
type serialPort struct{ path string }

func (p *serialPort) await() (net.Conn, error) { return p.session(newPause) }

func (p *serialPort) dial() (net.Conn, error) { return p.session(disconnectedPause) }

// session waits for an engine that begins one, for ever. What comes before its first line belongs to nobody.
func (p *serialPort) session(pause time.Duration) (net.Conn, error) {
	file, err := p.open()
	if err != nil {
		return nil, err
	}
	line, err := awaitResync(file, pause)
	if err != nil {
		file.Close()
		return nil, err
	}
	return &portConn{File: file, ahead: line}, nil
}

// open retries: a port exists before it can be opened, and one that was just closed may be busy for a moment.
func (p *serialPort) open() (*os.File, error) {
	for deadline := time.Now().Add(devicesLimit); ; time.Sleep(devicesPause) {
		file, err := os.OpenFile(p.path, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err == nil || time.Now().After(deadline) {
			return file, err
		}
	}
}

func awaitResync(from io.Reader, pause time.Duration) ([]byte, error) {
	var seen []byte
	buffer := make([]byte, 4096)
	for {
		// Never beyond the line: what follows belongs to the session.
		n, err := from.Read(buffer[:channel.ResyncWants(seen)])
		seen = append(seen, buffer[:n]...)
		if at := channel.FindResync(seen); at >= 0 {
			return bytes.Clone(seen[at:]), nil
		}
		seen = seen[max(0, len(seen)-channel.ResyncBytes+1):]
		switch {
		case errors.Is(err, io.EOF):
			time.Sleep(pause)
		case err != nil:
			return nil, err
		}
	}
}

// portConn is one session on a port.
type portConn struct {
	*os.File
	// ahead was read already.
	ahead []byte
}

func (c *portConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.File.Read(p)
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

type portAddress string

func (a portAddress) Network() string { return "virtio-port" }
func (a portAddress) String() string  { return string(a) }

func (c *portConn) LocalAddr() net.Addr  { return portAddress(c.Name()) }
func (c *portConn) RemoteAddr() net.Addr { return portAddress(c.Name()) }

// startingWith gives a connection that is there already, and then those that are dialled.
func startingWith(first net.Conn, dial func() (net.Conn, error)) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		if first == nil {
			return dial()
		}
		conn := first
		first = nil
		return conn, nil
	}
}
