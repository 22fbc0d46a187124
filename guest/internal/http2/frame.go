package http2

import (
	"encoding/binary"
	"fmt"
)

// Frames as RFC 9113 lays them out: 3 bytes of length, type, flags, 4 bytes of stream (section 4.1).
const frameHeaderBytes = 9

type frameType byte

const (
	frameData         frameType = 0x0
	frameHeaders      frameType = 0x1
	framePriority     frameType = 0x2
	frameReset        frameType = 0x3
	frameSettings     frameType = 0x4
	framePushPromise  frameType = 0x5
	framePing         frameType = 0x6
	frameGoAway       frameType = 0x7
	frameWindowUpdate frameType = 0x8
	frameContinuation frameType = 0x9
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings that one side tells the other (section 6.5.2).
const (
	settingHeaderTableBytes  = 0x1
	settingConcurrentStreams = 0x3
	settingWindowBytes       = 0x4
	settingFrameBytes        = 0x5
	settingHeaderListBytes   = 0x6
)

const (
	// defaultWindowBytes is what may be sent before anything is granted (section 6.9.2).
	defaultWindowBytes = 65535
	// defaultFrameBytes is how long a frame may be before another limit is told (section 4.2).
	defaultFrameBytes = 16384
	// windowLimitBytes is the largest window there may be (section 6.9.1).
	windowLimitBytes = 1<<31 - 1
)

// errorCode says why a stream or a connection ends (section 7).
type errorCode uint32

const (
	codeNone            errorCode = 0x0
	codeProtocol        errorCode = 0x1
	codeInternal        errorCode = 0x2
	codeFlowControl     errorCode = 0x3
	codeStreamClosed    errorCode = 0x5
	codeFrameSize       errorCode = 0x6
	codeRefusedStream   errorCode = 0x7
	codeCompression     errorCode = 0x9
	codeEnhanceYourCalm errorCode = 0xb
)

// connectionError ends the connection.
type connectionError struct {
	code errorCode
	why  string
}

func (e connectionError) Error() string { return fmt.Sprintf("the engine broke HTTP/2: %s", e.why) }

func broken(code errorCode, format string, args ...any) error {
	return connectionError{code, fmt.Sprintf(format, args...)}
}

type frameHeader struct {
	length int
	kind   frameType
	flags  byte
	stream uint32
}

func parseFrameHeader(b []byte) frameHeader {
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   frameType(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1),
	}
}

func appendFrameHeader(to []byte, length int, kind frameType, flags byte, stream uint32) []byte {
	to = append(to, byte(length>>16), byte(length>>8), byte(length), byte(kind), flags)
	return binary.BigEndian.AppendUint32(to, stream)
}

func appendSettings(to []byte, settings ...[2]uint32) []byte {
	to = appendFrameHeader(to, 6*len(settings), frameSettings, 0, 0)
	for _, s := range settings {
		to = binary.BigEndian.AppendUint16(to, uint16(s[0]))
		to = binary.BigEndian.AppendUint32(to, s[1])
	}
	return to
}

func appendWindowUpdate(to []byte, stream uint32, bytes int) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(to, 4, frameWindowUpdate, 0, stream), uint32(bytes))
}

func appendReset(to []byte, stream uint32, code errorCode) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(to, 4, frameReset, 0, stream), uint32(code))
}

func appendGoAway(to []byte, last uint32, code errorCode) []byte {
	to = binary.BigEndian.AppendUint32(appendFrameHeader(to, 8, frameGoAway, 0, 0), last)
	return binary.BigEndian.AppendUint32(to, uint32(code))
}

// unpad gives what a padded frame carries (section 6.1).
func unpad(h frameHeader, payload []byte) ([]byte, error) {
	if h.flags&flagPadded == 0 {
		return payload, nil
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, broken(codeProtocol, "a frame is all padding")
	}
	return payload[1 : len(payload)-int(payload[0])], nil
}
