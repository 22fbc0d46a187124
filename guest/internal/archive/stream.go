// Package archive extracts tar streams written by somebody who is not trusted: every name is checked before it touches
// the disk, every step is taken from an open folder without following symlinks, and every limit is a typed error.
package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"pyro.dev/agent/internal/message"
)

const (
	// readBufferBytes is read ahead of the tar.
	readBufferBytes = 512 << 10
	// zstdWindowBytes bounds what a zstd frame may make us keep.
	zstdWindowBytes = 128 << 20
	blockBytes      = 512
	// trailerLimitBytes bounds the padding after the end of the tar.
	trailerLimitBytes = 64 << 20
)

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// Decompress tells plain, gzip and zstd apart by the first bytes.
func Decompress(from io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(from, readBufferBytes)
	magic, err := buffered.Peek(len(zstdMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		return unzipped, nil
	case bytes.Equal(magic, zstdMagic):
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindowBytes))
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}

// Reader reads the entries of one tar, whole or not at all: a tar without its end is an error.
type Reader struct {
	*tar.Reader
	from   io.ReadCloser
	blocks *blockReader
}

// NewReader begins a tar that may be compressed.
func NewReader(from io.Reader) (*Reader, error) {
	plain, err := Decompress(from)
	if err != nil {
		return nil, Damaged("", err)
	}
	return plainReader(plain), nil
}

// plainReader begins a tar that is not compressed, or not any more.
func plainReader(plain io.ReadCloser) *Reader {
	blocks := &blockReader{from: bufio.NewReaderSize(plain, readBufferBytes)}
	return &Reader{Reader: tar.NewReader(blocks), from: plain, blocks: blocks}
}

// Close frees the decompressor.
func (r *Reader) Close() { r.from.Close() }

// Next returns the next header, io.EOF only after the end marker and whatever padding follows it.
func (r *Reader) Next() (*tar.Header, error) {
	header, err := r.Reader.Next()
	if err == nil || errors.Is(err, tar.ErrInsecurePath) {
		return header, nil
	}
	if !errors.Is(err, io.EOF) {
		return nil, Damaged("", err)
	}
	if !r.blocks.endMarker() {
		return nil, message.Errorf(message.KindTruncated, "the archive ends without its end marker")
	}
	// Checksums of a compressed stream stand at its very end.
	n, err := io.Copy(io.Discard, io.LimitReader(r.blocks, trailerLimitBytes+1))
	if err != nil {
		return nil, Damaged("", err)
	}
	if n > trailerLimitBytes {
		return nil, message.Errorf(message.KindTooLarge, "more than %d bytes follow the end of the archive", trailerLimitBytes)
	}
	return nil, io.EOF
}

// Damaged is the error of a stream that cannot be read on. Errors of our own stay what they are.
func Damaged(name string, err error) error {
	var own *message.Error
	if errors.As(err, &own) {
		return err
	}
	if name == "" {
		return message.Errorf(message.KindTruncated, "the archive is cut off or damaged: %v", err)
	}
	return refuse(message.KindTruncated, name, "the archive is cut off or damaged at %s: %v", err)
}

// blockReader remembers whether the last full block it handed out was zeros: how a tar ends.
type blockReader struct {
	from  io.Reader
	total int64
	// zeros counts the zero bytes at the end of what was read.
	zeros int64
}

func (b *blockReader) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.total += int64(n)
	if n > 0 {
		// Only the tail matters, and only up to one block.
		tail := p[max(0, n-blockBytes):n]
		trailing := len(tail) - len(bytes.TrimRight(tail, "\x00"))
		if trailing == len(tail) && trailing == n {
			b.zeros += int64(trailing)
		} else {
			b.zeros = int64(trailing)
		}
	}
	return n, err
}

func (b *blockReader) endMarker() bool { return b.total >= blockBytes && b.zeros >= blockBytes }

// IsCompressed looks at the first bytes.
func IsCompressed(from io.Reader) (bool, error) {
	magic := make([]byte, len(zstdMagic))
	n, err := io.ReadFull(from, magic)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return false, err
	}
	return bytes.HasPrefix(magic[:n], gzipMagic) || bytes.Equal(magic[:n], zstdMagic), nil
}
