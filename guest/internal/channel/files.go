package channel

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"runtime/debug"

	"pyro.dev/agent/internal/archive"
	"pyro.dev/agent/internal/files"
	"pyro.dev/agent/internal/frames"
	"pyro.dev/agent/internal/http2"
	"pyro.dev/agent/internal/message"
)

const (
	// writeRequestBytes holds the largest file in base64 and some text to replace.
	writeRequestBytes = 2 * files.FileLimitBytes
	// fileRequests are served at a time, as each may hold a whole file; extracts as many, as each may hold a window of
	// compressed data.
	fileRequests = 2
	// largeBytes of a file are worth giving memory back for at once: what commands leave free is little.
	largeBytes = 1 << 20
	// bodyBufferBytes gathers the small reads and writes of frames and base64.
	bodyBufferBytes = 64 << 10
)

// take waits for a turn and gives the function that ends it.
func take(r *request, turns chan struct{}) (func(), error) {
	select {
	case turns <- struct{}{}:
		return func() { <-turns }, nil
	case <-r.Context.Done():
		return nil, r.Context.Err()
	}
}

// giveBack returns the memory that a large file took to the system.
func giveBack(bytes int) {
	if bytes >= largeBytes {
		debug.FreeOSMemory()
	}
}

func (s *server) readFile(w http2.Answer, r *request) error {
	done, err := take(r, s.files)
	if err != nil {
		return err
	}
	defer done()
	var request message.ReadFile
	if err := message.Decode(r.Body, smallRequestBytes, &request); err != nil {
		return err
	}
	result, err := files.Read(r.Context, &request)
	if err != nil {
		return err
	}
	size := len(result.DataBase64)
	err = answerFile(w, result)
	result = nil
	giveBack(size)
	return err
}

// answerFile encodes the data on its way: as one document it would be in memory three times.
func answerFile(w http2.Answer, result *message.ReadFileResult) error {
	data := result.DataBase64
	result.DataBase64 = nil
	document, err := json.Marshal(result)
	if err != nil {
		return err
	}
	before, after, found := bytes.Cut(document, []byte(`"dataBase64":null`))
	if !found {
		return errors.New("the answer has no place for the data")
	}
	w.Begin(statusOK, jsonType)
	body := bufio.NewWriterSize(w, bodyBufferBytes)
	// Errors of a bufio.Writer stay until Flush.
	_, _ = body.Write(append(before, `"dataBase64":"`...))
	encoder := base64.NewEncoder(base64.StdEncoding, body)
	_, _ = encoder.Write(data)
	_ = encoder.Close()
	_, _ = body.Write(append([]byte{'"'}, after...))
	return body.Flush()
}

func (s *server) writeFile(w http2.Answer, r *request) error {
	done, err := take(r, s.files)
	if err != nil {
		return err
	}
	defer done()
	var request message.WriteFile
	if err := message.Decode(r.Body, writeRequestBytes, &request); err != nil {
		if message.AsError(err).Kind == message.KindTooLarge {
			err = message.Errorf(message.KindLimit, "a file may be written with at most %d bytes", files.FileLimitBytes)
		}
		return err
	}
	size := len(request.DataBase64)
	result, err := files.Write(&request)
	request = message.WriteFile{}
	giveBack(size)
	if err != nil {
		return err
	}
	return answer(w, result)
}

func (s *server) extract(w http2.Answer, r *request) error {
	done, err := take(r, s.extracts)
	if err != nil {
		return err
	}
	defer done()
	body := frames.NewReader(bufio.NewReaderSize(r.Body, bodyBufferBytes))
	var input message.ExtractInput
	if err := readInput(body, &input); err != nil {
		return err
	}
	begun := false
	send := func(t frames.Type, value any) error {
		if !begun {
			begun = true
			w.Begin(statusOK, frames.ContentType)
		}
		if err := frames.WriteJSON(w, t, value); err != nil {
			return err
		}
		return w.Flush()
	}
	// A link that fails ends the request's context, which ends the extract.
	progress := func(progress message.Progress) { _ = send(frames.Event, progress) }
	result, err := archive.Push(r.Context, input, frames.NewDataReader(body), progress)
	if err == nil {
		err = send(frames.Result, result)
	}
	if err != nil && begun {
		return streamedError{err}
	}
	return err
}

// readInput reads the first frame of a body.
func readInput(body *frames.Reader, into any) error {
	t, payload, err := body.Next()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return message.Errorf(message.KindTruncated, "the request ends before its input")
	case err != nil:
		return message.Errorf(message.KindInvalid, "the request has no input: %v", err)
	case t != frames.Input:
		return message.Errorf(message.KindInvalid, "the request begins with a frame of type %d instead of its input", t)
	}
	return message.Decode(bytes.NewReader(payload), smallRequestBytes, into)
}
