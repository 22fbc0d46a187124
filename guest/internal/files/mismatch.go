package files

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"pyro.dev/agent/internal/message"
)

const (
	// listedLines are named of a text that occurs too often, quotedLines quoted of one that does not occur.
	listedLines = 20
	quotedLines = 3
	// quoteBytes of a line are quoted.
	quoteBytes = 200
	// comparedBytes of a line are looked at for likeness.
	comparedBytes = 512
	// leastLikeness is what a line must share with the wanted one to be quoted.
	leastLikeness = 0.4
)

// quote is a line of the file.
type quote struct {
	Line int    `json:"line"`
	Text string `json:"text"`
}

// mismatch says how often the text occurs and where, or what comes nearest to it.
func (w *walk) mismatch(content, text []byte, found []int) error {
	data := map[string]any{"occurrences": len(found)}
	var said string
	if len(found) > 0 {
		lines := lineNumbers(content, found[:min(len(found), listedLines)])
		data["lines"] = lines
		said = fmt.Sprintf("the text occurs %d times in %q (%s); it must occur once", len(found), w.path, listLines(lines, len(found)))
	} else {
		nearest := nearestLines(content, text)
		data["nearest"] = nearest
		said = fmt.Sprintf("the text occurs 0 times in %q", w.path)
		for at, one := range nearest {
			said += [...]string{"; nearest: ", ", "}[min(at, 1)] + fmt.Sprintf("line %d: %q", one.Line, one.Text)
		}
	}
	err := message.Errorf(message.KindTextMismatch, "%s; nothing was changed", said)
	err.Data = data
	return err
}

func lineNumbers(content []byte, places []int) []int {
	numbers := make([]int, 0, len(places))
	line, at := 1, 0
	for _, place := range places {
		line += bytes.Count(content[at:place], newline)
		at = place
		numbers = append(numbers, line)
	}
	return numbers
}

func listLines(lines []int, of int) string {
	texts := make([]string, len(lines))
	for at, line := range lines {
		texts[at] = fmt.Sprint(line)
	}
	list := "lines " + strings.Join(texts, ", ")
	if of > len(lines) {
		list += ", …"
	}
	return list
}

// nearestLines are the lines most like the first line of the text that says anything; where the file has exactly that
// line, the one at which it goes on differently.
func nearestLines(content, text []byte) []quote {
	wanted := bytes.Split(text, newline)
	first := slices.IndexFunc(wanted, func(line []byte) bool { return len(bytes.TrimSpace(line)) > 0 })
	if first < 0 {
		return []quote{}
	}
	wanted = wanted[first:]
	pattern := newLikeness(wanted[0])
	var best []scored
	number := 0
	for rest := content; len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, newline)
		number++
		candidate := scored{quote{number, clipLine(line)}, pattern.of(line)}
		if bytes.HasSuffix(line, wanted[0]) || bytes.Equal(bytes.TrimSpace(line), bytes.TrimSpace(wanted[0])) {
			same, different := agreement(line, after, wanted)
			candidate = scored{quote{number + same, clipLine(different)}, 1 + float64(same)}
		}
		if candidate.score >= leastLikeness {
			best = keepBest(best, candidate)
		}
		rest = after
	}
	// Beside a line that is the wanted one those that are only like it say nothing.
	if exact := slices.IndexFunc(best, func(one scored) bool { return one.score < 1 }); exact > 0 {
		best = best[:exact]
	}
	quotes := make([]quote, len(best))
	for at, one := range best {
		quotes[at] = one.quote
	}
	return quotes
}

type scored struct {
	quote
	score float64
}

// keepBest keeps the earlier line of two that are as good.
func keepBest(best []scored, candidate scored) []scored {
	at := len(best)
	for at > 0 && best[at-1].score < candidate.score {
		at--
	}
	if at == quotedLines {
		return best
	}
	best = slices.Insert(best, at, candidate)
	return best[:min(len(best), quotedLines)]
}

// agreement counts the lines that are as wanted and gives the first that is not.
func agreement(line, after []byte, wanted [][]byte) (int, []byte) {
	same := 0
	for same < len(wanted)-1 && bytes.Equal(line, wanted[same]) {
		same++
		line, after, _ = bytes.Cut(after, newline)
	}
	return same, line
}

func clipLine(line []byte) string {
	return message.Clip(string(line[:min(len(line), quoteBytes)]), quoteBytes)
}

// likeness compares lines by the pairs of bytes they share (the Sørensen–Dice coefficient), blanks at the ends aside.
type likeness struct {
	has, used [1 << 16]uint16
	count     int
}

func newLikeness(line []byte) *likeness {
	l := &likeness{}
	line = significant(line)
	for at := 1; at < len(line); at++ {
		l.has[pair(line, at)]++
		l.count++
	}
	return l
}

func significant(line []byte) []byte { return bytes.TrimSpace(line[:min(len(line), comparedBytes)]) }

func pair(line []byte, at int) int { return int(line[at-1])<<8 | int(line[at]) }

func (l *likeness) of(line []byte) float64 {
	line = significant(line)
	count := len(line) - 1
	if l.count < 1 || count < 1 {
		return 0
	}
	shared := 0
	for at := 1; at < len(line); at++ {
		if p := pair(line, at); l.used[p] < l.has[p] {
			l.used[p]++
			shared++
		}
	}
	for at := 1; at < len(line); at++ {
		l.used[pair(line, at)] = 0
	}
	return 2 * float64(shared) / float64(count+l.count)
}
