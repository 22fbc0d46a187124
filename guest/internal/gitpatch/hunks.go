package gitpatch

import (
	"bytes"
	"strconv"
)

// contextLines are shown around every change.
const contextLines = 3

// edit replaces whole lines: the bytes old[oldFrom:oldTo] by new[newFrom:newTo]. Between two edits the texts are equal.
type edit struct {
	oldFrom, oldTo, newFrom, newTo int
	// oldLine and newLine count the lines before the edit.
	oldLine, newLine         int
	removedLines, addedLines int
}

func itoa(n int) string { return strconv.Itoa(n) }

// hunks writes edits with their context; those that lie near each other share a hunk.
func (w *writer) hunks(old, new []byte, edits []edit) Stats {
	var stats Stats
	for len(edits) > 0 {
		n := 1
		for n < len(edits) && linesBetween(edits[n-1], edits[n]) <= 2*contextLines {
			n++
		}
		w.hunk(old, new, edits[:n])
		for _, one := range edits[:n] {
			stats.Additions += one.addedLines
			stats.Deletions += one.removedLines
		}
		edits = edits[n:]
	}
	return stats
}

func linesBetween(a, b edit) int { return b.oldLine - a.oldLine - a.removedLines }

func (w *writer) hunk(old, new []byte, edits []edit) {
	first, last := edits[0], edits[len(edits)-1]
	start, before := linesBack(old, first.oldFrom)
	end, after := linesForth(old, last.oldTo)
	oldLines := last.oldLine + last.removedLines - first.oldLine + before + after
	newLines := last.newLine + last.addedLines - first.newLine + before + after
	w.put("@@ -", span(first.oldLine-before, oldLines), " +", span(first.newLine-before, newLines), " @@\n")
	at := start
	for _, one := range edits {
		w.lines(' ', old[at:one.oldFrom])
		w.lines('-', old[one.oldFrom:one.oldTo])
		w.lines('+', new[one.newFrom:one.newTo])
		at = one.oldTo
	}
	w.lines(' ', old[at:end])
}

// span is the position of a hunk in one file: lines count from 1, an empty range is named by the line before it.
func span(linesBefore, lines int) string {
	switch lines {
	case 0:
		return itoa(linesBefore) + ",0"
	case 1:
		return itoa(linesBefore + 1)
	}
	return itoa(linesBefore+1) + "," + itoa(lines)
}

func (w *writer) lines(mark byte, text []byte) {
	for len(text) > 0 && !w.full {
		end := bytes.IndexByte(text, '\n') + 1
		line := text
		if end > 0 {
			line = text[:end]
		}
		if w.full = len(w.to)+1+len(line) > w.end; w.full {
			return
		}
		w.to = append(append(w.to, mark), line...)
		if end == 0 {
			w.put("\n\\ No newline at end of file\n")
		}
		text = text[len(line):]
	}
}

// linesBack finds the start of up to contextLines lines that end at from.
func linesBack(text []byte, from int) (start, lines int) {
	for start = from; start > 0 && lines < contextLines; lines++ {
		start = bytes.LastIndexByte(text[:start-1], '\n') + 1
	}
	return start, lines
}

// linesForth finds the end of up to contextLines lines that start at from.
func linesForth(text []byte, from int) (end, lines int) {
	for end = from; end < len(text) && lines < contextLines; lines++ {
		length := bytes.IndexByte(text[end:], '\n') + 1
		if length == 0 {
			length = len(text) - end
		}
		end += length
	}
	return end, lines
}
