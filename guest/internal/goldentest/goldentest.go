// Package goldentest checks messages against the golden fixtures in spec/guest, which the tests in TypeScript read, too.
package goldentest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pyro.dev/agent/internal/message"
)

const limitBytes = 1 << 20

// Sample is one value of a message.
type Sample struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

// Fixture is one file of spec/guest.
type Fixture struct {
	Valid   []Sample `json:"valid"`
	Invalid []Sample `json:"invalid"`
}

// Folder is spec/guest.
func Folder() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "../../../spec/guest")
}

// Read reads the fixture of a message.
func Read(t testing.TB, name string) Fixture {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Folder(), name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var fixture Fixture
	if err := json.Unmarshal(text, &fixture); err != nil {
		t.Fatal(err)
	}
	if len(fixture.Valid) == 0 || len(fixture.Invalid) == 0 {
		t.Fatalf("%s has %d valid and %d invalid samples", name, len(fixture.Valid), len(fixture.Invalid))
	}
	return fixture
}

// lenient are the ways of being wrong that a decoder into structs does not see. The side that sends these messages is the
// engine, which is trusted to leave nothing out.
var lenient = []string{" missing", " null", " negative", " is beyond 2^53", " oversize"}

// Decodes checks that T takes every valid sample and refuses what has unknown fields or the wrong types. The samples named
// in passes are refused by somebody else.
func Decodes[T any](t *testing.T, name string, passes ...string) {
	t.Helper()
	fixture := Read(t, name)
	for _, sample := range fixture.Valid {
		compare[T](t, name, sample, withoutNulls)
	}
	refused := 0
	for _, sample := range fixture.Invalid {
		var into T
		err := message.Decode(bytes.NewReader(sample.Value), limitBytes, &into)
		switch {
		case err != nil:
			refused++
			if kind := message.AsError(err).Kind; kind != message.KindInvalid {
				t.Errorf("%s, %s: refused as %s", name, sample.Name, kind)
			}
		case !mayPass(sample.Name) && !slices.Contains(passes, sample.Name):
			t.Errorf("%s, %s: %s is taken", name, sample.Name, sample.Value)
		}
	}
	if refused == 0 {
		t.Errorf("%s: nothing was refused", name)
	}
}

func mayPass(sample string) bool {
	for _, end := range lenient {
		if strings.HasSuffix(sample, end) {
			return true
		}
	}
	return false
}

// RoundTrips checks that T holds all of every valid sample and is written as it was read. The samples may be picked by
// their name.
func RoundTrips[T any](t *testing.T, name string, only ...string) {
	t.Helper()
	checked := 0
	for _, sample := range Read(t, name).Valid {
		if len(only) > 0 && !strings.HasPrefix(sample.Name, only[0]) {
			continue
		}
		checked++
		compare[T](t, name, sample, func(value any) any { return value })
	}
	if checked == 0 {
		t.Errorf("%s: no sample begins with %v", name, only)
	}
}

func compare[T any](t *testing.T, name string, sample Sample, view func(any) any) {
	t.Helper()
	var value T
	if err := message.Decode(bytes.NewReader(sample.Value), limitBytes, &value); err != nil {
		t.Errorf("%s, %s: %v", name, sample.Name, err)
		return
	}
	written, err := json.Marshal(value)
	if err != nil {
		t.Errorf("%s, %s: %v", name, sample.Name, err)
		return
	}
	if !reflect.DeepEqual(view(plain(t, written)), view(plain(t, sample.Value))) {
		t.Errorf("%s, %s: %s is written as %s", name, sample.Name, sample.Value, written)
	}
}

// withoutNulls is a view in which a field that is left out equals one that is null.
func withoutNulls(value any) any {
	switch typed := value.(type) {
	case map[string]any:
		kept := map[string]any{}
		for name, field := range typed {
			if field != nil {
				kept[name] = withoutNulls(field)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(typed))
		for at, one := range typed {
			kept[at] = withoutNulls(one)
		}
		return kept
	}
	return value
}

// plain is JSON without the order of fields and without rounding.
func plain(t *testing.T, text []byte) any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	return value
}
