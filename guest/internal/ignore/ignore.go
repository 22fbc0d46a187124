// Package ignore decides what .gitignore files ignore, as gitignore(5) says and `git check-ignore` does.
package ignore

import (
	"bytes"
	"strings"
)

const (
	// FileLimitBytes bounds one .gitignore file; what is beyond it is not read.
	FileLimitBytes = 1 << 20
	// patternsLimit bounds the patterns that hold at one place; more are not read. Fewer paths are ignored then.
	patternsLimit = 20_000
)

// Rules are the patterns of one folder's .gitignore on top of those of the folders above.
type Rules struct {
	above *Rules
	// base is the folder of the file, "" for the top, else with a slash at the end.
	base     string
	patterns []Pattern
	// total counts the patterns of above, too.
	total int
}

// Parse adds the .gitignore of the folder base ("" for the top, "a/b" below it); above is the result for the folder
// above, nil when there is none. A file without patterns gives above itself.
func Parse(above *Rules, base string, file []byte) *Rules {
	file = bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))
	rules := &Rules{above: above}
	if above != nil {
		rules.total = above.total
	}
	if base != "" {
		rules.base = base + "/"
	}
	for line := range bytes.SplitSeq(file, []byte("\n")) {
		if rules.total >= patternsLimit {
			break
		}
		if one, ok := parseLine(string(bytes.TrimSuffix(line, []byte("\r")))); ok {
			rules.patterns = append(rules.patterns, one)
			rules.total++
		}
	}
	if len(rules.patterns) == 0 {
		return above
	}
	return rules
}

func parseLine(line string) (Pattern, bool) {
	if line == "" || line[0] == '#' {
		return Pattern{}, false
	}
	return ParsePattern(trimSpaces(line))
}

// trimSpaces removes trailing spaces that no backslash protects.
func trimSpaces(line string) string {
	end := 0
	for at := 0; at < len(line); at++ {
		switch line[at] {
		case ' ':
			continue
		case '\\':
			at++
			if at >= len(line) {
				return line
			}
		}
		end = at + 1
	}
	return line[:end]
}

// Match tells whether path (relative to the top, folders without a slash at the end) is ignored. It looks at the path
// alone: what lies in an ignored folder is ignored whatever the patterns say of it.
func (r *Rules) Match(path string, isDir bool) bool {
	name := path[strings.LastIndexByte(path, '/')+1:]
	for ; r != nil; r = r.above {
		below := strings.TrimPrefix(path, r.base)
		for at := len(r.patterns) - 1; at >= 0; at-- {
			p := &r.patterns[at]
			if p.OnlyDirs && !isDir {
				continue
			}
			if p.Match(below, name) {
				return !p.Negated
			}
		}
	}
	return false
}
