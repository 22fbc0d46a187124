package gitpatch

import (
	"bytes"
	"unsafe"
)

// comparedLinesLimit bounds the lines between the first and the last difference that are matched with each other; what
// has more is replaced as a whole.
const comparedLinesLimit = 400_000

// compareText gives the edits from old to new in order.
func compareText(old, new []byte) []edit {
	head := commonHead(old, new)
	tail := commonTail(old[head:], new[head:])
	oldMiddle, newMiddle := old[head:len(old)-tail], new[head:len(new)-tail]
	if len(oldMiddle) == 0 && len(newMiddle) == 0 {
		return nil
	}
	line := bytes.Count(old[:head], []byte{'\n'})
	oldCount, newCount := countLines(oldMiddle), countLines(newMiddle)
	if len(oldMiddle) == 0 || len(newMiddle) == 0 || max(oldCount, newCount) > comparedLinesLimit {
		return []edit{{
			oldFrom: head, oldTo: len(old) - tail, newFrom: head, newTo: len(new) - tail,
			oldLine: line, newLine: line, removedLines: oldCount, addedLines: newCount,
		}}
	}
	oldStarts, newStarts := lineStarts(oldMiddle, oldCount), lineStarts(newMiddle, newCount)
	oldIDs, newIDs := internLines(oldMiddle, oldStarts, newMiddle, newStarts)
	removed, added := matchLines(oldIDs, newIDs)
	return editsOf(oldStarts, newStarts, removed, added, head, line)
}

// editsOf joins neighbouring removed and added lines.
func editsOf(oldStarts, newStarts []int32, removed, added []bool, offset, line int) []edit {
	var edits []edit
	for i, j := 0, 0; i < len(removed) || j < len(added); {
		if !(i < len(removed) && removed[i]) && !(j < len(added) && added[j]) {
			i++
			j++
			continue
		}
		one := edit{oldFrom: offset + int(oldStarts[i]), newFrom: offset + int(newStarts[j]), oldLine: line + i, newLine: line + j}
		for i < len(removed) && removed[i] {
			i++
		}
		for j < len(added) && added[j] {
			j++
		}
		one.oldTo, one.newTo = offset+int(oldStarts[i]), offset+int(newStarts[j])
		one.removedLines, one.addedLines = line+i-one.oldLine, line+j-one.newLine
		edits = append(edits, one)
	}
	return edits
}

// commonHead is the length of what both begin with, in whole lines.
func commonHead(a, b []byte) int {
	n := commonPrefix(a, b)
	if n == len(a) && n == len(b) {
		return n
	}
	return bytes.LastIndexByte(a[:n], '\n') + 1
}

// commonTail is the length of what both end with, in whole lines.
func commonTail(a, b []byte) int {
	n := commonSuffix(a, b)
	if n == 0 {
		return 0
	}
	// A line begins where the text does or after a line feed, in both.
	startsLine := func(text []byte) bool { return n == len(text) || text[len(text)-n-1] == '\n' }
	if startsLine(a) && startsLine(b) {
		return n
	}
	feed := bytes.IndexByte(a[len(a)-n:], '\n')
	if feed < 0 {
		return 0
	}
	return n - feed - 1
}

const compareBlockBytes = 4096

func commonPrefix(a, b []byte) int {
	n, at := min(len(a), len(b)), 0
	for at+compareBlockBytes <= n && bytes.Equal(a[at:at+compareBlockBytes], b[at:at+compareBlockBytes]) {
		at += compareBlockBytes
	}
	for at < n && a[at] == b[at] {
		at++
	}
	return at
}

func commonSuffix(a, b []byte) int {
	n, at := min(len(a), len(b)), 0
	for at+compareBlockBytes <= n && bytes.Equal(a[len(a)-at-compareBlockBytes:len(a)-at], b[len(b)-at-compareBlockBytes:len(b)-at]) {
		at += compareBlockBytes
	}
	for at < n && a[len(a)-at-1] == b[len(b)-at-1] {
		at++
	}
	return at
}

func countLines(text []byte) int {
	n := bytes.Count(text, []byte{'\n'})
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}

// lineStarts also holds the end of the last line.
func lineStarts(text []byte, lines int) []int32 {
	starts := make([]int32, 1, lines+1)
	for at := 0; at < len(text); {
		length := bytes.IndexByte(text[at:], '\n') + 1
		if length == 0 {
			length = len(text) - at
		}
		at += length
		starts = append(starts, int32(at))
	}
	return starts
}

// internLines gives equal lines equal numbers.
func internLines(old []byte, oldStarts []int32, new []byte, newStarts []int32) (oldIDs, newIDs []int32) {
	known := make(map[string]int32, len(oldStarts))
	number := func(text []byte, starts []int32) []int32 {
		ids := make([]int32, len(starts)-1)
		for at := range ids {
			line := text[starts[at]:starts[at+1]]
			// The text outlives the map and is never written to.
			key := unsafe.String(unsafe.SliceData(line), len(line))
			id, found := known[key]
			if !found {
				id = int32(len(known))
				known[key] = id
			}
			ids[at] = id
		}
		return ids
	}
	return number(old, oldStarts), number(new, newStarts)
}
