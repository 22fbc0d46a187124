// Package pattern has regular expressions that are compiled when they are first used: the agent begins in every sandbox, where code is
// translated it takes milliseconds for each, and most sandboxes never match one.
package pattern

import (
	"regexp"
	"sync"
)

// Lazy gives the expression. It panics like regexp.MustCompile, when it is first asked.
func Lazy(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
