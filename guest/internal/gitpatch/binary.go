package gitpatch

import (
	"bytes"

	"github.com/klauspost/compress/zlib"
)

const base85Digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"

// lineBytes is how many bytes one line of a binary block carries.
const lineBytes = 52

// literal writes one block of a binary patch: the whole content, deflated.
func (w *writer) literal(content []byte) {
	w.put("literal ", itoa(len(content)), "\n")
	var deflated bytes.Buffer
	z, err := zlib.NewWriterLevel(&deflated, zlib.DefaultCompression)
	if err == nil {
		_, err = z.Write(content)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		panic(err) // A buffer takes everything, and the level is a good one.
	}
	var line [1 + lineBytes/4*5 + 1]byte
	for rest := deflated.Bytes(); len(rest) > 0; {
		n := min(len(rest), lineBytes)
		w.putBytes(base85Line(line[:0], rest[:n]))
		rest = rest[n:]
		if w.full {
			return
		}
	}
	w.put("\n")
}

// base85Line is one line of at most lineBytes bytes: their count as a letter, then five digits for every four bytes.
func base85Line(line, content []byte) []byte {
	if n := byte(len(content)); n <= 26 {
		line = append(line, 'A'+n-1)
	} else {
		line = append(line, 'a'+n-27)
	}
	for len(content) > 0 {
		var word uint32
		for at := range 4 {
			word <<= 8
			if at < len(content) {
				word |= uint32(content[at])
			}
		}
		content = content[min(4, len(content)):]
		var digits [5]byte
		for at := 4; at >= 0; at-- {
			digits[at] = base85Digits[word%85]
			word /= 85
		}
		line = append(line, digits[:]...)
	}
	return append(line, '\n')
}
