package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"pyro.dev/agent/internal/goldentest"
	"pyro.dev/agent/internal/isolate"
	"pyro.dev/agent/internal/message"
)

const idBase = 1 << 30

func TestMain(m *testing.M) { os.Exit(goldentest.WithAgent(m.Run)) }

type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content}
}

func node(name string, kind byte, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: kind, Mode: 0o755, Linkname: target}}
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, e := range entries {
		header := e.Header
		if err := writer.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(writer, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compressed(t testing.TB, how string, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var writer io.WriteCloser
	switch how {
	case "gzip":
		writer = gzip.NewWriter(&out)
	case "zstd":
		var err error
		if writer, err = zstd.NewWriter(&out); err != nil {
			t.Fatal(err)
		}
	default:
		return plain
	}
	if _, err := writer.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var wide = message.ArchiveLimits{Entries: 100_000, Bytes: 1 << 30, PathBytes: 4096}

// unpack runs the role on an archive that is a file, as the engine does.
func unpack(t *testing.T, archive []byte, change func(*Input)) (goldentest.Answer, string) {
	t.Helper()
	path := t.TempDir() + "/archive"
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	return unpackFrom(t, stdin, change)
}

func unpackFrom(t *testing.T, stdin io.Reader, change func(*Input)) (goldentest.Answer, string) {
	t.Helper()
	input := Input{Volume: t.TempDir(), Mapping: isolate.Mapping{Base: idBase, Count: 65536}, Platform: "linux/amd64", Limits: wide}
	if change != nil {
		change(&input)
	}
	request, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	return goldentest.RunRole(t, stdin, "unpack", string(request)), input.Volume
}

func mustUnpack(t *testing.T, archive []byte, change func(*Input)) (Result, string) {
	t.Helper()
	answer, volume := unpack(t, archive, change)
	return goldentest.MustResult[Result](t, answer), volume
}

// listing is the volume as find(1) sees it.
func listing(t *testing.T, volume string) map[string]string {
	t.Helper()
	find := exec.Command("find", ".", "-mindepth", "1", "-printf", `%P\t%y %m %U:%G %l\n`)
	find.Dir = volume
	out, err := find.Output()
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, about, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		entries[path] = about
	}
	return entries
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func owned(uid, gid int) string { return fmt.Sprintf("%d:%d", idBase+uid, idBase+gid) }

// rootfs is a small root filesystem.
func rootfs(t *testing.T) []byte {
	su, mine := file("bin/su", "x"), file("srv/u/f", "x")
	su.Mode, mine.Uid, mine.Gid = 0o4755, 1000, 1001
	ping := file("bin/ping", "x")
	ping.PAXRecords = map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	}
	return pack(t, node("./", tar.TypeDir, ""), su, ping, mine, node("dev/null", tar.TypeChar, ""), node("lib", tar.TypeSymlink, "usr/lib"),
		file("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 2\n\n"+
			"Package: b\nVersion: 2\nStatus: install ok installed\n"))
}

func TestMessagesAreThoseOfTheProtocol(t *testing.T) {
	goldentest.Decodes[Input](t, "unpack-input")
	goldentest.RoundTrips[Result](t, "unpack-result")
}

func TestARootFilesystemIsUnpackedAsItsOwnersMadeIt(t *testing.T) {
	for _, how := range []string{"plain", "gzip", "zstd"} {
		result, volume := mustUnpack(t, compressed(t, how, rootfs(t)), nil)
		if result.Kind != "rootfs" || result.SkippedDevices != 1 || len(result.Env) != 0 || result.User != "" || result.WorkingDir != "" {
			t.Errorf("%s: got %+v", how, result)
		}
		if fmt.Sprint(result.Packages) != "[{a 1} {b 2}]" {
			t.Errorf("%s: packages %v", how, result.Packages)
		}
		got := listing(t, volume)
		for path, want := range map[string]string{
			"bin/su": "f 4755 " + owned(0, 0) + " ", "srv/u/f": "f 644 " + owned(1000, 1001) + " ", "lib": "l 777 " + owned(0, 0) + " usr/lib",
			"tmp": "d 1777 " + owned(0, 0) + " ", "workspace": "d 755 " + owned(0, 0) + " ", "proc": "d 555 " + owned(0, 0) + " ",
			"sys": "d 555 " + owned(0, 0) + " ", "dev": "d 755 " + owned(0, 0) + " ", "run": "d 755 " + owned(0, 0) + " ",
		} {
			if got[path] != want {
				t.Errorf("%s: %s is %q, want %q", how, path, got[path], want)
			}
		}
		if _, found := got["dev/null"]; found {
			t.Errorf("%s: there is a device", how)
		}
		if out, err := exec.Command("getfattr", "-n", "security.capability", "--only-values", volume+"/bin/ping").Output(); err != nil || len(out) == 0 {
			t.Logf("no capabilities on this filesystem: %v", err)
		} else if out[3] != 3 {
			// Version 3 names the namespace the capability holds in.
			t.Errorf("%s: the capability is %x", how, out)
		}
	}
}

func TestFoldersMakeRoomForTheIdentity(t *testing.T) {
	_, volume := mustUnpack(t, pack(t, file("etc/hostname/inner/f", "x"), node("etc/hosts/", tar.TypeDir, ""), file("etc/resolv.conf", "x"),
		node("etc/machine-id", tar.TypeSymlink, "hosts"), file("etc/other/f", "x"), file("var/lib/dbus/machine-id/f", "x")), nil)
	got := listing(t, volume)
	for path, there := range map[string]bool{
		"etc/hostname": false, "etc/hosts": false, "etc/resolv.conf": true, "etc/machine-id": true, "etc/other/f": true,
		"var/lib/dbus": true, "var/lib/dbus/machine-id": false,
	} {
		if _, found := got[path]; found != there {
			t.Errorf("%s is there: %t", path, found)
		}
	}
}

func TestAnArchiveMayComeThroughAPipe(t *testing.T) {
	for _, how := range []string{"plain", "gzip"} {
		answer, volume := unpackFrom(t, bytes.NewReader(compressed(t, how, rootfs(t))), nil)
		goldentest.MustResult[Result](t, answer)
		if contentOf(t, volume+"/srv/u/f") != "x" {
			t.Errorf("%s: the file is not there", how)
		}
	}
	image := newImage(t)
	image.add(t, "app", "linux/amd64", pack(t, file("f", "from an image")))
	answer, volume := unpackFrom(t, bytes.NewReader(compressed(t, "gzip", image.layout(t))), nil)
	if result := goldentest.MustResult[Result](t, answer); result.Kind != "oci" || contentOf(t, volume+"/f") != "from an image" {
		t.Errorf("got %+v", result)
	}
}

// ociImage builds an OCI layout and what docker save writes of the same.
type ociImage struct {
	blobs     map[string][]byte
	manifests []any
	saved     []any
	names     []string
}

func newImage(t testing.TB) *ociImage {
	t.Helper()
	return &ociImage{blobs: map[string][]byte{}}
}

func (o *ociImage) blob(content []byte) string {
	digest := fmt.Sprintf("%x", sha256.Sum256(content))
	if _, known := o.blobs[digest]; !known {
		o.names = append(o.names, digest)
	}
	o.blobs[digest] = content
	return "sha256:" + digest
}

func document(t testing.TB, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type object = map[string]any

// manifest adds an image of layers and gives its descriptor.
func (o *ociImage) manifest(t testing.TB, platform string, layers [][]byte, how string) object {
	t.Helper()
	os, architecture, _ := strings.Cut(platform, "/")
	var stored []any
	var diffs, paths []string
	for _, plain := range layers {
		content := compressed(t, how, plain)
		stored = append(stored, object{"digest": o.blob(content), "size": len(content)})
		diffs = append(diffs, fmt.Sprintf("sha256:%x", sha256.Sum256(plain)))
		paths = append(paths, fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(content)))
	}
	config := document(t, object{
		"os": os, "architecture": architecture, "rootfs": object{"type": "layers", "diff_ids": diffs},
		"config": object{"Env": []string{"PATH=/bin", "NOT A VARIABLE", "A=b=c"}, "User": "node", "WorkingDir": "/app"},
	})
	digest := o.blob(config)
	manifest := document(t, object{"config": object{"digest": digest, "size": len(config)}, "layers": stored})
	o.saved = append(o.saved, object{"Config": "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:"), "RepoTags": []string{}, "Layers": paths})
	return object{
		"digest": o.blob(manifest), "size": len(manifest), "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"platform": object{"os": os, "architecture": architecture},
	}
}

func (o *ociImage) add(t testing.TB, name, platform string, layers ...[]byte) {
	t.Helper()
	descriptor := o.manifest(t, platform, layers, "gzip")
	descriptor["annotations"] = object{"org.opencontainers.image.ref.name": name}
	o.manifests = append(o.manifests, descriptor)
	o.saved[len(o.saved)-1].(object)["RepoTags"] = []string{name + ":latest"}
}

func (o *ociImage) parts() []entry {
	var entries []entry
	for _, name := range o.names {
		entries = append(entries, file("blobs/sha256/"+name, string(o.blobs[name])))
	}
	return entries
}

// layout is an OCI image layout as a tar.
func (o *ociImage) layout(t testing.TB) []byte {
	t.Helper()
	index := document(t, object{"schemaVersion": 2, "manifests": o.manifests})
	return pack(t, append(o.parts(), file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), file("index.json", string(index)))...)
}

