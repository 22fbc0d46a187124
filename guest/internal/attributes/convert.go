package attributes

import "bytes"

// Conversion is what git does to a file on its way between the work tree and its store.
type Conversion int

const (
	// AsIs files are the same in both.
	AsIs Conversion = iota
	// CRLF files have CRLF in the work tree and LF in the store.
	CRLF
	// CRLFIfText is CRLF for what git takes for text by its content.
	CRLFIfText
)

const (
	cr        = '\r'
	lf        = '\n'
	endOfFile = 26
)

// Normal gives the content as git stores it, made in place. It is exact when git makes of that the same content again.
func (c Conversion) Normal(content []byte) (normal []byte, exact bool) {
	if c == AsIs || c == CRLFIfText && isBinary(content) {
		return content, true
	}
	exact = true
	done := 0
	for from := 0; from < len(content); {
		length := bytes.IndexByte(content[from:], lf)
		if length < 0 {
			done += copy(content[done:], content[from:])
			break
		}
		line := content[from : from+length]
		from += length + 1
		if length == 0 || line[length-1] != cr {
			exact = false
		} else {
			// One CR at the end goes, and before another one none comes back.
			line = line[:length-1]
			exact = exact && !bytes.HasSuffix(line, []byte{cr})
		}
		done += copy(content[done:], line)
		content[done] = lf
		done++
	}
	return content[:done], exact
}

// isBinary is git's own guess where it converts line ends, which is another one than where it shows differences.
func isBinary(content []byte) bool {
	printable, nonprintable := 0, 0
	for at, c := range content {
		switch {
		case c == cr:
			if at+1 == len(content) || content[at+1] != lf {
				return true
			}
		case c == lf:
		case c == 0:
			return true
		case c == '\b' || c == '\t' || c == '\f' || c == '\x1b':
			printable++
		case c < ' ' || c == 0x7f:
			nonprintable++
		default:
			printable++
		}
	}
	if len(content) > 0 && content[len(content)-1] == endOfFile {
		nonprintable--
	}
	return printable>>7 < nonprintable
}
