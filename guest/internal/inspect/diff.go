package inspect

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

const (
	// workers look into files while the walk goes on.
	workers = 2
	// queueLength bounds the changes under way, and with them the open descriptors.
	queueLength = 128
	// contentLimitBytes bounds the content that all workers hold; a larger file is looked at alone.
	contentLimitBytes = 64 << 20
	// signOfLife is sent when there has been nothing else to send for so long, well before the engine gives up.
	signOfLife = 30 * time.Second
)

// sides are the volumes of a comparison.
type sides struct{ from, to, ignoreFrom volume }

// diff compares two frozen volumes and sends what differs.
func diff(t task, at sides, e *emitter) (DiffSummary, error) {
	in := t.Input
	wanted, err := selectPaths(in.Paths)
	if err != nil {
		return DiffSummary{}, err
	}
	w := walker{
		listIgnored: in.Ignored, binaryLimit: in.BinaryLimitBytes, settled: t.Proof.SettledBefore, touched: t.Proof.touched(),
		resolves: func(path string) (bool, error) {
			_, _, err := resolve(at.from, in.Root+"/"+path, true)
			if err == errUnresolvable {
				return false, nil
			}
			return err == nil, err
		},
	}
	root := &folder{wanted: wanted}
	if in.PlainFolder {
		if root.isPlain, err = isPlainFolder(at.ignoreFrom, in.Root); err != nil {
			return DiffSummary{}, err
		}
	}
	if err := w.openRoot(root, in.Root, at); err != nil {
		return DiffSummary{}, err
	}
	defer root.leave()
	if err := checkPaths(in.Paths, root.from, root.to); err != nil {
		return DiffSummary{}, err
	}
	p := newPipeline(e)
	w.send, w.count = p.send, p.count
	newExaminer := func() *examiner {
		return &examiner{patch: in.Patch, patchLimit: in.PatchLimitBytes, binaryLimit: in.BinaryLimitBytes}
	}
	p.start(newExaminer)
	err = w.rootItself(root)
	if err == nil {
		err = w.walk(root)
	}
	if err = p.finish(err); err != nil {
		return DiffSummary{}, err
	}
	return e.finish()
}

// diffImages is diff of images; what is not readable from outside is no error as long as nothing was sent.
func diffImages(t task, out io.Writer) (any, error) {
	e := newEmitter(t.Input, out)
	at, err := openImages(t.Images, t.Input.Image)
	if err == nil {
		var summary DiffSummary
		if summary, err = diff(t, at, e); err == nil {
			return summary, nil
		}
	}
	return leftToKernel(err, e.began)
}

func openImages(files []descriptor, image *Image) (at sides, err error) {
	for n, one := range []*volume{&at.from, &at.to, &at.ignoreFrom} {
		if *one, err = openImage(files[n], image); err != nil {
			return sides{}, err
		}
	}
	return at, nil
}