// dockerSave is what docker save writes.
func (o *ociImage) dockerSave(t testing.TB) []byte {
	t.Helper()
	return pack(t, append(o.parts(), file("manifest.json", string(document(t, o.saved))), file("repositories", "{}"))...)
}

func TestAnImageIsUnpackedLayerByLayer(t *testing.T) {
	image := newImage(t)
	image.add(t, "app", "linux/amd64",
		pack(t, file("a", "lower"), file("gone", "x"), node("bin", tar.TypeSymlink, "usr/bin"), node("usr/bin", tar.TypeDir, "")),
		pack(t, file("a", "upper"), file(".wh.gone", ""), file("bin/tool", "x")),
	)
	for name, archive := range map[string][]byte{
		"layout": image.layout(t), "gzipped layout": compressed(t, "gzip", image.layout(t)), "zstd layout": compressed(t, "zstd", image.layout(t)),
		"docker save": image.dockerSave(t),
	} {
		result, volume := mustUnpack(t, archive, nil)
		if result.Kind != "oci" || result.User != "node" || result.WorkingDir != "/app" || fmt.Sprint(result.Env) != "[PATH=/bin A=b=c]" {
			t.Errorf("%s: got %+v", name, result)
		}
		got := listing(t, volume)
		if contentOf(t, volume+"/a") != "upper" || got["gone"] != "" || !strings.HasPrefix(got["usr/bin/tool"], "f ") {
			t.Errorf("%s: there is %v", name, got)
		}
	}
}

