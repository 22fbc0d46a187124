// Package frames is the stream format of packages/protocol/src/wire/frames.ts:
//
//	u8 type · u32 big-endian payload length · payload
package frames

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Type says what a payload is.
type Type byte

// The types of packages/protocol/src/wire/frames.ts.
const (
	Input   Type = 0x00
	Stdout  Type = 0x01
	Stderr  Type = 0x02
	Stdin   Type = 0x03
	Data    Type = 0x04
	Event   Type = 0x10
	Result  Type = 0x11
	Error   Type = 0x12
	Control Type = 0x13
)

// HeaderBytes precede every payload.
const HeaderBytes = 5

// PayloadLimitBytes bounds a frame; senders split.
const PayloadLimitBytes = 4 * 1024 * 1024

// ContentType of a body of frames.
const ContentType = "application/vnd.pyro.frames"

// Bytes reports whether payloads of this type are a byte stream, which may be split and joined at will.
func (t Type) Bytes() bool {
	return t == Stdout || t == Stderr || t == Stdin || t == Data
}

func (t Type) known() bool {
	switch t {
	case Input, Stdout, Stderr, Stdin, Data, Event, Result, Error, Control:
		return true
	}
	return false
}

// ErrMalformed is what every violation of the format wraps.
var ErrMalformed = errors.New("malformed frames")

// PutHeader writes the header of a frame into the first HeaderBytes of to.
func PutHeader(to []byte, t Type, payloadBytes int) {
	to[0] = byte(t)
	binary.BigEndian.PutUint32(to[1:HeaderBytes], uint32(payloadBytes))
}

// Append appends one frame to to.
func Append(to []byte, t Type, payload []byte) []byte {
	var header [HeaderBytes]byte
	PutHeader(header[:], t, len(payload))
	return append(append(to, header[:]...), payload...)
}

// Write writes one frame in one call, splitting byte payloads that are too large.
func Write(w io.Writer, t Type, payload []byte) error {
	for len(payload) > PayloadLimitBytes {
		if !t.Bytes() {
			return fmt.Errorf("%w: a payload of %d bytes is beyond the limit", ErrMalformed, len(payload))
		}
		if _, err := w.Write(Append(nil, t, payload[:PayloadLimitBytes])); err != nil {
			return err
		}
		payload = payload[PayloadLimitBytes:]
	}
	_, err := w.Write(Append(make([]byte, 0, HeaderBytes+len(payload)), t, payload))
	return err
}

// WriteJSON writes value as one frame.
func WriteJSON(w io.Writer, t Type, value any) error {
	payload, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return Write(w, t, payload)
}

// Reader cuts a stream into frames.
type Reader struct {
	from   io.Reader
	buffer []byte
}

// NewReader reads frames from r, which should be buffered when frames are small.
func NewReader(r io.Reader) *Reader { return &Reader{from: r} }

// Next returns the next frame; its payload is valid until the next call. io.EOF only between frames; a stream cut inside
// one gives io.ErrUnexpectedEOF.
func (r *Reader) Next() (Type, []byte, error) {
	t, n, err := r.Header()
	if err != nil {
		return 0, nil, err
	}
	if cap(r.buffer) < n {
		r.buffer = make([]byte, n)
	}
	payload := r.buffer[:n]
	if _, err := io.ReadFull(r.from, payload); err != nil {
		return 0, nil, cut(err)
	}
	return t, payload, nil
}

// Header reads only the header; the caller reads exactly that many bytes from the underlying reader.
func (r *Reader) Header() (Type, int, error) {
	var header [HeaderBytes]byte
	if _, err := io.ReadFull(r.from, header[:]); err != nil {
		return 0, 0, err
	}
	t := Type(header[0])
	if !t.known() {
		return 0, 0, fmt.Errorf("%w: unknown type %d", ErrMalformed, header[0])
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n > PayloadLimitBytes {
		return 0, 0, fmt.Errorf("%w: a payload of %d bytes is beyond the limit", ErrMalformed, n)
	}
	return t, int(n), nil
}

// DataReader gives the payloads of data frames up to the empty one as one stream: io.EOF after it, io.ErrUnexpectedEOF
// when the stream ends before.
type DataReader struct {
	frames *Reader
	left   int
	done   bool
}

// NewDataReader reads from frames, which stands before a data frame.
func NewDataReader(frames *Reader) *DataReader { return &DataReader{frames: frames} }

func (d *DataReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for d.left == 0 {
		if d.done {
			return 0, io.EOF
		}
		t, n, err := d.frames.Header()
		if err != nil {
			return 0, cut(err)
		}
		if t != Data {
			return 0, fmt.Errorf("%w: type %d amid data", ErrMalformed, t)
		}
		d.left, d.done = n, n == 0
	}
	n, err := d.frames.from.Read(p[:min(len(p), d.left)])
	d.left -= n
	if n > 0 {
		return n, nil
	}
	return 0, cut(err)
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