// openRoot opens the folder to compare on each side; one of them may lack it.
func (w *walker) openRoot(root *folder, name string, at sides) error {
	var err error
	isFolder := true
	for _, one := range []struct {
		volume volume
		dir    *folderView
		meta   **meta
		device *uint64
	}{{at.from, &root.from, &root.fromMeta, &w.fromDevice}, {at.to, &root.to, &root.toMeta, &w.toDevice}} {
		if *one.device, err = one.volume.device(); err != nil {
			return err
		}
		if *one.dir, err = openInside(one.volume, name); err == unix.ENOTDIR {
			isFolder = false
			continue
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		if *one.dir != nil {
			m, _, err := (*one.dir).stat("")
			if err != nil {
				return err
			}
			*one.meta = &m
		}
	}
	switch {
	case root.from == nil && root.to == nil && !isFolder:
		return message.Errorf(message.KindInvalid, "%s is not a folder", name)
	case root.from == nil && root.to == nil:
		return message.Errorf(message.KindNotFound, "there is no folder %s on either side of the comparison", name)
	}
	if root.fromMeta != nil && root.fromMeta.device != w.fromDevice || root.toMeta != nil && root.toMeta.device != w.toDevice {
		w.touched = nil
	}
	root.rulesKnown = true
	if root.ignoreDir, err = openInside(at.ignoreFrom, name); err != nil && err != unix.ENOTDIR {
		return err
	}
	if root.ignoreDir == nil {
		return nil
	}
	root.rules, err = readRules(nil, "", root.ignoreDir)
	return err
}

// openInside gives nil where there is nothing, ENOTDIR where there is something else.
func openInside(in volume, name string) (folderView, error) {
	parts, found, err := resolve(in, name, true)
	if err == errUnresolvable || err == nil && !found {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	folder, err := in.open(parts)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return folder, nil
}

// rootItself compares the two roots as folders; their entry is ".".
func (w *walker) rootItself(root *folder) error {
	both := root.fromMeta != nil && root.toMeta != nil
	if root.wanted != nil || both && w.isSettled(root.fromMeta, root.toMeta) {
		return nil
	}
	w.path = append(w.path[:0], '.')
	return w.submit(root, &change{name: ".", from: root.fromMeta, to: root.toMeta, unpatchable: true, listed: true})
}

// pipeline takes changes in order, has them examined at once and sends them in order.
type pipeline struct {
	emitter *emitter
	cx      context.Context
	cancel  context.CancelCauseFunc
	ordered chan *change
	jobs    chan *change
	content budget
	running sync.WaitGroup
	// counted is what no change was made for; the emitter reads it at the end.
	counted int64
}

func newPipeline(e *emitter) *pipeline {
	p := &pipeline{emitter: e, ordered: make(chan *change, queueLength), jobs: make(chan *change, queueLength)}
	p.cx, p.cancel = context.WithCancelCause(context.Background())
	p.content.free = contentLimitBytes
	p.content.freed = sync.NewCond(&p.content.mutex)
	return p
}

func (p *pipeline) start(newExaminer func() *examiner) {
	p.running.Add(workers + 1)
	for range workers {
		go p.work(newExaminer())
	}
	go p.emit()
}

func (p *pipeline) work(x *examiner) {
	defer p.running.Done()
	for c := range p.jobs {
		if p.cx.Err() == nil {
			p.fail(x.examine(c))
		}
		c.close()
		close(c.examined)
	}
}

func (p *pipeline) emit() {
	defer p.running.Done()
	ticker := time.NewTicker(signOfLife)
	defer ticker.Stop()
	var next *change
	ordered, examined := p.ordered, (chan struct{})(nil)
	for ordered != nil || next != nil {
		select {
		case c, more := <-ordered:
			if !more {
				return
			}
			// One at a time: the next one waits until this one is looked into.
			next, ordered, examined = c, nil, c.examined
		case <-examined:
			if p.cx.Err() == nil {
				p.fail(p.emitter.emit(next))
			}
			p.content.give(next.weight)
			next, ordered, examined = nil, p.ordered, nil
		case <-ticker.C:
			p.fail(p.emitter.stayAlive())
		}
	}
}

func (p *pipeline) fail(err error) {
	if err != nil {
		p.cancel(err)
	}
}

// send blocks while too much is under way.
func (p *pipeline) send(c *change) error {
	c.weight = min(c.weight, contentLimitBytes)
	p.content.take(c.weight)
	c.examined = make(chan struct{})
	p.ordered <- c
	p.jobs <- c
	return context.Cause(p.cx)
}

func (p *pipeline) count(ignored int64) { p.counted += ignored }

// finish waits for what is under way; err is why the walk ended.
func (p *pipeline) finish(err error) error {
	p.fail(err)
	close(p.jobs)
	close(p.ordered)
	p.running.Wait()
	p.emitter.summary.Changed += p.counted
	p.emitter.summary.Ignored += p.counted
	err = context.Cause(p.cx)
	p.cancel(nil)
	return err
}

// budget is a weighted semaphore with one taker.
type budget struct {
	mutex sync.Mutex
	freed *sync.Cond
	free  int64
}

func (b *budget) take(n int64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for b.free < n {
		b.freed.Wait()
	}
	b.free -= n
}

func (b *budget) give(n int64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.free += n
	b.freed.Signal()
}
