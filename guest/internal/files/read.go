package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

const (
	// FileLimitBytes bounds what one read returns and what one write makes.
	FileLimitBytes = 16 << 20
	scanBytes      = 256 << 10
)

// scanLimitBytes is how far a read by lines looks for its first line and for the end of the file; tests lower it.
var scanLimitBytes int64 = 1 << 30

// Read returns a window of a regular file: by lines when the request names any, else by bytes.
func Read(cx context.Context, request *message.ReadFile) (*message.ReadFileResult, error) {
	if request.Offset < 0 || request.MaxBytes < 1 || atLeastOne(request.StartLine) != nil || atLeastOne(request.MaxLines) != nil {
		return nil, message.Errorf(message.KindInvalid, "startLine, maxLines and maxBytes must be positive and offset not negative")
	}
	w, err := begin(request.Root, request.Path, false)
	if err != nil {
		return nil, err
	}
	defer w.end()
	file, stat, err := w.open()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content := &message.ReadFileResult{SizeBytes: stat.Size, Mode: octal(stat.Mode)}
	maxBytes := int(min(request.MaxBytes, FileLimitBytes))
	if request.StartLine == nil && request.MaxLines == nil {
		err = readBytes(content, file, request.Offset, maxBytes)
	} else {
		err = readLines(cx, content, file, request, maxBytes)
	}
	if errors.Is(err, unix.EAGAIN) {
		return nil, message.Errorf(message.KindNotAFile, "%q has nothing to read now and would wait", w.path)
	}
	if err != nil {
		return nil, w.explain(err)
	}
	return content, nil
}

func atLeastOne(value *int64) error {
	if value != nil && *value < 1 {
		return fmt.Errorf("%d is not positive", *value)
	}
	return nil
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }

// open opens the file at the end of the walk. Nothing but a regular file is ever opened: opening a FIFO or a device may
// block or have effects.
func (w *walk) open() (regular, unix.Stat_t, error) {
	name, stat, exists, err := w.file()
	if err != nil {
		return -1, stat, err
	}
	if !exists {
		return -1, stat, w.explain(unix.ENOENT)
	}
	return w.openFile(name)
}

func (w *walk) openFile(name string) (regular, unix.Stat_t, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(w.folder(), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, stat, w.explain(err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, stat, w.notAFile(stat.Mode)
	}
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := openat(w.folder(), name, flags, 0)
	if err != nil {
		return -1, stat, w.explain(err)
	}
	// Another file may stand there by now.
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		if err == nil {
			err = w.notAFile(stat.Mode)
		}
		return -1, stat, w.explain(err)
	}
	return regular(fd), stat, nil
}

// regular is the descriptor of an open file. Unlike os.File it never waits in the poller: files of /proc may have nothing
// to read.
type regular int

func (r regular) Close() error { return unix.Close(int(r)) }

func (r regular) ReadAt(into []byte, offset int64) (int, error) {
	total := 0
	for total < len(into) {
		n, err := unix.Pread(int(r), into[total:], offset+int64(total))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return total, err
		case n == 0:
			return total, io.EOF
		default:
			total += n
		}
	}
	return total, nil
}

