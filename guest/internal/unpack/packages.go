package unpack

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// databaseLimitBytes bounds what is read of a package database.
	databaseLimitBytes = 64 << 20
	packagesLimit      = 100_000
	packageLimitBytes  = 256
)

// readPackages lists what dpkg or apk installed; none is no error, a strange database neither.
func readPackages(root int) ([]Package, error) {
	for _, database := range []struct {
		path  string
		parse func(io.Reader) []Package
	}{{"var/lib/dpkg/status", parseDpkg}, {"lib/apk/db/installed", parseApk}} {
		fd, err := unix.Openat(root, database.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open /%s: %w", database.path, err)
		}
		file := os.NewFile(uintptr(fd), database.path)
		info, err := file.Stat()
		var found []Package
		if err == nil && info.Mode().IsRegular() {
			found = database.parse(io.LimitReader(file, databaseLimitBytes))
		}
		file.Close()
		if err != nil {
			return nil, err
		}
		if found != nil {
			return found, nil
		}
	}
	return []Package{}, nil
}

func parseDpkg(from io.Reader) []Package {
	return parseStanzas(from, func(current *stanza, line string) {
		switch {
		case strings.HasPrefix(line, "Package: "):
			current.Name = line[len("Package: "):]
		case strings.HasPrefix(line, "Version: "):
			current.Version = line[len("Version: "):]
		case strings.HasPrefix(line, "Status: "):
			current.absent = !strings.HasSuffix(line, " installed")
		}
	})
}

func parseApk(from io.Reader) []Package {
	return parseStanzas(from, func(current *stanza, line string) {
		switch {
		case strings.HasPrefix(line, "P:"):
			current.Name = line[2:]
		case strings.HasPrefix(line, "V:"):
			current.Version = line[2:]
		}
	})
}

type stanza struct {
	Package
	absent bool
}

func parseStanzas(from io.Reader, field func(current *stanza, line string)) []Package {
	var found []Package
	var current stanza
	end := func() {
		usable := current.Name != "" && !current.absent && len(current.Name) <= packageLimitBytes &&
			len(current.Version) <= packageLimitBytes && len(found) < packagesLimit
		if usable {
			current.Name = strings.ToValidUTF8(current.Name, "\uFFFD")
			current.Version = strings.ToValidUTF8(current.Version, "\uFFFD")
			found = append(found, current.Package)
		}
		current = stanza{}
	}
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		line = strings.TrimRight(line, "\n")
		if line == "" {
			end()
		} else {
			field(&current, line)
		}
		if err != nil {
			end()
			return found
		}
	}
}
