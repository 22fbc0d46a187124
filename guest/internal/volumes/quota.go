package volumes

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags of the status item of the quota tree.
const (
	quotaFlagOn     = 1 << 0
	quotaFlagSimple = 1 << 3
)

type quotaMode struct {
	Mode string `json:"mode"`
}

func quotaEnable(cx context.Context, s *server, in *pathInput) (quotaMode, error) {
	fd, err := openDirectory(in.Path)
	if err != nil {
		return quotaMode{}, err
	}
	defer unix.Close(fd)
	mode, err := readQuotaMode(fd)
	if err != nil || mode != "off" {
		return quotaMode{Mode: mode}, failure("read the quota mode of", in.Path, err)
	}
	if err := ioctl(fd, iocQuotaCtl, &quotaCtlArgs{command: quotaEnableSimple}); err != nil {
		if err == unix.EINVAL {
			return quotaMode{}, unsupported("this kernel has no simple quotas (6.7 or later)")
		}
		return quotaMode{}, failure("enable simple quotas on", in.Path, err)
	}
	return quotaMode{Mode: "simple"}, nil
}

func quotaStatus(_ context.Context, _ *server, in *pathInput) (quotaMode, error) {
	fd, err := openDirectory(in.Path)
	if err != nil {
		return quotaMode{}, err
	}
	defer unix.Close(fd)
	mode, err := readQuotaMode(fd)
	return quotaMode{Mode: mode}, failure("read the quota mode of", in.Path, err)
}

func readQuotaMode(fd int) (string, error) {
	mode := "off"
	err := searchTree(fd, span{quotaTree, 0, 0, typeQgroupStatus, typeQgroupStatus}, func(found item) error {
		if len(found.body) < 24 {
			return nil
		}
		flags := binary.LittleEndian.Uint64(found.body[16:])
		switch {
		case flags&quotaFlagOn == 0:
		case flags&quotaFlagSimple != 0:
			mode = "simple"
		default:
			mode = "full"
		}
		return nil
	})
	if err == unix.ENOENT {
		return "off", nil
	}
	return mode, err
}

type qgroupInput struct {
	header
	Path   string  `json:"path"`
	Qgroup *string `json:"qgroup"`
}

func (in qgroupInput) check() error { return checkPath("path", in.Path) }

func qgroupCreate(_ context.Context, _ *server, in *qgroupInput) (empty, error) {
	return changeQgroup(in, 1)
}

func qgroupRemove(_ context.Context, _ *server, in *qgroupInput) (empty, error) {
	return changeQgroup(in, 0)
}

func changeQgroup(in *qgroupInput, create uint64) (empty, error) {
	if in.Qgroup == nil {
		return empty{}, invalid("qgroup: is required")
	}
	fd, group, err := openQgroup(in.Path, in.Qgroup)
	if err != nil {
		return empty{}, err
	}
	defer unix.Close(fd)
	action := "remove qgroup"
	if create == 1 {
		action = "create qgroup"
	}
	return empty{}, failure(action, *in.Qgroup, ioctl(fd, iocQgroupCreate, &qgroupCreateArgs{create, group}))
}

type assignInput struct {
	header
	Path   string `json:"path"`
	Child  string `json:"child"`
	Parent string `json:"parent"`
}

func (in assignInput) check() error { return checkPath("path", in.Path) }

func qgroupAssign(_ context.Context, _ *server, in *assignInput) (empty, error) {
	return relateQgroups(in, 1)
}

func qgroupUnassign(_ context.Context, _ *server, in *assignInput) (empty, error) {
	return relateQgroups(in, 0)
}

func relateQgroups(in *assignInput, assign uint64) (empty, error) {
	child, err := parseQgroup(in.Child)
	if err != nil {
		return empty{}, err
	}
	parent, err := parseQgroup(in.Parent)
	if err != nil {
		return empty{}, err
	}
	fd, err := openDirectory(in.Path)
	if err != nil {
		return empty{}, err
	}
	defer unix.Close(fd)
	err = ioctl(fd, iocQgroupAssign, &qgroupAssignArgs{assign, child, parent})
	return empty{}, failure("relate qgroup", in.Child+" to "+in.Parent, err)
}

type limitInput struct {
	header
	Path            string  `json:"path"`
	Qgroup          *string `json:"qgroup"`
	ReferencedBytes *uint64 `json:"referencedBytes"`
}

func (in limitInput) check() error { return checkPath("path", in.Path) }

func qgroupLimit(_ context.Context, _ *server, in *limitInput) (empty, error) {
	fd, group, err := openQgroup(in.Path, in.Qgroup)
	if err != nil {
		return empty{}, err
	}
	defer unix.Close(fd)
	args := &qgroupLimitArgs{qgroup: group}
	args.limit.flags = limitMaxReferenced
	// All ones take a limit away; a zero would be a limit of nothing.
	args.limit.maxReferenced = ^uint64(0)
	if in.ReferencedBytes != nil {
		args.limit.maxReferenced = *in.ReferencedBytes
	}
	return empty{}, failure("limit the qgroup of", in.Path, ioctl(fd, iocQgroupLimit, args))
}

type usage struct {
	ReferencedBytes uint64  `json:"referencedBytes"`
	ExclusiveBytes  uint64  `json:"exclusiveBytes"`
	LimitBytes      *uint64 `json:"limitBytes"`
}

