package volumes

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cleanerPollMin = 10 * time.Millisecond
	cleanerPollMax = 250 * time.Millisecond
	// cleanerPoke is how often the kernel is asked to go on: its cleaner otherwise wakes every 30 s only.
	cleanerPoke = 500 * time.Millisecond
	// qgroupCommits is how many commits a group may need to become empty.
	qgroupCommits = 4
	// cleanerTimeoutMsMax bounds what a caller may ask for.
	cleanerTimeoutMsMax = 3_600_000
)

type cleanerInput struct {
	header
	Path         string   `json:"path"`
	SubvolumeIDs []uint64 `json:"subvolumeIds"`
	TimeoutMs    int64    `json:"timeoutMs"`
}

func (in cleanerInput) check() error {
	if in.TimeoutMs < 0 || in.TimeoutMs > cleanerTimeoutMsMax {
		return invalid("timeoutMs: out of range")
	}
	return checkPath("path", in.Path)
}

type remainingResult struct {
	Remaining int `json:"remaining"`
}

// cleanerWait returns when the extents of deleted subvolumes are free and their empty qgroups are removed.
func cleanerWait(cx context.Context, _ *server, in *cleanerInput) (remainingResult, error) {
	fd, err := openDirectory(in.Path)
	if err != nil {
		return remainingResult{}, err
	}
	defer unix.Close(fd)
	left := map[uint64]bool{}
	for _, id := range in.SubvolumeIDs {
		left[id] = true
	}
	if len(left) == 0 {
		if left, err = deletedRoots(fd); err != nil {
			return remainingResult{}, failure("list deleted subvolumes of", in.Path, err)
		}
	}
	all := make([]uint64, 0, len(left))
	for id := range left {
		all = append(all, id)
	}
	deadline := time.Now().Add(time.Duration(in.TimeoutMs) * time.Millisecond)
	wait, poked := cleanerPollMin, time.Time{}
	for {
		present, err := deletedRoots(fd)
		if err != nil {
			return remainingResult{}, failure("list deleted subvolumes of", in.Path, err)
		}
		for id := range left {
			if !present[id] {
				delete(left, id)
			}
		}
		if len(left) == 0 {
			if err := removeEmptyQgroups(cx, fd, all); err != nil {
				return remainingResult{}, failure("remove the qgroups of subvolumes of", in.Path, err)
			}
			return remainingResult{}, nil
		}
		if time.Now().After(deadline) {
			return remainingResult{}, &opError{
				Code:    codeTimedOut,
				Message: fmt.Sprintf("%d deleted subvolumes are not cleaned yet", len(left)),
			}
		}
		if time.Since(poked) > cleanerPoke {
			if err := ioctl(fd, iocSync, new(uint64)); err != nil {
				return remainingResult{}, failure("sync", in.Path, err)
			}
			poked = time.Now()
		}
		select {
		case <-cx.Done():
			return remainingResult{}, cx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, cleanerPollMax)
	}
}

// deletedRoots lists the subvolumes that are deleted but not yet freed.
func deletedRoots(fd int) (map[uint64]bool, error) {
	roots := map[uint64]bool{}
	all := span{rootTree, firstFreeObject, lastFreeObject, typeRootItem, typeRootItem}
	err := searchTree(fd, all, func(found item) error {
		if len(found.body) > rootRefs+4 && binary.LittleEndian.Uint32(found.body[rootRefs:]) == 0 {
			roots[found.object] = true
		}
		return nil
	})
	return roots, err
}

// removeEmptyQgroups drops the groups of freed subvolumes. Only commits take freed extents off their groups, and only an
// empty group can go: one whose bytes a snapshot still holds stays (EBUSY), and a full filesystem may have no room to forget
// one. Newer kernels have dropped it already (ENOENT); without quotas there is none (ENOTCONN).
func removeEmptyQgroups(cx context.Context, fd int, subvolumes []uint64) error {
	for range qgroupCommits {
		if err := ioctl(fd, iocSync, new(uint64)); err != nil {
			return err
		}
		var held []uint64
		for _, id := range subvolumes {
			switch err := ioctl(fd, iocQgroupCreate, &qgroupCreateArgs{create: 0, qgroup: id}); err {
			case nil, unix.ENOENT:
			case unix.ENOTCONN:
				return nil
			case unix.EBUSY, unix.ENOSPC:
				held = append(held, id)
			default:
				return err
			}
		}
		if subvolumes = held; len(held) == 0 {
			return nil
		}
		select {
		case <-cx.Done():
			return cx.Err()
		case <-time.After(cleanerPollMin):
		}
	}
	return nil
}
