package archive

import (
	"sync"

	"golang.org/x/sys/unix"
)

// destinations are the folders that pushes of this process are under way into.
var destinations = struct {
	sync.Mutex
	byPath map[string]*destination
}{byPath: map[string]*destination{}}

// destination is one of them: what was made for it goes when the last push has left and none put anything there.
type destination struct {
	pushes int
	filled bool
	// made are the folders that were made for it, innermost first.
	made []string
}

// enterDestination opens a folder, which is made when it is not there. leaveDestination must follow.
func enterDestination(dest string) (int, error) {
	destinations.Lock()
	defer destinations.Unlock()
	target, made, err := makeDestination(dest)
	if err != nil {
		return -1, err
	}
	d := destinations.byPath[dest]
	if d == nil {
		d = &destination{}
		destinations.byPath[dest] = d
	}
	d.pushes++
	d.made = append(d.made, made...)
	return target, nil
}

func leaveDestination(dest string, filled bool) {
	destinations.Lock()
	defer destinations.Unlock()
	d := destinations.byPath[dest]
	d.pushes--
	d.filled = d.filled || filled
	if d.pushes > 0 {
		return
	}
	delete(destinations.byPath, dest)
	if d.filled {
		return
	}
	for _, folder := range d.made {
		// Somebody may have put something into it meanwhile.
		_ = unix.Rmdir(folder)
	}
}
