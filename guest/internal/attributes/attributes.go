// Package attributes tells which files git holds with other line ends than the work tree does: those that .gitattributes
// files give `eol=crlf`, as gitattributes(5) says and `git check-attr` does.
package attributes

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"pyro.dev/agent/internal/ignore"
)

const (
	// linesLimit bounds the lines that hold at one place; more are not read.
	linesLimit = 20_000
	// passingLimit bounds the passing files at one place of which all is tried.
	passingLimit = 8
)

// Rules are the lines of one folder's .gitattributes on top of those of the folders above. They never change, so that
// many may ask at once. None, nil, give no attribute to any file.
//
// A file is passing when the patch changes it, too. Git reads such a file before or after the old one is gone, and holds
// on to it until it comes to another folder: it heeds all passing files down to some folder, and none below.
type Rules struct {
	above *Rules
	// base is the folder of the file, "" for the top, else with a slash at the end.
	base    string
	lines   []line
	passing bool
	top     *top
	// total counts the lines, passed the passing files, of above, too.
	total, passed int
	// converts tells whether a line here or above, or a macro, says eol=crlf.
	converts bool
}

// top holds for the whole tree.
type top struct {
	macros macros
	// otherMacros hold while the file at the top, which is passing, is not heeded.
	otherMacros macros
	// override is of .git/info/attributes, which comes before all others.
	override []line
}

// macros are attributes that stand for others.
type macros map[string][]state

// builtin is what git defines itself.
const builtin = "[attr]binary -diff -merge -text"

// Top takes the .gitattributes at the top and .git/info/attributes; only they may define macros.
func Top(file, info []byte, passing bool) *Rules {
	r := &Rules{passing: passing, passed: count(passing), top: &top{macros: macros{}}}
	r.top.macros.collect([]byte(builtin))
	r.top.otherMacros = maps.Clone(r.top.macros)
	r.lines = r.top.macros.collect(file)
	r.top.override = r.top.macros.collect(info)
	r.top.otherMacros.collect(info)
	for _, states := range r.top.macros {
		r.converts = r.converts || slices.Contains(states, eolIsCRLF)
	}
	r.lines = r.keep(r.lines)
	r.top.override = r.keep(r.top.override)
	r.total = len(r.lines)
	return r
}

// Below adds the .gitattributes of the folder base, such as "a/b".
func Below(above *Rules, base string, file []byte, passing bool) *Rules {
	r := &Rules{above: above, base: base + "/", passing: passing, top: above.top, converts: above.converts}
	r.passed = above.passed + count(passing)
	for one := range parse(file, linesLimit-above.total) {
		if one.macro == "" {
			r.lines = append(r.lines, one)
		}
	}
	if r.lines = r.keep(r.lines); len(r.lines) == 0 {
		return above
	}
	r.total = above.total + len(r.lines)
	return r
}

func count(passing bool) int {
	if passing {
		return 1
	}
	return 0
}

// collect adds what a file defines and gives its other lines.
func (m macros) collect(file []byte) (lines []line) {
	for one := range parse(file, linesLimit) {
		if one.macro != "" {
			m[one.macro] = one.states
		} else {
			lines = append(lines, one)
		}
	}
	return lines
}

// keep drops what says nothing of line ends.
func (r *Rules) keep(lines []line) []line {
	isRelevant := func(one state) bool {
		_, isMacro := r.top.macros[one.name]
		return isMacro || one.name == "text" || one.name == "crlf" || one.name == "eol"
	}
	lines = slices.DeleteFunc(lines, func(one line) bool { return !slices.ContainsFunc(one.states, isRelevant) })
	r.converts = r.converts || slices.ContainsFunc(lines, func(one line) bool { return slices.Contains(one.states, eolIsCRLF) })
	return lines
}

// Of tells how git converts a file, and whether that is certain whatever passing files it heeds.
func (r *Rules) Of(path string) (c Conversion, certain bool) {
	if r == nil || !r.converts {
		return AsIs, true
	}
	c = r.lookUp(path, r.passed).conversion()
	if r.passed > passingLimit {
		return c, false
	}
	for heeded := range r.passed {
		if r.lookUp(path, heeded).conversion() != c {
			return c, false
		}
	}
	return c, true
}

// lookUp heeds as many of the passing files, from the top.
func (r *Rules) lookUp(path string, heeded int) attributes {
	found := attributes{macros: r.top.macros}
	if heeded == 0 && r.passed > 0 {
		found.macros = r.top.otherMacros
	}
	name := path[strings.LastIndexByte(path, '/')+1:]
	found.add(r.top.override, path, name)
	for one := r; one != nil; one = one.above {
		if !one.passing || one.passed <= heeded {
			found.add(one.lines, strings.TrimPrefix(path, one.base), name)
		}
	}
	return found
}

// attributes are those of one file, as far as they are known.
type attributes struct {
	macros macros
	values map[string]value
}

// add takes what lines say of a file; what is known already stays.
func (a *attributes) add(lines []line, path, name string) {
	for at := len(lines) - 1; at >= 0; at-- {
		if one := &lines[at]; one.pattern.Match(path, name) {
			a.set(one.states)
		}
	}
}

// set adds the states of a line, the last one first.
func (a *attributes) set(states []state) {
	if a.values == nil {
		a.values = map[string]value{}
	}
	for at := len(states) - 1; at >= 0; at-- {
		one := states[at]
		if _, known := a.values[one.name]; known {
			continue
		}
		a.values[one.name] = one.value
		if one.value == isSet {
			a.set(a.macros[one.name])
		}
	}
}

func (a attributes) conversion() Conversion {
	if a.values["eol"] != eolIsCRLF.value {
		return AsIs
	}
	for _, name := range []string{"text", "crlf"} {
		switch a.values[name] {
		case isUnset:
			return AsIs
		case "=auto":
			return CRLFIfText
		case isSet, "=input":
			return CRLF
		}
	}
	return CRLF
}

// parse gives the lines that git would take, at most limit.
func parse(file []byte, limit int) func(yield func(line) bool) {
	return func(yield func(line) bool) {
		file = bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))
		for text := range bytes.SplitSeq(file, []byte("\n")) {
			one, ok := parseLine(text)
			if !ok {
				continue
			}
			if limit--; limit < 0 || !yield(one) {
				return
			}
		}
	}
}

// line is one line of a file: the attributes of what a pattern matches, or those that a macro stands for.
type line struct {
	pattern ignore.Pattern
	macro   string
	states  []state
}