func TestLayersMayBePlainOrCompressed(t *testing.T) {
	for _, how := range []string{"plain", "gzip", "zstd"} {
		image := newImage(t)
		image.manifests = []any{image.manifest(t, "linux/amd64", [][]byte{pack(t, file("f", how))}, how)}
		_, volume := mustUnpack(t, image.layout(t), nil)
		if contentOf(t, volume+"/f") != how {
			t.Errorf("%s is not there", how)
		}
	}
}

func TestOneOfSeveralImagesIsChosenByName(t *testing.T) {
	image := newImage(t)
	image.add(t, "one", "linux/amd64", pack(t, file("f", "one")))
	image.add(t, "two", "linux/amd64", pack(t, file("f", "two")))
	for name, archive := range map[string][]byte{"layout": image.layout(t), "docker save": image.dockerSave(t)} {
		for wanted, want := range map[string]string{"one": "one", "two": "two", "docker.io/library/two:latest": "two", "one:latest": "one"} {
			_, volume := mustUnpack(t, archive, func(i *Input) { i.Image = &wanted })
			if contentOf(t, volume+"/f") != want {
				t.Errorf("%s: %s is %s", name, wanted, contentOf(t, volume+"/f"))
			}
		}
		answer, _ := unpack(t, archive, nil)
		problem := goldentest.WantError(t, answer, message.KindInvalid)
		if !strings.Contains(problem.Message, "--image") || !strings.Contains(problem.Message, "one") || !strings.Contains(problem.Message, "two") {
			t.Errorf("%s: %q does not say what to do", name, problem.Message)
		}
		missing := "three"
		answer, _ = unpack(t, archive, func(i *Input) { i.Image = &missing })
		if problem := goldentest.WantError(t, answer, message.KindNotFound); !strings.Contains(problem.Message, "three") {
			t.Errorf("%s: got %q", name, problem.Message)
		}
	}
}

