package archive

import (
	"archive/tar"
	"strconv"
	"strings"

	"pyro.dev/agent/internal/message"
)

const (
	// componentLimitBytes is NAME_MAX of every filesystem we write to.
	componentLimitBytes = 255
	// linkTargetLimitBytes is PATH_MAX without its end.
	linkTargetLimitBytes = 4095
)

// refuse names the entry in the message and in data.
func refuse(kind message.ErrorKind, name, format string, args ...any) error {
	quoted := strconv.QuoteToGraphic(message.Clip(name, 512))
	err := message.Errorf(kind, format, append([]any{quoted}, args...)...)
	err.Data = map[string]any{"entry": message.Clip(name, 4096)}
	return err
}

// cleanName checks the name of an entry and gives it without "./" and slashes at the end; "" is the root itself.
func cleanName(name string, limitBytes int64) (string, error) {
	if int64(len(name)) > limitBytes {
		return "", refuse(message.KindTooLarge, name, "the path of %s is longer than %d bytes", limitBytes)
	}
	if strings.HasPrefix(name, "/") {
		return "", refuse(message.KindUnsafeEntry, name, "the path of %s is absolute")
	}
	if strings.ContainsRune(name, 0) {
		return "", refuse(message.KindUnsafeEntry, name, "the path of %s holds a zero byte")
	}
	if isClean(name) {
		return name, nil
	}
	kept := make([]string, 0, 16)
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return "", refuse(message.KindUnsafeEntry, name, "the path of %s leads upwards")
		case len(part) > componentLimitBytes:
			return "", refuse(message.KindTooLarge, name, "a part of the path of %s is longer than %d bytes", componentLimitBytes)
		default:
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "/"), nil
}

// isClean is the usual case, told without allocating.
func isClean(name string) bool {
	start := 0
	for at := 0; at <= len(name); at++ {
		if at < len(name) && name[at] != '/' {
			continue
		}
		part := name[start:at]
		if part == "" || part == "." || part == ".." || len(part) > componentLimitBytes {
			return false
		}
		start = at + 1
	}
	return true
}

// staysInside tells whether a symlink at path, read by names alone, points below the root. root is where the root of
// the archive will lie, for absolute targets.
func staysInside(path, target, root string) bool {
	var depth int
	if strings.HasPrefix(target, "/") {
		rest, below := strings.CutPrefix(target, strings.TrimSuffix(root, "/"))
		if !below || rest != "" && rest[0] != '/' {
			return false
		}
		target = rest
	} else {
		depth = strings.Count(path, "/")
	}
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return false
			}
		default:
			depth++
		}
	}
	return true
}

func kindName(flag byte) string {
	switch flag {
	case tar.TypeChar:
		return "a character device"
	case tar.TypeBlock:
		return "a block device"
	case tar.TypeFifo:
		return "a FIFO"
	}
	return "of type " + strconv.QuoteRune(rune(flag))
}
