package inspect

import (
	"encoding/json"
	"io"

	"pyro.dev/agent/internal/frames"
)

const (
	// entriesLimit and entriesBytes bound one event.
	entriesLimit = 1000
	entriesBytes = 512 << 10
	// patchFrameBytes is collected before the patch is sent on.
	patchFrameBytes = 256 << 10
)

// DiffSummary is diffSummary of packages/protocol/src/guest/offline.ts.
type DiffSummary struct {
	Changed        int64 `json:"changed"`
	Ignored        int64 `json:"ignored"`
	PatchBytes     int64 `json:"patchBytes"`
	PatchTruncated bool  `json:"patchTruncated"`
}

// emitter sends changes in order. The patch is cut between two sections: once one does not fit any more, only those follow
// for which room was kept. One that is larger than the whole patch may be is left out alone.
type emitter struct {
	out     io.Writer
	patch   bool
	limit   int64
	summary DiffSummary
	// began tells that something was sent, signs of life apart.
	began bool

	reserved int64
	isCut    bool
	entries  int
	event    []byte
	sections []byte
}

func newEmitter(in Input, out io.Writer) *emitter {
	return &emitter{out: out, patch: in.Patch, limit: in.PatchLimitBytes}
}

const (
	eventStart = `{"type":"entries","entries":[`
	eventEnd   = `]}`
)

func (e *emitter) emit(c *change) error {
	if !c.changed {
		return nil
	}
	e.summary.Changed++
	if c.ignored {
		e.summary.Ignored++
	}
	if !c.listed {
		return nil
	}
	c.included = c.hasSection && (c.needs == nil || c.needs.included)
	if c.included && e.patch {
		c.included = e.fits(c)
		e.summary.PatchTruncated = e.summary.PatchTruncated || !c.included
	}
	if c.included {
		e.summary.PatchBytes += int64(len(c.section))
		e.sections = append(e.sections, c.section...)
		if len(e.sections) >= patchFrameBytes {
			if err := e.sendPatch(); err != nil {
				return err
			}
		}
	}
	c.section = nil
	c.entry.InPatch = c.included && c.carried
	return e.add(&c.entry)
}

// fits also moves the reservations.
func (e *emitter) fits(c *change) bool {
	if c.within != nil && c.within.included {
		e.reserved -= c.bound
		return true
	}
	if c.tooLarge || int64(len(c.section))+c.reserve > e.limit {
		return false
	}
	free := e.limit - e.summary.PatchBytes - e.reserved
	e.isCut = e.isCut || int64(len(c.section))+c.reserve > free
	if e.isCut {
		return false
	}
	e.reserved += c.reserve
	return true
}

func (e *emitter) add(entry *Entry) error {
	text, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	if e.entries > 0 && (e.entries == entriesLimit || len(e.event)+len(text) > entriesBytes) {
		if err := e.sendEntries(); err != nil {
			return err
		}
	}
	if e.entries == 0 {
		e.event = append(e.event[:0], eventStart...)
	} else {
		e.event = append(e.event, ',')
	}
	e.event = append(e.event, text...)
	e.entries++
	return nil
}

func (e *emitter) sendEntries() error {
	if e.entries == 0 {
		return nil
	}
	e.entries, e.began = 0, true
	e.event = append(e.event, eventEnd...)
	return frames.Write(e.out, frames.Event, e.event)
}

// stayAlive sends what is there, or an event that says nothing.
func (e *emitter) stayAlive() error {
	if e.entries > 0 {
		return e.sendEntries()
	}
	return frames.Write(e.out, frames.Event, []byte(eventStart+eventEnd))
}

func (e *emitter) sendPatch() error {
	if len(e.sections) == 0 {
		return nil
	}
	e.began = true
	err := frames.Write(e.out, frames.Data, e.sections)
	e.sections = e.sections[:0]
	return err
}

func (e *emitter) finish() (DiffSummary, error) {
	err := e.sendEntries()
	if err == nil {
		err = e.sendPatch()
	}
	return e.summary, err
}
