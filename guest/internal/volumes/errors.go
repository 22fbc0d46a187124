package volumes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	codeInvalid      = "invalid"
	codeNotFound     = "not-found"
	codeExists       = "exists"
	codeNoSpace      = "no-space"
	codeNotSupported = "not-supported"
	codePermission   = "permission"
	codeReadOnly     = "read-only"
	codeBusy         = "busy"
	codeMismatch     = "mismatch"
	codeTimedOut     = "timed-out"
	codeCancelled    = "cancelled"
	codeFailed       = "failed"
)

// opError is the wire form of a failure.
type opError struct {
	Code string `json:"code"`
	// Errno is the kernel's name of the error, null where it was not the kernel's.
	Errno   *string `json:"errno"`
	Message string  `json:"message"`
}

func (e *opError) Error() string { return e.Message }

func invalid(message string) *opError  { return &opError{Code: codeInvalid, Message: message} }
func mismatch(message string) *opError { return &opError{Code: codeMismatch, Message: message} }
func notFound(message string) *opError { return &opError{Code: codeNotFound, Message: message} }
func unsupported(message string) *opError {
	return &opError{Code: codeNotSupported, Message: message}
}

var codeOfErrno = map[unix.Errno]string{
	unix.EINVAL: codeInvalid, unix.ENAMETOOLONG: codeInvalid,
	unix.ENOENT: codeNotFound, unix.ENOTDIR: codeNotFound, unix.ENXIO: codeNotFound,
	unix.EEXIST: codeExists, unix.ENOTEMPTY: codeExists,
	unix.ENOSPC: codeNoSpace, unix.EDQUOT: codeNoSpace, unix.EFBIG: codeNoSpace,
	unix.ENOTTY: codeNotSupported, unix.EOPNOTSUPP: codeNotSupported, unix.ENOSYS: codeNotSupported,
	unix.EXDEV: codeNotSupported, unix.ENODEV: codeNotSupported,
	unix.EPERM: codePermission, unix.EACCES: codePermission,
	unix.EROFS: codeReadOnly,
	unix.EBUSY: codeBusy, unix.ETXTBSY: codeBusy, unix.EAGAIN: codeBusy,
	unix.ETIMEDOUT: codeTimedOut,
}

func asOpError(err error) *opError {
	var own *opError
	if errors.As(err, &own) {
		return own
	}
	if errors.Is(err, context.Canceled) {
		return &opError{Code: codeCancelled, Message: err.Error()}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &opError{Code: codeTimedOut, Message: err.Error()}
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		code, known := codeOfErrno[errno]
		if !known {
			code = codeFailed
		}
		name := unix.ErrnoName(errno)
		return &opError{Code: code, Errno: &name, Message: err.Error()}
	}
	return &opError{Code: codeFailed, Message: err.Error()}
}

// failure names what was tried on what; nil stays nil.
func failure(action, subject string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", action, subject, err)
}

// decodeStrict reads one request into its struct and refuses fields it does not know.
func decodeStrict(line []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return invalid("request: " + err.Error())
	}
	return nil
}

// checkPath refuses what cannot be a path made by the engine.
func checkPath(field, path string) error {
	if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
		return invalid(fmt.Sprintf("%s: not an absolute path: %q", field, path))
	}
	return nil
}
