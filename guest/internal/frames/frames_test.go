package frames

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"
)

// golden is spec/guest/frames.json, which the tests in TypeScript read, too.
type golden struct {
	Types  map[string]Type `json:"types"`
	Frames []struct {
		Name       string          `json:"name"`
		Type       Type            `json:"type"`
		JSON       json.RawMessage `json:"json"`
		PayloadHex string          `json:"payloadHex"`
		FrameHex   string          `json:"frameHex"`
	} `json:"frames"`
	Invalid []struct {
		Name     string `json:"name"`
		FrameHex string `json:"frameHex"`
	} `json:"invalid"`
}

func readGolden(t testing.TB) golden {
	t.Helper()
	text, err := os.ReadFile("../../../spec/guest/frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Frames) < 9 || len(g.Invalid) < 3 {
		t.Fatalf("the fixtures hold %d frames and %d invalid ones", len(g.Frames), len(g.Invalid))
	}
	return g
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	bytes, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func TestTheTypesAreThoseOfTheProtocol(t *testing.T) {
	want := map[string]Type{
		"input": Input, "stdout": Stdout, "stderr": Stderr, "stdin": Stdin, "data": Data, "event": Event, "result": Result,
		"error": Error, "control": Control,
	}
	got := readGolden(t).Types
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, number := range want {
		if got[name] != number {
			t.Errorf("%s is %d, want %d", name, got[name], number)
		}
	}
}

func TestGoldenFramesAreWrittenAndRead(t *testing.T) {
	for _, c := range readGolden(t).Frames {
		frame, payload := unhex(t, c.FrameHex), unhex(t, c.PayloadHex)
		var out bytes.Buffer
		if err := Write(&out, c.Type, payload); err != nil || !bytes.Equal(out.Bytes(), frame) {
			t.Errorf("%s: wrote %x, %v", c.Name, out.Bytes(), err)
		}
		if got := Append([]byte("before"), c.Type, payload); !bytes.Equal(got, append([]byte("before"), frame...)) {
			t.Errorf("%s: appended %x", c.Name, got)
		}
		for name, source := range map[string]io.Reader{
			"whole": bytes.NewReader(frame), "byte by byte": iotest.OneByteReader(bytes.NewReader(frame)),
			"with its end": iotest.DataErrReader(bytes.NewReader(frame)),
		} {
			reader := NewReader(source)
			kind, got, err := reader.Next()
			if err != nil || kind != c.Type || !bytes.Equal(got, payload) {
				t.Errorf("%s %s: read %d %x %v", c.Name, name, kind, got, err)
			}
			if _, _, err := reader.Next(); err != io.EOF {
				t.Errorf("%s %s: then %v", c.Name, name, err)
			}
		}
	}
}

func TestJSONIsWrittenAsTheGoldenFramesHaveIt(t *testing.T) {
	for _, c := range readGolden(t).Frames {
		if c.JSON == nil {
			continue
		}
		var out bytes.Buffer
		if err := WriteJSON(&out, c.Type, c.JSON); err != nil || hex.EncodeToString(out.Bytes()) != c.FrameHex {
			t.Errorf("%s: wrote %x, %v", c.Name, out.Bytes(), err)
		}
	}
}

func TestAGoldenFrameCutAtAnyByteIsNoFrame(t *testing.T) {
	for _, c := range readGolden(t).Frames {
		frame := unhex(t, c.FrameHex)
		for at := range frame {
			_, _, err := NewReader(bytes.NewReader(frame[:at])).Next()
			want := io.ErrUnexpectedEOF
			if at == 0 {
				want = io.EOF
			}
			if err != want {
				t.Errorf("%s cut at %d: got %v, want %v", c.Name, at, err, want)
			}
			// What follows a whole frame is cut, too.
			reader := NewReader(io.MultiReader(bytes.NewReader(frame), bytes.NewReader(frame[:at])))
			if _, _, err := reader.Next(); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
			if _, _, err := reader.Next(); err != want {
				t.Errorf("%s cut at %d behind a whole one: got %v, want %v", c.Name, at, err, want)
			}
		}
	}
}

func TestMalformedFramesAreRefusedBeforeTheirPayload(t *testing.T) {
	for _, c := range readGolden(t).Invalid {
		frame := unhex(t, c.FrameHex)
		_, _, err := NewReader(bytes.NewReader(frame)).Next()
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", c.Name, err)
		}
	}
}