func openat(folder int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(folder, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func readBytes(c *message.ReadFileResult, file io.ReaderAt, offset int64, maxBytes int) error {
	data := make([]byte, min(int64(maxBytes), max(c.SizeBytes-offset, scanBytes))+1)
	n, err := readAt(file, data, offset)
	if err != nil {
		return err
	}
	c.Offset = offset
	c.More = n > maxBytes || n == len(data)
	c.DataBase64 = data[:min(n, maxBytes)]
	return nil
}

// readAt fills data as far as the file goes.
func readAt(file io.ReaderAt, data []byte, offset int64) (int, error) {
	n, err := file.ReadAt(data, offset)
	if errors.Is(err, io.EOF) {
		return n, nil
	}
	return n, err
}

// readLines takes whole lines, as many as asked for and as fit; a first line that does not fit is cut.
func readLines(cx context.Context, c *message.ReadFileResult, file io.ReaderAt, request *message.ReadFile, maxBytes int) error {
	window := lineWindow{start: 1, left: -1, maxBytes: maxBytes, line: 1}
	if request.StartLine != nil {
		window.start = *request.StartLine
	}
	if request.MaxLines != nil {
		window.left = *request.MaxLines
	}
	ended, err := window.scan(cx, file)
	if err != nil {
		return err
	}
	if !window.begun && !ended {
		return message.Errorf(message.KindLimit, "line %d lies behind the first %d bytes: read it by offset", window.start, scanLimitBytes)
	}
	c.StartLine, c.Lines = &window.start, &window.taken
	c.Offset, c.DataBase64 = window.offset, window.data
	c.More = window.offset+int64(len(window.data)) < window.position
	if ended {
		total := window.total()
		c.TotalLines = &total
	} else {
		c.More = true
	}
	return nil
}

// lineWindow is the state of one pass over a file.
type lineWindow struct {
	start    int64
	left     int64
	maxBytes int

	// position is how far the file was read, line the number of the line there.
	position int64
	line     int64
	lastByte byte

	begun, closed bool
	offset        int64
	data          []byte
	taken         int64
}

// scan reports whether the end of the file was reached.
func (w *lineWindow) scan(cx context.Context, file io.ReaderAt) (bool, error) {
	buffer := make([]byte, scanBytes)
	for w.position < scanLimitBytes {
		if err := cx.Err(); err != nil {
			return false, err
		}
		n, err := readAt(file, buffer, w.position)
		if err != nil {
			return false, err
		}
		if n == 0 {
			w.finish()
			return true, nil
		}
		w.feed(buffer[:n])
	}
	if w.begun {
		w.finish()
	}
	return false, nil
}

func (w *lineWindow) feed(chunk []byte) {
	w.lastByte = chunk[len(chunk)-1]
	for len(chunk) > 0 && !w.begun {
		if w.line == w.start {
			w.begun, w.offset = true, w.position
			break
		}
		end := bytes.IndexByte(chunk, '\n') + 1
		if end == 0 {
			w.position += int64(len(chunk))
			return
		}
		w.line++
		w.position += int64(end)
		chunk = chunk[end:]
	}
	if !w.closed {
		w.take(chunk)
	}
	w.line += int64(bytes.Count(chunk, newline))
	w.position += int64(len(chunk))
}

var newline = []byte{'\n'}

// take adds what belongs to the window.
func (w *lineWindow) take(chunk []byte) {
	for len(chunk) > 0 {
		end := bytes.IndexByte(chunk, '\n') + 1
		part := chunk
		if end > 0 {
			part = chunk[:end]
		}
		if len(w.data)+len(part) > w.maxBytes {
			w.cut(part)
			return
		}
		w.data = append(w.data, part...)
		chunk = chunk[len(part):]
		if end == 0 {
			return
		}
		if w.taken++; w.taken == w.left {
			w.closed = true
			return
		}
	}
}

// cut closes a window that is full: at the end of its last whole line, or within its only one.
func (w *lineWindow) cut(part []byte) {
	w.closed = true
	if w.taken > 0 {
		w.data = w.data[:bytes.LastIndexByte(w.data, '\n')+1]
		return
	}
	w.data = append(w.data, part[:w.maxBytes-len(w.data)]...)
	w.taken = 1
}

// finish counts a last line without its newline.
func (w *lineWindow) finish() {
	if !w.begun {
		w.offset = w.position
	}
	if !w.closed && len(w.data) > 0 && w.data[len(w.data)-1] != '\n' {
		w.taken++
	}
	w.closed = true
}

// total is the number of lines once the end was reached.
func (w *lineWindow) total() int64 {
	if w.position > 0 && w.lastByte != '\n' {
		return w.line
	}
	return w.line - 1
}