func TestTheImageForThisMachineIsTaken(t *testing.T) {
	image := newImage(t)
	arm := image.manifest(t, "linux/arm64", [][]byte{pack(t, file("f", "arm64"))}, "gzip")
	amd := image.manifest(t, "linux/amd64", [][]byte{pack(t, file("f", "amd64"))}, "gzip")
	attestation := image.manifest(t, "unknown/unknown", [][]byte{pack(t, file("f", "no image"))}, "gzip")
	index := document(t, object{"schemaVersion": 2, "manifests": []any{arm, attestation, amd}})
	flat, nested, foreign := newImage(t), newImage(t), newImage(t)
	for _, each := range []*ociImage{flat, nested, foreign} {
		each.names, each.blobs = image.names, image.blobs
	}
	flat.manifests = []any{arm, attestation, amd}
	nested.manifests = []any{object{"digest": nested.blob(index), "size": len(index), "mediaType": "application/vnd.oci.image.index.v1+json"}}
	foreign.manifests = []any{arm}
	for platform, want := range map[string]string{"linux/amd64": "amd64", "linux/arm64": "arm64"} {
		for name, each := range map[string]*ociImage{"flat": flat, "nested": nested} {
			_, volume := mustUnpack(t, each.layout(t), func(i *Input) { i.Platform = platform })
			if got := contentOf(t, volume+"/f"); got != want {
				t.Errorf("%s: %s gets %s", name, platform, got)
			}
		}
	}
	answer, _ := unpack(t, foreign.layout(t), nil)
	if problem := goldentest.WantError(t, answer, message.KindInvalid); !strings.Contains(problem.Message, "arm64") || !strings.Contains(problem.Message, "linux/amd64") {
		t.Errorf("got %q", problem.Message)
	}
	answer, _ = unpack(t, nested.layout(t), func(i *Input) { i.Platform = "linux/s390x" })
	if problem := goldentest.WantError(t, answer, message.KindInvalid); !strings.Contains(problem.Message, "linux/arm64, linux/amd64") {
		t.Errorf("got %q", problem.Message)
	}
}

