package message_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"pyro.dev/agent/internal/goldentest"
	"pyro.dev/agent/internal/message"
)

func TestRequestsAreThoseOfTheProtocol(t *testing.T) {
	goldentest.Decodes[message.AgentConfig](t, "agent-config", "protocol is a number")
	goldentest.Decodes[message.StartCommand](t, "start-command")
	goldentest.Decodes[message.AttachCommand](t, "attach-command")
	goldentest.Decodes[message.SignalCommand](t, "signal-command")
	goldentest.Decodes[message.ReleaseCommands](t, "release-commands")
	goldentest.Decodes[message.ReadFile](t, "read-file")
	goldentest.Decodes[message.WriteFile](t, "write-file")
	goldentest.Decodes[message.ExtractInput](t, "extract-input")
	goldentest.Decodes[message.ArchiveLimits](t, "archive-limits")
	goldentest.Decodes[message.SetClock](t, "set-clock")
}

func TestAnswersAreThoseOfTheProtocol(t *testing.T) {
	goldentest.RoundTrips[message.Hello](t, "hello")
	goldentest.RoundTrips[message.Thawed](t, "thawed")
	goldentest.RoundTrips[message.ClockReading](t, "clock-reading")
	goldentest.RoundTrips[message.ClockSet](t, "clock-set")
	goldentest.RoundTrips[message.AgentStatus](t, "agent-status")
	goldentest.RoundTrips[message.Started](t, "command-event", "form 1")
	goldentest.RoundTrips[message.Attached](t, "command-event", "form 2")
	goldentest.RoundTrips[message.CommandExit](t, "command-exit")
	goldentest.RoundTrips[message.CommandListing](t, "command-listing")
	goldentest.RoundTrips[message.StartError](t, "command-start-error")
	goldentest.RoundTrips[message.ReadFileResult](t, "read-file-result")
	goldentest.RoundTrips[message.WriteFileResult](t, "write-file-result")
	goldentest.RoundTrips[message.ExtractResult](t, "extract-result")
	goldentest.RoundTrips[message.Progress](t, "guest-progress")
	goldentest.RoundTrips[message.Error](t, "agent-error", "as little")
	goldentest.RoundTrips[message.ErrorBody](t, "agent-error-body", "as little")
	goldentest.RoundTrips[message.ErrorKind](t, "agent-error-kind")
}

// TestEveryFixtureIsReadBySomeTest names who reads those that are not read above.
func TestEveryFixtureIsReadBySomeTest(t *testing.T) {
	elsewhere := map[string]string{
		"frames": "frames", "monitor-spec": "monitor", "monitor-status": "monitor", "monitor-exit": "monitor",
		"populate-input": "populate", "populate-result": "populate", "unpack-input": "unpack", "unpack-result": "unpack",
		"id-mapping": "populate", "workspace-identity": "populate", "launch-spec": "launch", "machine-config": "machine", "machine-filesystem": "machine", "vmm-spec": "vmm", "image-input": "image", "imprint-input": "image", "inspect-input": "inspect", "inspect-entry": "inspect", "inspect-entries": "inspect",
		"inspect-file-type": "inspect", "diff-summary": "inspect", "export-summary": "inspect", "image-unreadable": "inspect", "image-identity": "inspect",
	}
	here, err := os.ReadFile("message_test.go")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(goldentest.Folder(), "*.json"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if elsewhere[name] == "" && !bytes.Contains(here, []byte(fmt.Sprintf("(t, %q", name))) {
			t.Errorf("%s is read by no test", name)
		}
	}
}

func TestTheKindsOfErrorsAreThoseOfTheProtocol(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(goldentest.Folder(), "agent-error-kind.json"))
	if err != nil {
		t.Fatal(err)
	}
	var fixture struct {
		Schema struct {
			Enum []message.ErrorKind `json:"enum"`
		} `json:"schema"`
	}
	if err := json.Unmarshal(text, &fixture); err != nil {
		t.Fatal(err)
	}
	ours := []message.ErrorKind{
		message.KindInvalid, message.KindExists, message.KindNotFound, message.KindNotAFile, message.KindOutsideRoot,
		message.KindTextMismatch, message.KindLimit, message.KindNoSpace, message.KindUnsafeEntry, message.KindTooLarge,
		message.KindTruncated, message.KindFailed,
	}
	if !slices.Equal(fixture.Schema.Enum, ours) {
		t.Errorf("the protocol has %v, we have %v", fixture.Schema.Enum, ours)
	}
}