func qgroupUsage(_ context.Context, _ *server, in *qgroupInput) (usage, error) {
	fd, group, err := openQgroup(in.Path, in.Qgroup)
	if err != nil {
		return usage{}, err
	}
	defer unix.Close(fd)
	if found, err := liveUsage(fd, group); err == nil {
		return found, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return usage{}, failure("read the usage of", in.Path, err)
	}
	groups, err := readQgroups(fd)
	if err != nil {
		return usage{}, failure("list qgroups of", in.Path, err)
	}
	found, known := groups[group]
	if !known {
		return usage{}, notFound("no qgroup " + formatQgroup(group))
	}
	return found.usage, nil
}

type qgroupEntry struct {
	Qgroup string `json:"qgroup"`
	usage
	Parents []string `json:"parents"`
}

type qgroupsResult struct {
	Qgroups []*qgroupEntry `json:"qgroups"`
}

func qgroupList(_ context.Context, _ *server, in *pathInput) (qgroupsResult, error) {
	fd, err := openDirectory(in.Path)
	if err != nil {
		return qgroupsResult{}, err
	}
	defer unix.Close(fd)
	groups, err := readQgroups(fd)
	if err != nil {
		return qgroupsResult{}, failure("list qgroups of", in.Path, err)
	}
	ids := make([]uint64, 0, len(groups))
	for id := range groups {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(a, b int) bool { return ids[a] < ids[b] })
	result := qgroupsResult{Qgroups: make([]*qgroupEntry, 0, len(ids))}
	for _, id := range ids {
		if live, err := liveUsage(fd, id); err == nil {
			groups[id].usage = live
		}
		result.Qgroups = append(result.Qgroups, groups[id])
	}
	return result, nil
}

// readQgroups reads the quota tree: complete, but its figures are those of the last commit.
func readQgroups(fd int) (map[uint64]*qgroupEntry, error) {
	groups := map[uint64]*qgroupEntry{}
	all := span{quotaTree, 0, ^uint64(0), typeQgroupInfo, typeQgroupRelation}
	err := searchTree(fd, all, func(found item) error {
		body := found.body
		switch {
		case found.kind == typeQgroupInfo && len(body) >= 40:
			groups[found.offset] = &qgroupEntry{
				Qgroup: formatQgroup(found.offset),
				usage: usage{
					ReferencedBytes: binary.LittleEndian.Uint64(body[8:]),
					ExclusiveBytes:  binary.LittleEndian.Uint64(body[24:]),
				},
				Parents: []string{},
			}
		case found.kind == typeQgroupLimit && len(body) >= 16:
			group := groups[found.offset]
			limit := binary.LittleEndian.Uint64(body[8:])
			if group != nil && binary.LittleEndian.Uint64(body)&limitMaxReferenced != 0 && limit != ^uint64(0) {
				group.LimitBytes = &limit
			}
		case found.kind == typeQgroupRelation && found.object < found.offset:
			// Each relation stands twice, as child→parent and parent→child; parents have the higher level.
			if group := groups[found.object]; group != nil {
				group.Parents = append(group.Parents, formatQgroup(found.offset))
			}
		}
		return nil
	})
	if err == unix.ENOENT {
		return groups, nil
	}
	return groups, err
}

// liveUsage reads the kernel's current figures, which the quota tree follows only at each commit.
func liveUsage(fd int, group uint64) (usage, error) {
	info := &fsInfoArgs{}
	if err := ioctl(fd, iocFsInfo, info); err != nil {
		return usage{}, err
	}
	folder := filepath.Join("/sys/fs/btrfs", formatUUID(info.fsid), "qgroups",
		fmt.Sprintf("%d_%d", group>>48, group&(1<<48-1)))
	var found usage
	var limit, flags uint64
	for name, into := range map[string]*uint64{
		"referenced": &found.ReferencedBytes, "exclusive": &found.ExclusiveBytes,
		"max_referenced": &limit, "limit_flags": &flags,
	} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return usage{}, err
		}
		if *into, err = strconv.ParseUint(strings.TrimSpace(string(text)), 0, 64); err != nil {
			return usage{}, err
		}
	}
	if flags&limitMaxReferenced != 0 && limit != ^uint64(0) {
		found.LimitBytes = &limit
	}
	return found, nil
}

// openQgroup opens path and names the group: the given one, or that of the subvolume at path.
func openQgroup(path string, name *string) (int, uint64, error) {
	if name != nil {
		group, err := parseQgroup(*name)
		if err != nil {
			return -1, 0, err
		}
		fd, err := openDirectory(path)
		return fd, group, err
	}
	fd, err := openSubvolume(path)
	if err != nil {
		return -1, 0, err
	}
	info, err := subvolumeInfo(fd)
	if err != nil {
		unix.Close(fd)
		return -1, 0, failure("look at subvolume", path, err)
	}
	return fd, info.treeID, nil
}

func parseQgroup(text string) (uint64, error) {
	level, id, split := strings.Cut(text, "/")
	high, err := strconv.ParseUint(level, 10, 16)
	low, errLow := strconv.ParseUint(id, 10, 48)
	if !split || err != nil || errLow != nil {
		return 0, invalid(fmt.Sprintf("not a qgroup: %q", text))
	}
	return high<<48 | low, nil
}

func formatQgroup(group uint64) string {
	return fmt.Sprintf("%d/%d", group>>48, group&(1<<48-1))
}