func TestImagesThatAreNotWhatTheySayAreRefused(t *testing.T) {
	layer := pack(t, file("f", "content"))
	build := func(change func(image *ociImage, manifest object)) []byte {
		image := newImage(t)
		descriptor := image.manifest(t, "linux/amd64", [][]byte{layer}, "plain")
		image.manifests = []any{descriptor}
		change(image, descriptor)
		return image.layout(t)
	}
	savedWithAnother := newImage(t)
	savedWithAnother.manifest(t, "linux/amd64", [][]byte{layer}, "plain")
	savedWithAnother.blobs[fmt.Sprintf("%x", sha256.Sum256(layer))] = pack(t, file("f", "changed"))
	layerName := fmt.Sprintf("%x", sha256.Sum256(layer))
	for name, c := range map[string]struct {
		archive []byte
		kind    message.ErrorKind
	}{
		"a changed layer":                {build(func(i *ociImage, _ object) { i.blobs[layerName] = pack(t, file("f", "changed")) }), message.KindTruncated},
		"a changed layer of docker save": {savedWithAnother.dockerSave(t), message.KindTruncated},
		"a missing layer": {build(func(i *ociImage, _ object) {
			i.names = slices.DeleteFunc(i.names, func(n string) bool { return n == layerName })
		}), message.KindInvalid},
		"a changed manifest": {build(func(i *ociImage, m object) {
			name := strings.TrimPrefix(m["digest"].(string), "sha256:")
			i.blobs[name] = append(slices.Clone(i.blobs[name]), ' ')
		}), message.KindTruncated},
		"no manifest":          {build(func(i *ociImage, _ object) { i.manifests = nil }), message.KindInvalid},
		"another digest":       {build(func(_ *ociImage, m object) { m["digest"] = "sha512:" + strings.Repeat("0", 128) }), message.KindInvalid},
		"a path as digest":     {build(func(_ *ociImage, m object) { m["digest"] = "sha256:../../etc/passwd" }), message.KindInvalid},
		"a missing manifest":   {build(func(_ *ociImage, m object) { m["digest"] = "sha256:" + strings.Repeat("0", 64) }), message.KindInvalid},
		"indexes without end":  {build(func(i *ociImage, m object) { loop(t, i, m) }), message.KindInvalid},
		"index.json of text":   {pack(t, file("oci-layout", "{}"), file("index.json", "text")), message.KindInvalid},
		"index.json as a loop": {pack(t, file("oci-layout", "{}"), node("index.json", tar.TypeSymlink, "index.json")), message.KindInvalid},
		"only oci-layout":      {pack(t, file("oci-layout", "{}")), message.KindInvalid},
		"nothing":              {pack(t), message.KindInvalid},
		"only folders":         {pack(t, node("d", tar.TypeDir, "")), message.KindInvalid},
		"no archive":           {[]byte(strings.Repeat("this is no archive ", 100)), message.KindInvalid},
		"an empty file":        {nil, message.KindTruncated},
		"cut":                  {rootfs(t)[:2000], message.KindTruncated},
		"cut gzip":             {compressed(t, "gzip", rootfs(t))[:200], message.KindTruncated},
		"upwards":              {pack(t, file("a", "x"), file("../x", "x")), message.KindUnsafeEntry},
		"absolute":             {pack(t, file("a", "x"), file("/x", "x")), message.KindUnsafeEntry},
		"proc as a file":       {pack(t, file("a", "x"), file("proc", "x")), message.KindInvalid},
		"etc as a file":        {pack(t, file("etc", "x")), message.KindInvalid},
		"etc as a loop":        {pack(t, file("a", "x"), node("etc", tar.TypeSymlink, "etc")), message.KindInvalid},
		"etc to nowhere":       {pack(t, file("a", "x"), node("etc", tar.TypeSymlink, "usr/etc")), message.KindInvalid},
		"lost+found as a file": {pack(t, file("lost+found", "x")), message.KindInvalid},
		"lost+found as a link": {pack(t, file("a/b", "x"), node("lost+found", tar.TypeSymlink, "a")), message.KindInvalid},
		"run as a symlink":     {pack(t, file("a", "x"), node("run", tar.TypeSymlink, "a")), message.KindInvalid},
	} {
		answer, _ := unpack(t, c.archive, nil)
		if answer.Error == nil || answer.Error.Kind != c.kind || answer.Code != 1 {
			t.Errorf("%s: code %d, error %+v, result %s %s", name, answer.Code, answer.Error, answer.Result, answer.Stderr)
		}
	}
}

// loop replaces the manifest by a chain of indexes that is longer than any tool makes.
func loop(t *testing.T, image *ociImage, manifest object) {
	t.Helper()
	inner := object{"digest": manifest["digest"], "size": 1}
	for range indexDepthLimit + 1 {
		inner = object{"digest": image.blob(document(t, object{"manifests": []any{inner}})), "size": 1}
	}
	manifest["digest"] = inner["digest"]
	delete(manifest, "platform")
}