func TestADocumentIsReadWholeAndAlone(t *testing.T) {
	for text, kind := range map[string]message.ErrorKind{
		`{"cursor":1}`: "", " {\"cursor\":1}\n\t ": "",
		`{"cursor":1}{"cursor":2}`: message.KindInvalid, `{"cursor":1} x`: message.KindInvalid, `{"cursor":1`: message.KindInvalid,
		``: message.KindInvalid, `{"cursor":1,"more":2}`: message.KindInvalid, `[]`: message.KindInvalid,
		`{"cursor":1}` + strings.Repeat(" ", 100):                         message.KindTooLarge,
		`{"cursor":` + strings.Repeat("1", 100) + `}`:                     message.KindTooLarge,
		`{"` + strings.Repeat("x", 100) + `":1}`:                          message.KindTooLarge,
		strings.Repeat("[", 64):                                           message.KindInvalid,
		`{"cursor":` + strings.Repeat(" ", 64-len(`{"cursor":1}`)) + `1}`: "",
	} {
		var into message.AttachCommand
		err := message.Decode(iotest.OneByteReader(strings.NewReader(text)), 64, &into)
		switch {
		case kind == "" && (err != nil || into.Cursor != 1):
			t.Errorf("%q: got %+v %v", text, into, err)
		case kind != "" && (err == nil || message.AsError(err).Kind != kind):
			t.Errorf("%q: got %v, want %s", text, err, kind)
		}
	}
	var into message.AttachCommand
	if err := message.Decode(iotest.ErrReader(io.ErrUnexpectedEOF), 64, &into); message.AsError(err).Kind != message.KindInvalid {
		t.Errorf("got %v", err)
	}
}

func TestErrorsAreSentAsTheyAreMeant(t *testing.T) {
	own := message.Errorf(message.KindNotFound, "no %d", 7)
	if sent := message.AsError(fmt.Errorf("around: %w", own)); sent != own || sent.Error() != "no 7" {
		t.Errorf("got %+v", sent)
	}
	if sent := message.AsError(errors.New("other")); sent.Kind != message.KindFailed || sent.Message != "other" {
		t.Errorf("got %+v", sent)
	}
	if sent := message.Errorf(message.KindFailed, "%s", strings.Repeat("ü", 5000)); len(sent.Message) > 4096 || !utf8.ValidString(sent.Message) {
		t.Errorf("the message has %d bytes", len(sent.Message))
	}
}

func TestClippedTextIsValidAndShort(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"aü", 2, "a"}, {"üü", 3, "ü"}, {"a\xffb", 10, "a\uFFFDb"}, {"𝄞", 3, ""}, {"", 0, ""},
		{"\xff\xff", 2, ""}, {"abc", 0, ""},
	} {
		if got := message.Clip(c.text, c.limit); got != c.want {
			t.Errorf("%q to %d: got %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"agent-config", "start-command", "write-file", "extract-input"} {
		fixture := goldentest.Read(f, name)
		for _, sample := range append(fixture.Valid, fixture.Invalid...) {
			if len(sample.Value) < 2048 {
				f.Add([]byte(sample.Value))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, into := range []any{
			&message.AgentConfig{}, &message.StartCommand{}, &message.WriteFile{}, &message.ExtractInput{}, &message.ReadFile{},
		} {
			err := message.Decode(bytes.NewReader(text), 1024, into)
			if err == nil && (len(text) > 1024 || !json.Valid(text)) {
				t.Errorf("%T takes %q", into, text)
			}
			if err != nil && !utf8.ValidString(message.AsError(err).Message) {
				t.Errorf("the message %q is no text", err)
			}
		}
	})
}

func FuzzClip(f *testing.F) {
	f.Add("a\xff𝄞", 3)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 0 {
			return
		}
		if got := message.Clip(text, limit); len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("%q to %d: got %q", text, limit, got)
		}
	})
}
