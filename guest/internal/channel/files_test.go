package channel

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"

	"pyro.dev/agent/internal/files"
	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/http2"
	"pyro.dev/agent/internal/message"
)

// recorded is an answer that nobody sends.
type recorded struct {
	Code int
	Type string
	Body bytes.Buffer
}

func (r *recorded) Begin(status int, kind string)   { r.Code, r.Type = status, kind }
func (r *recorded) Write(piece []byte) (int, error) { return r.Body.Write(piece) }
func (r *recorded) Flush() error                    { return nil }

// serveWith answers one request without a link.
func serveWith(t *testing.T, handler http2.Handler, path string, body io.Reader) *recorded {
	t.Helper()
	answer := &recorded{Code: http.StatusOK}
	handler(answer, &http2.Request{Method: http.MethodPost, Path: path, Body: body, Context: t.Context()})
	return answer
}

// post serves one request for files.
func post(t *testing.T, path string, body io.Reader) *recorded {
	t.Helper()
	return serveWith(t, Routes(nil, nil, log.New(io.Discard, "", 0)), path, body)
}

func wantError(t *testing.T, answer *recorded, status int, kind message.ErrorKind) *message.Error {
	t.Helper()
	var body message.ErrorBody
	if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil || body.Error == nil {
		t.Fatalf("status %d, body %.200q: %v", answer.Code, &answer.Body, err)
	}
	if answer.Code != status || body.Error.Kind != kind {
		t.Fatalf("got %d %s (%s), want %d %s", answer.Code, body.Error.Kind, body.Error.Message, status, kind)
	}
	return body.Error
}

func TestAFileIsWrittenAndReadBackOverTheRoutes(t *testing.T) {
	root := t.TempDir()
	for _, size := range []int{0, 1, 2, 3, 100_000, files.FileLimitBytes} {
		content := bytes.Repeat([]byte{0, 0xff, 'a', '\n', 7}, size/5+1)[:size]
		written := post(t, "/v1/files/write", strings.NewReader(fmt.Sprintf(
			`{"root":%q,"path":"f","dataBase64":%q,"mode":null,"oldTextBase64":null,"replaceAll":false}`,
			root, base64.StdEncoding.EncodeToString(content))))
		if written.Code != http.StatusOK {
			t.Fatalf("%d bytes: got %d %s", size, written.Code, &written.Body)
		}
		answer := post(t, "/v1/files/read", strings.NewReader(fmt.Sprintf(
			`{"root":%q,"path":"f","startLine":null,"maxLines":null,"offset":0,"maxBytes":%d}`, root, files.FileLimitBytes)))
		var result message.ReadFileResult
		if err := message.Decode(&answer.Body, 1<<30, &result); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(result.DataBase64, content) || result.SizeBytes != int64(size) || result.More {
			t.Errorf("%d bytes: read %d of %d", size, len(result.DataBase64), result.SizeBytes)
		}
	}
}

func TestEmptyTextToReplaceIsNotTheAbsenceOfOne(t *testing.T) {
	root := t.TempDir()
	request := `{"root":%q,"path":"f","dataBase64":"","mode":null,"oldTextBase64":%s,"replaceAll":false}`
	wantError(t, post(t, "/v1/files/write", strings.NewReader(fmt.Sprintf(request, root, `""`))), 400, message.KindInvalid)
	if answer := post(t, "/v1/files/write", strings.NewReader(fmt.Sprintf(request, root, "null"))); answer.Code != http.StatusOK {
		t.Errorf("got %d %s", answer.Code, &answer.Body)
	}
}

func TestRequestsForFilesThatAreNotUnderstoodAreRefused(t *testing.T) {
	for path, bodies := range map[string][]string{
		"/v1/files/read":  {"", "null5", "{", `{"root":"/","path":"x","maxBytes":1,"more":1}`, `{"maxBytes":"1"}`, `{} {}`},
		"/v1/files/write": {"", `{"dataBase64":"%"}`, `{"dataBase64":7}`, `{"unknown":1}`},
	} {
		for _, body := range bodies {
			wantError(t, post(t, path, strings.NewReader(body)), 400, message.KindInvalid)
		}
	}
	huge := io.MultiReader(strings.NewReader(`{"dataBase64":"`), strings.NewReader(strings.Repeat("A", writeRequestBytes)))
	wantError(t, post(t, "/v1/files/write", huge), 429, message.KindLimit)
	answer := post(t, "/v1/files/write", strings.NewReader(`{"root":"/proc","path":"../f","dataBase64":""}`))
	wantError(t, answer, 400, message.KindOutsideRoot)
}