func TestLimitsHoldForEveryForm(t *testing.T) {
	image := newImage(t)
	image.add(t, "app", "linux/amd64", pack(t, file("a", "12345"), file("b", "12345")), pack(t, file("c", "12345")))
	flat := pack(t, file("a", "12345"), file("b", "12345"), file("c", "12345"))
	for _, archive := range [][]byte{image.layout(t), flat, compressed(t, "gzip", flat)} {
		for _, limits := range []message.ArchiveLimits{{Entries: 100_000, Bytes: 14, PathBytes: 100}, {Entries: 2, Bytes: 1000, PathBytes: 100}} {
			answer, _ := unpack(t, archive, func(i *Input) { i.Limits = limits })
			goldentest.WantError(t, answer, message.KindTooLarge)
		}
	}
}

func TestAnImageNameOfARootFilesystemIsRefused(t *testing.T) {
	name := "app"
	answer, _ := unpack(t, rootfs(t), func(i *Input) { i.Image = &name })
	goldentest.WantError(t, answer, message.KindNotFound)
}

func TestUsersBeyondTheMappingAreNamed(t *testing.T) {
	far := file("f", "x")
	far.Uid = 70_000
	answer, _ := unpack(t, pack(t, far), nil)
	if problem := goldentest.WantError(t, answer, message.KindInvalid); !strings.Contains(problem.Message, "70000") {
		t.Errorf("got %q", problem.Message)
	}
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, request := range []string{"", "{", `{"unknown":1}`, `[]`} {
		answer := goldentest.RunRole(t, nil, "unpack", request)
		goldentest.WantError(t, answer, message.KindInvalid)
	}
	if answer := goldentest.RunRole(t, nil, "unpack"); answer.Code != 2 {
		t.Errorf("without a request: %+v", answer)
	}
	answer, _ := unpack(t, rootfs(t), func(i *Input) { i.Volume += "/gone" })
	if answer.Error == nil || answer.Code != 1 {
		t.Errorf("a missing volume: %+v", answer)
	}
	answer, _ = unpack(t, rootfs(t), func(i *Input) { i.Mapping = isolate.Mapping{} })
	if answer.Error == nil || answer.Code != 1 {
		t.Errorf("no mapping: %+v", answer)
	}
}

func TestStrangePackageDatabasesAreNoError(t *testing.T) {
	for name, c := range map[string]struct {
		entries []entry
		want    string
	}{
		"apk":       {[]entry{file("lib/apk/db/installed", "P:musl\nV:1.2\nA:x86_64\n\nP:busybox\nV:1.36\n\n")}, "[{musl 1.2} {busybox 1.36}]"},
		"a folder":  {[]entry{file("f", "x"), node("var/lib/dpkg/status", tar.TypeDir, "")}, "[]"},
		"a FIFO":    {[]entry{file("f", "x"), node("var/lib/dpkg/status", tar.TypeFifo, "")}, "[]"},
		"a symlink": {[]entry{file("f", "x"), node("var/lib/dpkg/status", tar.TypeSymlink, "/dev/zero")}, "[]"},
		"bytes":     {[]entry{file("var/lib/dpkg/status", "Package: a\xff\nVersion: 1\n"+strings.Repeat("\x00", 9000))}, "[{a\uFFFD 1}]"},
	} {
		result, _ := mustUnpack(t, pack(t, c.entries...), nil)
		if fmt.Sprint(result.Packages) != c.want {
			t.Errorf("%s: got %v", name, result.Packages)
		}
	}
}

func FuzzSelectImage(f *testing.F) {
	image := newImage(f)
	image.add(f, "app", "linux/amd64", pack(f, file("f", "x")))
	f.Add(image.layout(f))
	f.Add(image.dockerSave(f))
	f.Add(pack(f, file("index.json", `{"manifests":[{}]}`), file("oci-layout", "")))
	f.Add(pack(f, file("manifest.json", `[{"Config":"../x","Layers":["..","/"]}]`), node("x", tar.TypeSymlink, "x")))
	f.Fuzz(func(t *testing.T, archive []byte) {
		found, err := readLayout(bytes.NewReader(archive), wide)
		if err != nil || found == nil {
			return
		}
		config, layers, err := selectImage(found, Input{Platform: "linux/amd64"})
		if err == nil && (config == nil || len(layers) > layersLimit) {
			t.Errorf("got %v and %d layers", config, len(layers))
		}
	})
}
