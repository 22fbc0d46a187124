package inspect

// linkGroups tells whether two paths that name one file do so on both sides. Beyond its limit it says nothing.
type linkGroups struct {
	from, to map[uint64]int
	at       int
}

const linkedFilesLimit = 1_000_000

func (l *linkGroups) differ(from, to *meta) bool {
	isLinked := func(m *meta) bool { return m != nil && m.isFile() && m.links > 1 }
	if !isLinked(from) && !isLinked(to) || len(l.from)+len(l.to) > linkedFilesLimit {
		return false
	}
	l.at++
	first := func(known *map[uint64]int, m *meta) int {
		if !isLinked(m) {
			return l.at
		}
		if *known == nil {
			*known = map[uint64]int{}
		}
		if at, found := (*known)[m.inode]; found {
			return at
		}
		(*known)[m.inode] = l.at
		return l.at
	}
	a, b := first(&l.from, from), first(&l.to, to)
	return a != b && from != nil && to != nil && from.isFile() && to.isFile()
}
