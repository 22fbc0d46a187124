package attributes

import (
	"bytes"
	"strings"

	"pyro.dev/agent/internal/ignore"
)

const (
	// lineLimitBytes is git's own.
	lineLimitBytes = 2048
	blanks         = " \t\r\n"
	macroPrefix    = "[attr]"
)

// state is what a line says of one attribute.
type state struct {
	name  string
	value value
}

// value is one of the constants, or a text after "=".
type value string

const (
	isSet         value = "+"
	isUnset       value = "-"
	isUnspecified value = "!"
)

var eolIsCRLF = state{"eol", "=crlf"}

// parseLine is false for comments, for what git refuses and for what matches no file.
func parseLine(raw []byte) (line, bool) {
	raw, _, _ = bytes.Cut(bytes.TrimSuffix(raw, []byte("\r")), []byte{0})
	if len(raw) >= lineLimitBytes {
		return line{}, false
	}
	text := strings.TrimLeft(string(raw), blanks)
	if text == "" || text[0] == '#' {
		return line{}, false
	}
	pattern, rest, quoted := unquote(text)
	if !quoted {
		pattern, rest = cut(text)
	}
	var one line
	var ok bool
	if len(pattern) > len(macroPrefix) && strings.HasPrefix(pattern, macroPrefix) {
		if one.macro, _ = cut(strings.TrimLeft(pattern[len(macroPrefix):], blanks)); !isName(one.macro) {
			return line{}, false
		}
	} else if one.pattern, ok = ignore.ParsePattern(pattern); !ok || one.pattern.Negated || one.pattern.OnlyDirs {
		return line{}, false
	}
	one.states, ok = parseStates(rest)
	return one, ok
}

// cut splits at the first blank.
func cut(text string) (first, rest string) {
	if at := strings.IndexAny(text, blanks); at >= 0 {
		return text[:at], text[at:]
	}
	return text, ""
}

// parseStates is false when one of them is not valid: git then takes none.
func parseStates(text string) ([]state, bool) {
	var states []state
	for one := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(blanks, r) }) {
		name, text, hasValue := strings.Cut(one, "=")
		s := state{name, isSet}
		switch {
		case name != "" && name[0] == '-':
			s = state{name[1:], isUnset}
		case name != "" && name[0] == '!':
			s = state{name[1:], isUnspecified}
		case hasValue:
			s.value = value("=" + text)
		}
		if !isName(s.name) {
			return nil, false
		}
		states = append(states, s)
	}
	return states, true
}

func isName(name string) bool {
	for at := range len(name) {
		c := name[at]
		if !(c == '-' || c == '.' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return false
		}
	}
	return name != "" && name[0] != '-'
}

// unquote takes a pattern in double quotes with C escapes from the start of text; quoted is false where there is none.
func unquote(text string) (pattern, rest string, quoted bool) {
	if text[0] != '"' {
		return "", "", false
	}
	var plain strings.Builder
	for at := 1; at < len(text); at++ {
		switch text[at] {
		case '"':
			// Git holds it as a C string.
			pattern, _, _ = strings.Cut(plain.String(), "\x00")
			return pattern, text[at+1:], true
		case '\\':
			c, length := escaped(text[at+1:])
			if length == 0 {
				return "", "", false
			}
			plain.WriteByte(c)
			at += length
		default:
			plain.WriteByte(text[at])
		}
	}
	return "", "", false
}

// escaped decodes what follows a backslash; its length is 0 when it is nothing.
func escaped(text string) (c byte, length int) {
	if text == "" {
		return 0, 0
	}
	if at := strings.IndexByte("abtnvfr", text[0]); at >= 0 {
		return '\a' + byte(at), 1
	}
	if text[0] == '"' || text[0] == '\\' {
		return text[0], 1
	}
	isOctal := func(c byte) bool { return c >= '0' && c <= '7' }
	if len(text) < 3 || text[0] > '3' || !isOctal(text[0]) || !isOctal(text[1]) || !isOctal(text[2]) {
		return 0, 0
	}
	return (text[0]-'0')<<6 | (text[1]-'0')<<3 | (text[2] - '0'), 3
}
