package gitpatch

import "math"

// costFloor is how many differences a search may always meet before it takes the best split so far; longer texts allow
// the square root of their length. It makes the work linear in the length of hostile texts.
const costFloor = 256

// matchLines marks the lines that have no partner: a shortest set of them (E. Myers, "An O(ND) Difference Algorithm and
// Its Variations", linear space), unless finding it costs too much.
func matchLines(old, new []int32) (removed, added []bool) {
	removed, added = make([]bool, len(old)), make([]bool, len(new))
	// Lines that only one side has cannot match; without them most texts are short.
	m := matching{old: shared(old, new, removed), new: shared(new, old, added)}
	m.oldIDs, m.newIDs = pick(old, m.old), pick(new, m.new)
	m.removed, m.added = removed, added
	diagonals := len(m.old) + len(m.new) + 3
	m.forward, m.backward = make([]int32, diagonals), make([]int32, diagonals)
	m.origin = len(m.new) + 1
	m.costLimit = max(costFloor, int(math.Sqrt(float64(diagonals))))
	m.compare(0, len(m.old), 0, len(m.new))
	slideDown(old, removed, new, added)
	return removed, added
}

// shared lists the positions in a of lines that b has, too; the others are marked.
func shared(a, b []int32, unmatched []bool) []int32 {
	size := 0
	for _, id := range b {
		size = max(size, int(id)+1)
	}
	in := make([]bool, size)
	for _, id := range b {
		in[id] = true
	}
	positions := make([]int32, 0, len(a))
	for at, id := range a {
		if int(id) < size && in[id] {
			positions = append(positions, int32(at))
		} else {
			unmatched[at] = true
		}
	}
	return positions
}

func pick(ids, positions []int32) []int32 {
	picked := make([]int32, len(positions))
	for at, position := range positions {
		picked[at] = ids[position]
	}
	return picked
}

type matching struct {
	oldIDs, newIDs []int32
	// old and new are the positions of these lines in the texts.
	old, new       []int32
	removed, added []bool
	// forward and backward hold, for each diagonal x-y, the furthest x reached; origin is the index of diagonal 0.
	forward, backward []int32
	origin            int
	costLimit         int
}

// compare marks what differs between old[x0:x1] and new[y0:y1].
func (m *matching) compare(x0, x1, y0, y1 int) {
	for {
		for x0 < x1 && y0 < y1 && m.oldIDs[x0] == m.newIDs[y0] {
			x0++
			y0++
		}
		for x0 < x1 && y0 < y1 && m.oldIDs[x1-1] == m.newIDs[y1-1] {
			x1--
			y1--
		}
		if x0 == x1 || y0 == y1 {
			break
		}
		x, y := m.split(x0, x1, y0, y1)
		// The smaller half by recursion: the depth stays logarithmic.
		if x-x0+y-y0 < x1-x+y1-y {
			m.compare(x0, x, y0, y)
			x0, y0 = x, y
		} else {
			m.compare(x, x1, y, y1)
			x1, y1 = x, y
		}
	}
	for ; x0 < x1; x0++ {
		m.removed[m.old[x0]] = true
	}
	for ; y0 < y1; y0++ {
		m.added[m.new[y0]] = true
	}
}

// split finds a point on a shortest path from (x0,y0) to (x1,y1): two searches from both ends until they meet.
func (m *matching) split(x0, x1, y0, y1 int) (x, y int) {
	low, high := x0-y1, x1-y0
	begin, end := x0-y0, x1-y1
	odd := (begin-end)&1 != 0
	forward, backward, origin := m.forward, m.backward, m.origin
	forwardLow, forwardHigh, backwardLow, backwardHigh := begin, begin, end, end
	forward[origin+begin], backward[origin+end] = int32(x0), int32(x1)
	for cost := 1; ; cost++ {
		// The range of diagonals widens on each side, or narrows where it met the edge.
		if forwardLow > low {
			forwardLow--
			forward[origin+forwardLow-1] = -1
		} else {
			forwardLow++
		}
		if forwardHigh < high {
			forwardHigh++
			forward[origin+forwardHigh+1] = -1
		} else {
			forwardHigh--
		}
		for d := forwardHigh; d >= forwardLow; d -= 2 {
			x := int(forward[origin+d+1])
			if before := int(forward[origin+d-1]); before >= x {
				x = before + 1
			}
			for x < x1 && x-d < y1 && m.oldIDs[x] == m.newIDs[x-d] {
				x++
			}
			forward[origin+d] = int32(x)
			if odd && backwardLow <= d && d <= backwardHigh && int(backward[origin+d]) <= x {
				return x, x - d
			}
		}
		if backwardLow > low {
			backwardLow--
			backward[origin+backwardLow-1] = math.MaxInt32
		} else {
			backwardLow++
		}
		if backwardHigh < high {
			backwardHigh++
			backward[origin+backwardHigh+1] = math.MaxInt32
		} else {
			backwardHigh--
		}
		for d := backwardHigh; d >= backwardLow; d -= 2 {
			x := int(backward[origin+d-1])
			if after := int(backward[origin+d+1]); after <= x {
				x = after - 1
			}
			for x > x0 && x-d > y0 && m.oldIDs[x-1] == m.newIDs[x-d-1] {
				x--
			}
			backward[origin+d] = int32(x)
			if !odd && forwardLow <= d && d <= forwardHigh && x <= int(forward[origin+d]) {
				return x, x - d
			}
		}
		if cost >= m.costLimit {
			return m.bestSplit(x0, x1, y0, y1, [2]int{forwardLow, forwardHigh}, [2]int{backwardLow, backwardHigh})
		}
	}
}

// bestSplit is the point that one of both searches got furthest to.
func (m *matching) bestSplit(x0, x1, y0, y1 int, forward, backward [2]int) (x, y int) {
	far, farX := -1, 0
	for d := forward[1]; d >= forward[0]; d -= 2 {
		x := min(int(m.forward[m.origin+d]), x1)
		if x-d > y1 {
			x = y1 + d
		}
		if sum := x + x - d; sum > far {
			far, farX = sum, x
		}
	}
	near, nearX := math.MaxInt, 0
	for d := backward[1]; d >= backward[0]; d -= 2 {
		x := max(int(m.backward[m.origin+d]), x0)
		if x-d < y0 {
			x = y0 + d
		}
		if sum := x + x - d; sum < near {
			near, nearX = sum, x
		}
	}
	if x1+y1-near < far-x0-y0 {
		return farX, far - farX
	}
	return nearX, near - nearX
}

// slideDown moves a group of only removed or only added lines as far down as equal lines allow, as git shows it: a new
// function then begins with its first line and not with the end of the one before.
func slideDown(old []int32, removed []bool, new []int32, added []bool) {
	for i, j := 0, 0; i < len(removed) || j < len(added); {
		startOld, startNew := i, j
		for i < len(removed) && removed[i] {
			i++
		}
		for j < len(added) && added[j] {
			j++
		}
		switch {
		case i > startOld && j == startNew:
			for i < len(removed) && !removed[i] && (j >= len(added) || !added[j]) && old[startOld] == old[i] {
				removed[startOld], removed[i] = false, true
				startOld++
				i++
				j++
			}
		case j > startNew && i == startOld:
			for j < len(added) && !added[j] && (i >= len(removed) || !removed[i]) && new[startNew] == new[j] {
				added[startNew], added[j] = false, true
				startNew++
				j++
				i++
			}
		}
		if i < len(removed) && !removed[i] && j < len(added) && !added[j] {
			i++
			j++
		}
	}
}
