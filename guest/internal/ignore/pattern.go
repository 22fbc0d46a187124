package ignore

import "strings"

// Pattern is one pattern of a .gitignore file; those of .gitattributes files are the same.
type Pattern struct {
	Negated  bool
	OnlyDirs bool

	text string
	// anchored patterns match the path from the folder of the file; others the last component anywhere below it.
	anchored bool
	// literal patterns need no wildcard matching.
	literal bool
}

// ParsePattern is false for a pattern that matches nothing.
func ParsePattern(text string) (Pattern, bool) {
	var p Pattern
	if strings.HasPrefix(text, "!") {
		p.Negated = true
		text = text[1:]
	}
	if strings.HasSuffix(text, "/") {
		p.OnlyDirs = true
		text = text[:len(text)-1]
	}
	p.anchored = strings.Contains(text, "/")
	text = strings.TrimPrefix(text, "/")
	if text == "" {
		return Pattern{}, false
	}
	p.text = text
	p.literal = !strings.ContainsAny(text, `*?[\`)
	return p, true
}

// Match takes a path from the folder of the file, and its last component. It does not look at Negated and OnlyDirs.
func (p *Pattern) Match(path, name string) bool {
	subject := name
	if p.anchored {
		subject = path
	}
	if p.literal {
		return subject == p.text
	}
	return wildMatch(p.text, subject, p.anchored)
}
