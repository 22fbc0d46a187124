// Command probe tries, from inside a sandbox, what must not work there, and uses up what others need. The tests push it
// into a workspace; nothing that is shipped contains it. No attempt does harm where it succeeds: whatever it changes it
// puts back, and where that is impossible it only goes as far as the kernel's permission check.
//
//	probe try NAME[=ARGUMENT]...   one JSON line an attempt
//	probe hog NAME [LIMIT]         takes all there is of a resource, says so in one JSON line, holds it until killed
//	probe use NAME COUNT           takes some of a resource, says so in one JSON line, gives it back
//	probe look                     what can be seen of the surroundings, one JSON document
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	exitFailed = 1
	exitUsage  = 2
	// attemptLimit is how long one attempt may take.
	attemptLimit = 10 * time.Second
	// holdLimit is how long a hog holds what it took.
	holdLimit = time.Hour
	// messageLimitBytes bounds what an attempt says.
	messageLimitBytes = 4 << 10
)

type outcome struct {
	Attempt   string `json:"attempt"`
	Succeeded bool   `json:"succeeded"`
	// Detail says how it was refused, or what succeeded.
	Detail string `json:"detail"`
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	arguments := os.Args[2:]
	switch os.Args[1] {
	case "try":
		tryAll(arguments)
	case "attempt":
		if len(arguments) != 1 {
			usage()
		}
		tryHere(arguments[0])
	case "hog", "use":
		if len(arguments) < 1 || len(arguments) > 2 || hogs[arguments[0]] == nil {
			usage()
		}
		take(arguments[0], append(arguments, "0")[1])
		if os.Args[1] == "hog" {
			time.Sleep(holdLimit)
		}
		for _, give := range giveBack {
			give()
		}
	case "look":
		look()
	default:
		usage()
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: probe try NAME[=ARGUMENT]... | hog NAME [LIMIT] | use NAME COUNT | look")
	os.Exit(exitUsage)
}

// tryAll runs each attempt in a process of its own: one that is killed, or kills, is an outcome like others.
func tryAll(attempts []string) {
	self, err := os.Executable()
	if err != nil {
		fail(err)
	}
	for _, wanted := range attempts {
		name, _, _ := strings.Cut(wanted, "=")
		if known[name] == nil {
			fail(fmt.Errorf("no attempt is called %s", name))
		}
		say(tryApart(self, wanted))
	}
}

func tryApart(self, wanted string) outcome {
	command := exec.Command(self, "attempt", wanted)
	var output, errors strings.Builder
	command.Stdout, command.Stderr = &output, &errors
	if err := command.Start(); err != nil {
		fail(err)
	}
	late := time.AfterFunc(attemptLimit, func() { _ = command.Process.Kill() })
	defer late.Stop()
	err := command.Wait()
	detail := clip(output.String() + errors.String())
	if err == nil {
		return outcome{wanted, true, detail}
	}
	if detail == "" {
		detail = err.Error()
	}
	return outcome{wanted, false, detail}
}

func tryHere(wanted string) {
	name, argument, _ := strings.Cut(wanted, "=")
	try := known[name]
	if try == nil {
		usage()
	}
	detail, err := try(argument)
	if err != nil {
		fail(err)
	}
	fmt.Print(detail)
}

var errNothing = errors.New("there is nothing to see")

func clip(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > messageLimitBytes {
		return text[:messageLimitBytes]
	}
	return text
}

func say(document any) {
	text, err := json.Marshal(document)
	if err != nil {
		fail(err)
	}
	fmt.Println(string(text))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(exitFailed)
}
