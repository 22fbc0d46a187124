package gitpatch

import "strings"

// Quote gives a name as git does with core.quotePath on: as it is, or in double quotes with C escapes. A folder that ends
// with a space is quoted as well: git writes it bare into the first line of a section and then cannot read it there, which
// matters for empty files, modes and binaries, whose sections name the file nowhere else.
func Quote(name string) string {
	plain := !strings.Contains(name, " /")
	for at := 0; at < len(name) && plain; at++ {
		plain = !needsQuotes(name[at])
	}
	if plain {
		return name
	}
	var quoted strings.Builder
	quoted.WriteByte('"')
	for at := 0; at < len(name); at++ {
		c := name[at]
		switch {
		case c == '"' || c == '\\':
			quoted.WriteByte('\\')
			quoted.WriteByte(c)
		case !needsQuotes(c):
			quoted.WriteByte(c)
		case c >= '\a' && c <= '\r':
			quoted.WriteByte('\\')
			quoted.WriteByte("abtnvfr"[c-'\a'])
		default:
			quoted.Write([]byte{'\\', '0' + c>>6, '0' + c>>3&7, '0' + c&7})
		}
	}
	quoted.WriteByte('"')
	return quoted.String()
}

func needsQuotes(c byte) bool { return c < ' ' || c == '"' || c == '\\' || c >= 0x7f }

// tabAfter ends a name that holds spaces, or what follows would be taken for a time.
func tabAfter(quoted string) string {
	if quoted[0] != '"' && strings.Contains(quoted, " ") {
		return "\t"
	}
	return ""
}

// Refused tells whether git takes no path with this part: whatever some filesystem would take for ".git".
func Refused(part string, symlink bool) bool {
	if part == "." || part == ".." || looksLike(part, ".git", "git~1") {
		return true
	}
	// Git reads this file itself and never through a link. NTFS may know it by other short names, too.
	return symlink && (looksLike(part, ".gitmodules", "gitmod~1") || hasShortName(part))
}

// looksLike compares as HFS+ does (without invisible characters) and as NTFS does (without dots and spaces at the end,
// or what names a stream; by the short name, too), without regard to case.
func looksLike(part, name, short string) bool {
	if strings.ToLower(strings.Map(dropInvisible, part)) == name {
		return true
	}
	part, _, _ = strings.Cut(strings.ToLower(part), ":")
	for one := range strings.SplitSeq(part, `\`) {
		one = strings.TrimRight(one, ". ")
		if one == name || one == short {
			return true
		}
	}
	return false
}

func hasShortName(part string) bool {
	part = strings.ToLower(part)
	return strings.HasPrefix(part, "gitmod~") || strings.HasPrefix(part, "gi7eb")
}

// dropInvisible removes what HFS+ ignores in names.
func dropInvisible(r rune) rune {
	switch {
	case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
		return -1
	}
	return r
}
