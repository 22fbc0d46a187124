package ignore

import "strings"

// stepsLimit bounds the work on one pattern and path: patterns such as "*a*a*a*b" are exponential otherwise.
const stepsLimit = 1 << 16

type verdict int

const (
	noMatch verdict = iota
	match
	// abortAll: the text ended; more of a "*" cannot help.
	abortAll
	// abortToStarStar: only a "**" further out can help.
	abortToStarStar
)

// wildMatch is git's wildmatch. With pathname, "*", "?" and classes do not match a slash, and "**" does.
func wildMatch(pattern, text string, pathname bool) bool {
	m := matcher{pathname: pathname, whole: pattern, left: stepsLimit}
	return m.match(pattern, text) == match
}

type matcher struct {
	pathname bool
	whole    string
	left     int
}

func (m *matcher) match(p, t string) verdict {
	for len(p) > 0 {
		if m.left--; m.left < 0 {
			return abortAll
		}
		c := p[0]
		if len(t) == 0 && c != '*' {
			return abortAll
		}
		switch c {
		case '\\':
			if len(p) == 1 {
				return noMatch
			}
			if t[0] != p[1] {
				return noMatch
			}
			p, t = p[2:], t[1:]
		case '?':
			if m.pathname && t[0] == '/' {
				return noMatch
			}
			p, t = p[1:], t[1:]
		case '*':
			return m.star(p, t)
		case '[':
			rest, matched := matchClass(p, t[0])
			if rest < 0 || !matched || m.pathname && t[0] == '/' {
				if rest < 0 {
					return abortAll
				}
				return noMatch
			}
			p, t = p[rest:], t[1:]
		default:
			if t[0] != c {
				return noMatch
			}
			p, t = p[1:], t[1:]
		}
	}
	if len(t) > 0 {
		return noMatch
	}
	return match
}

func (m *matcher) star(p, t string) verdict {
	before := len(m.whole) - len(p)
	slashes := !m.pathname
	rest := strings.TrimLeft(p, "*")
	if stars := len(p) - len(rest); m.pathname && stars >= 2 {
		startsPart := before == 0 || m.whole[before-1] == '/'
		endsPart := rest == "" || rest[0] == '/' || strings.HasPrefix(rest, `\/`)
		if startsPart && endsPart {
			// "**/" also stands for no folder at all.
			if rest != "" && rest[0] == '/' && m.match(rest[1:], t) == match {
				return match
			}
			slashes = true
		}
	}
	if rest == "" {
		if !slashes && strings.Contains(t, "/") {
			return abortToStarStar
		}
		return match
	}
	if !slashes && rest[0] == '/' {
		// A lone "*" before a slash takes exactly the rest of this part.
		slash := strings.IndexByte(t, '/')
		if slash < 0 {
			return abortAll
		}
		return m.match(rest, t[slash:])
	}
	for at := 0; at <= len(t); at++ {
		switch got := m.match(rest, t[at:]); got {
		case noMatch:
		case abortToStarStar:
			if !slashes {
				return got
			}
		default:
			return got
		}
		if at < len(t) && t[at] == '/' && !slashes {
			return abortToStarStar
		}
	}
	return abortAll
}

// matchClass matches one bracket expression at the start of p; it returns its length, or -1 when it has no end.
func matchClass(p string, c byte) (length int, matched bool) {
	at := 1
	negated := false
	if at < len(p) && (p[at] == '!' || p[at] == '^') {
		negated = true
		at++
	}
	previous := byte(0)
	for first := true; ; first = false {
		if at >= len(p) {
			return -1, false
		}
		switch x := p[at]; {
		case x == ']' && !first:
			return at + 1, matched != negated
		case x == '\\':
			if at++; at >= len(p) {
				return -1, false
			}
			previous = p[at]
			matched = matched || c == previous
		case x == '-' && previous != 0 && at+1 < len(p) && p[at+1] != ']':
			at++
			if p[at] == '\\' {
				if at++; at >= len(p) {
					return -1, false
				}
			}
			matched = matched || previous <= c && c <= p[at]
			previous = 0
		case x == '[' && at+1 < len(p) && p[at+1] == ':':
			end := strings.IndexByte(p[at+2:], ']')
			if end < 0 {
				return -1, false
			}
			name := p[at+2 : at+2+end]
			if !strings.HasSuffix(name, ":") {
				// Not a named class after all, but a set with "[" in it.
				previous = '['
				matched = matched || c == '['
				break
			}
			known, in := namedClass(strings.TrimSuffix(name, ":"), c)
			if !known {
				return -1, false
			}
			matched = matched || in
			at += 2 + end
			previous = 0
		default:
			previous = x
			matched = matched || c == x
		}
		at++
	}
}

func namedClass(name string, c byte) (known, in bool) {
	lower, upper, digit := c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9'
	graph := c > ' ' && c < 0x7f
	switch name {
	case "alnum":
		in = lower || upper || digit
	case "alpha":
		in = lower || upper
	case "blank":
		in = c == ' ' || c == '\t'
	case "cntrl":
		in = c < ' ' || c == 0x7f
	case "digit":
		in = digit
	case "graph":
		in = graph
	case "lower":
		in = lower
	case "print":
		in = graph || c == ' '
	case "punct":
		in = graph && !lower && !upper && !digit
	case "space":
		in = c == ' ' || c >= '\t' && c <= '\r'
	case "upper":
		in = upper
	case "xdigit":
		in = digit || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
	default:
		return false, false
	}
	return true, in
}
