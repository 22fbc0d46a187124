package volumes

import "context"

// operation answers one request; line is the whole request.
type operation func(cx context.Context, s *server, line []byte) (any, error)

// operations is the helper's vocabulary; docs/guest-protocol.md has one row for each.
var operations = map[string]operation{
	"host.probe":    handle(hostProbe),
	"statfs":        handle(statFilesystem),
	"reflink.probe": handle(reflinkProbe),

	"file.allocate": handle(fileAllocate),
	"file.identity": handle(fileIdentity),
	"loop.attach":   handle(loopAttach),
	"loop.find":     handle(loopFind),
	"loop.resize":   handle(loopResize),
	"loop.detach":   handle(loopDetach),

	"mount":      handle(mountFilesystem),
	"mount.bind": handle(mountBind),
	"mount.list": handle(mountList),
	"umount":     handle(unmount),

	"filesystem.resize": handle(filesystemResize),
	"filesystem.info":   handle(filesystemInfo),
	"filesystem.sync":   handle(filesystemSync),

	"subvolume.create":       handle(subvolumeCreate),
	"subvolume.snapshot":     handle(subvolumeSnapshot),
	"subvolume.flush":        handle(subvolumeFlush),
	"subvolume.delete":       handle(subvolumeDelete),
	"subvolume.set-readonly": handle(subvolumeSetReadonly),
	"subvolume.show":         handle(subvolumeShow),
	"subvolume.list":         handle(subvolumeList),
	"cleaner.wait":           handle(cleanerWait),

	"quota.enable":    handle(quotaEnable),
	"quota.status":    handle(quotaStatus),
	"qgroup.create":   handle(qgroupCreate),
	"qgroup.remove":   handle(qgroupRemove),
	"qgroup.assign":   handle(qgroupAssign),
	"qgroup.unassign": handle(qgroupUnassign),
	"qgroup.limit":    handle(qgroupLimit),
	"qgroup.usage":    handle(qgroupUsage),
	"qgroup.list":     handle(qgroupList),

	"tree.copy":   handle(treeCopy),
	"tree.delete": handle(treeDelete),
	"tree.usage":  handle(treeUsage),
	"tree.sync":   handle(treeSync),
}

// request is what every operation's input embeds.
type request interface{ check() error }

// empty is the result of an operation that has nothing to say.
type empty struct{}

func handle[In any, P interface {
	*In
	request
}, Out any](run func(cx context.Context, s *server, in P) (Out, error)) operation {
	return func(cx context.Context, s *server, line []byte) (any, error) {
		in := P(new(In))
		if err := decodeStrict(line, in); err != nil {
			return nil, err
		}
		if err := in.check(); err != nil {
			return nil, err
		}
		return run(cx, s, in)
	}
}

// noInput is the request of operations without fields.
type noInput struct{ header }

func (noInput) check() error { return nil }

// pathInput is the request of operations that take one path.
type pathInput struct {
	header
	Path string `json:"path"`
}

func (in pathInput) check() error { return checkPath("path", in.Path) }