// pushBody is the body of an extract, in data frames of the given size.
func pushBody(t *testing.T, input message.ExtractInput, archive []byte, size int) []byte {
	t.Helper()
	var body bytes.Buffer
	if err := frames.WriteJSON(&body, frames.Input, input); err != nil {
		t.Fatal(err)
	}
	for len(archive) > 0 {
		n := min(size, len(archive))
		if err := frames.Write(&body, frames.Data, archive[:n]); err != nil {
			t.Fatal(err)
		}
		archive = archive[n:]
	}
	if err := frames.Write(&body, frames.Data, nil); err != nil {
		t.Fatal(err)
	}
	return body.Bytes()
}

func smallArchive(t *testing.T) []byte {
	t.Helper()
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	content := "content"
	if err := writer.WriteHeader(&tar.Header{Name: "a/f", Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func pushInput(dest string) message.ExtractInput {
	return message.ExtractInput{Dest: dest, Limits: message.ArchiveLimits{Entries: 100, Bytes: 1 << 20, PathBytes: 4096}}
}

func TestAnArchiveIsPushedInFramesOfAnySize(t *testing.T) {
	for _, size := range []int{1, 511, 512, 1 << 20} {
		dest := t.TempDir() + "/new"
		answer := post(t, "/v1/files/extract", bytes.NewReader(pushBody(t, pushInput(dest), smallArchive(t), size)))
		if answer.Code != http.StatusOK || answer.Type != frames.ContentType {
			t.Fatalf("got %d %s", answer.Code, &answer.Body)
		}
		kind, payload, err := frames.NewReader(&answer.Body).Next()
		if err != nil || kind != frames.Result || string(payload) != `{"files":1,"bytes":7,"deleted":0}` {
			t.Errorf("got frame %d %s %v", kind, payload, err)
		}
		if content, err := os.ReadFile(dest + "/a/f"); err != nil || string(content) != "content" {
			t.Errorf("got %q %v", content, err)
		}
	}
}

func TestAnExtractCutAnywhereLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	body := pushBody(t, pushInput(parent+"/dest"), smallArchive(t), 700)
	// The long runs of zeros of the blocks are all alike.
	for at := 0; at < len(body); at += 1 + bytes.Count(body[at:min(at+64, len(body))], []byte{0})/2 {
		answer := post(t, "/v1/files/extract", bytes.NewReader(body[:at]))
		wantError(t, answer, 400, message.KindTruncated)
		if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
			t.Fatalf("cut at %d: left %v %v", at, entries, err)
		}
	}
}

func TestAnExtractThatBeginsWrongIsRefused(t *testing.T) {
	var wrongType, wrongInput bytes.Buffer
	if err := frames.Write(&wrongType, frames.Data, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := frames.Write(&wrongInput, frames.Input, []byte(`{"dest":"/x","unknown":1}`)); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]io.Reader{
		"data": &wrongType, "unknown field": &wrongInput, "no frames": strings.NewReader("\x7f\x00\x00\x00\x00"),
	} {
		if problem := wantError(t, post(t, "/v1/files/extract", body), 400, message.KindInvalid); problem.Message == "" {
			t.Errorf("%s: no message", name)
		}
	}
}

func TestFramesThatDoNotBelongIntoAnArchiveEndIt(t *testing.T) {
	dest := t.TempDir()
	var body bytes.Buffer
	if err := frames.WriteJSON(&body, frames.Input, pushInput(dest)); err != nil {
		t.Fatal(err)
	}
	if err := frames.Write(&body, frames.Stdout, smallArchive(t)); err != nil {
		t.Fatal(err)
	}
	wantError(t, post(t, "/v1/files/extract", &body), 400, message.KindTruncated)
	if entries, err := os.ReadDir(dest); err != nil || len(entries) > 0 {
		t.Errorf("left %v %v", entries, err)
	}
}