func TestPayloadsBeyondTheLimitAreSplitOrRefused(t *testing.T) {
	payload := bytes.Repeat([]byte{1, 2, 3, 4, 5}, PayloadLimitBytes/2)
	var out bytes.Buffer
	if err := Write(&out, Stdout, payload); err != nil {
		t.Fatal(err)
	}
	reader := NewReader(&out)
	var joined []byte
	for {
		kind, part, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil || kind != Stdout || len(part) > PayloadLimitBytes {
			t.Fatalf("read %d with %d bytes, %v", kind, len(part), err)
		}
		joined = append(joined, part...)
	}
	if !bytes.Equal(joined, payload) {
		t.Errorf("%d bytes became %d", len(payload), len(joined))
	}
	if err := Write(&out, Result, payload); !errors.Is(err, ErrMalformed) {
		t.Errorf("a result of %d bytes: %v", len(payload), err)
	}
	if err := Write(&out, Stdout, payload[:PayloadLimitBytes]); err != nil || out.Len() != HeaderBytes+PayloadLimitBytes {
		t.Errorf("a payload at the limit: %d bytes, %v", out.Len(), err)
	}
}

func TestDataIsOneStreamUpToItsEmptyFrame(t *testing.T) {
	var in bytes.Buffer
	for _, part := range []string{"one", " two", " three", ""} {
		if err := Write(&in, Data, []byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	behind := []byte("\x01\x00\x00\x00\x00")
	in.Write(behind)
	whole := in.Bytes()
	for name, source := range map[string]io.Reader{
		"whole": bytes.NewReader(whole), "byte by byte": iotest.OneByteReader(bytes.NewReader(whole)),
	} {
		frames := NewReader(source)
		data := NewDataReader(frames)
		text, err := io.ReadAll(data)
		if err != nil || string(text) != "one two three" {
			t.Errorf("%s: read %q %v", name, text, err)
		}
		if n, err := data.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: behind the end %d %v", name, n, err)
		}
		if kind, _, err := frames.Next(); kind != Stdout || err != nil {
			t.Errorf("%s: the frame behind is %d %v", name, kind, err)
		}
	}
	end := len(whole) - len(behind)
	for at := range end {
		_, err := io.ReadAll(NewDataReader(NewReader(bytes.NewReader(whole[:at]))))
		if err != io.ErrUnexpectedEOF {
			t.Errorf("cut at %d: got %v", at, err)
		}
	}
	var amid bytes.Buffer
	amid.Write(whole[:HeaderBytes+3])
	amid.Write(behind)
	if _, err := io.ReadAll(NewDataReader(NewReader(&amid))); !errors.Is(err, ErrMalformed) {
		t.Errorf("another type amid data: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	g := readGolden(f)
	var all []byte
	for _, c := range g.Frames {
		f.Add(unhex(f, c.FrameHex))
		all = append(all, unhex(f, c.FrameHex)...)
	}
	for _, c := range g.Invalid {
		f.Add(unhex(f, c.FrameHex))
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, stream []byte) {
		reader := NewReader(bytes.NewReader(stream))
		var again []byte
		for {
			kind, payload, err := reader.Next()
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, ErrMalformed) {
					t.Errorf("unexpected error %v", err)
				}
				break
			}
			again = Append(again, kind, payload)
		}
		if !bytes.HasPrefix(stream, again) {
			t.Errorf("%x was read as %x", stream, again)
		}
	})
}
