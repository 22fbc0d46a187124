package unpack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"path"
	"strings"

	"pyro.dev/agent/internal/archive"
	"pyro.dev/agent/internal/message"
)

const (
	// indexDepthLimit bounds indexes of indexes.
	indexDepthLimit = 4
	layersLimit     = 512
	// What the result may carry, as its schema says.
	envLimit           = 4096
	envLimitBytes      = 131_072
	userLimitBytes     = 256
	directoryLimitSize = 4096
)

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform"`
	Annotations map[string]string `json:"annotations"`
}

// manifest is an OCI index or manifest: which of the two shows in what it holds.
type manifest struct {
	Manifests []descriptor `json:"manifests"`
	Config    *descriptor  `json:"config"`
	Layers    []descriptor `json:"layers"`
}

type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		Env        []string `json:"Env"`
		User       string   `json:"User"`
		WorkingDir string   `json:"WorkingDir"`
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// savedImage is one entry of docker save's manifest.json.
type savedImage struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// layer is one tar to apply: digest is of its bytes as stored (empty when unknown), diffID of the plain tar.
type layer struct{ name, digest, diffID string }

func unpackImage(cx context.Context, x *archive.Extractor, l *layout, input Input, result *Result) error {
	result.Kind = "oci"
	config, layers, err := selectImage(l, input)
	if err != nil {
		return err
	}
	if config.OS != "" && config.Architecture != "" && !matches(&platform{config.Architecture, config.OS, ""}, input.Platform) {
		return message.Errorf(message.KindInvalid, "the image is for %s/%s, not for %s",
			message.Clip(config.OS, 64), message.Clip(config.Architecture, 64), input.Platform)
	}
	if err := takeConfig(config, result); err != nil {
		return err
	}
	for _, each := range layers {
		if err := applyLayer(cx, x, l, each); err != nil {
			return err
		}
	}
	return nil
}

func takeConfig(config *imageConfig, result *Result) error {
	for _, variable := range config.Config.Env {
		if len(result.Env) == envLimit || len(variable) > envLimitBytes {
			return message.Errorf(message.KindTooLarge, "the image has too many or too long environment variables")
		}
		if strings.Contains(variable, "=") && !strings.ContainsRune(variable, 0) {
			result.Env = append(result.Env, variable)
		}
	}
	result.User, result.WorkingDir = config.Config.User, config.Config.WorkingDir
	if result.WorkingDir != "" {
		result.WorkingDir = path.Clean("/" + result.WorkingDir)
	}
	if len(result.User) > userLimitBytes || len(result.WorkingDir) > directoryLimitSize {
		return message.Errorf(message.KindTooLarge, "User or WorkingDir of the image is too long")
	}
	return nil
}

func selectImage(l *layout, input Input) (*imageConfig, []layer, error) {
	if _, found := l.parts["index.json"]; found {
		return selectFromIndex(l, input)
	}
	return selectFromSaved(l, input)
}

func selectFromIndex(l *layout, input Input) (*imageConfig, []layer, error) {
	var index manifest
	if err := l.document("index.json", "", &index); err != nil {
		return nil, nil, err
	}
	chosen, err := choose(index.Manifests, input)
	if err != nil {
		return nil, nil, err
	}
	for range indexDepthLimit {
		name, err := blobName(chosen.Digest)
		if err != nil {
			return nil, nil, err
		}
		var found manifest
		if err := l.document(name, chosen.Digest, &found); err != nil {
			return nil, nil, err
		}
		if found.Config != nil {
			return readManifest(l, found)
		}
		if chosen, err = forPlatform(found.Manifests, input.Platform); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, message.Errorf(message.KindInvalid, "the image is an index of indexes of indexes")
}

func readManifest(l *layout, found manifest) (*imageConfig, []layer, error) {
	name, err := blobName(found.Config.Digest)
	if err != nil {
		return nil, nil, err
	}
	var config imageConfig
	if err := l.document(name, found.Config.Digest, &config); err != nil {
		return nil, nil, err
	}
	diffs := config.RootFS.DiffIDs
	if len(found.Layers) > layersLimit || len(diffs) != len(found.Layers) {
		return nil, nil, message.Errorf(message.KindInvalid, "the image has %d layers and %d diff ids", len(found.Layers), len(diffs))
	}
	layers := make([]layer, len(found.Layers))
	for at, each := range found.Layers {
		if layers[at].name, err = blobName(each.Digest); err != nil {
			return nil, nil, err
		}
		layers[at].digest, layers[at].diffID = each.Digest, diffs[at]
	}
	return &config, layers, nil
}

func selectFromSaved(l *layout, input Input) (*imageConfig, []layer, error) {
	var images []savedImage
	if err := l.document("manifest.json", "", &images); err != nil {
		return nil, nil, err
	}
	var names []string
	var fitting []savedImage
	for _, image := range images {
		names = append(names, image.RepoTags...)
		if input.Image == nil || image.named(*input.Image) {
			fitting = append(fitting, image)
		}
	}
	if len(fitting) != 1 {
		return nil, nil, ambiguous(len(fitting), names, input)
	}
	image := fitting[0]
	configName := partName(image.Config)
	digest := ""
	if hexadecimal := strings.TrimSuffix(path.Base(configName), ".json"); digestPattern().MatchString("sha256:" + hexadecimal) {
		digest = "sha256:" + hexadecimal
	}
	var config imageConfig
	if err := l.document(configName, digest, &config); err != nil {
		return nil, nil, err
	}
	diffs := config.RootFS.DiffIDs
	if len(image.Layers) > layersLimit || len(diffs) != len(image.Layers) {
		return nil, nil, message.Errorf(message.KindInvalid, "the image has %d layers and %d diff ids", len(image.Layers), len(diffs))
	}
	layers := make([]layer, len(diffs))
	for at, name := range image.Layers {
		layers[at] = layer{name: partName(name), diffID: diffs[at]}
	}
	return &config, layers, nil
}

func (s savedImage) named(reference string) bool {
	for _, tag := range s.RepoTags {
		if sameReference(tag, reference) {
			return true
		}
	}
	hexadecimal := strings.TrimSuffix(path.Base(s.Config), ".json")
	return hexadecimal != "" && strings.TrimPrefix(reference, "sha256:") == hexadecimal
}

// sameReference compares names as docker shortens them: "docker.io/library/app:latest" is "app".
func sameReference(a, b string) bool {
	short := func(name string) string {
		name = strings.TrimPrefix(name, "docker.io/")
		name = strings.TrimPrefix(name, "library/")
		return strings.TrimSuffix(name, ":latest")
	}
	return short(a) == short(b)
}

// Annotations by which tools name the images of a layout.
var nameAnnotations = []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"}

func choose(all []descriptor, input Input) (descriptor, error) {
	var names []string
	var fitting []descriptor
	for _, each := range all {
		if isAttestation(each) {
			continue
		}
		own := []string{each.Digest}
		for _, key := range nameAnnotations {
			if name := each.Annotations[key]; name != "" {
				own = append(own, name)
				names = append(names, name)
			}
		}
		if input.Image == nil {
			fitting = append(fitting, each)
			continue
		}
		for _, name := range own {
			if sameReference(name, *input.Image) {
				fitting = append(fitting, each)
				break
			}
		}
	}
	if len(fitting) == 1 {
		return fitting[0], nil
	}
	// One image for several platforms may stand flat in the index.
	var here []descriptor
	for _, each := range fitting {
		if each.Platform != nil && matches(each.Platform, input.Platform) {
			here = append(here, each)
		}
	}
	if len(here) == 1 {
		return here[0], nil
	}
	return descriptor{}, ambiguous(len(fitting), names, input)
}

func ambiguous(fitting int, names []string, input Input) error {
	list := message.Clip(strings.Join(names, ", "), 1024)
	switch {
	case fitting == 0 && input.Image != nil:
		return message.Errorf(message.KindNotFound, "the archive holds no image %q; it holds: %s", message.Clip(*input.Image, 256), list)
	case fitting == 0:
		return message.Errorf(message.KindInvalid, "the archive holds no image")
	}
	return message.Errorf(message.KindInvalid, "the archive holds several images; choose one with --image: %s", list)
}

func forPlatform(all []descriptor, wanted string) (descriptor, error) {
	var offered []string
	for _, each := range all {
		if isAttestation(each) {
			continue
		}
		if each.Platform == nil || matches(each.Platform, wanted) {
			return each, nil
		}
		offered = append(offered, each.Platform.OS+"/"+each.Platform.Architecture)
	}
	return descriptor{}, message.Errorf(message.KindInvalid, "the image is not for %s, but for: %s",
		wanted, message.Clip(strings.Join(offered, ", "), 512))
}

func isAttestation(each descriptor) bool {
	return each.Annotations["vnd.docker.reference.type"] != "" ||
		each.Platform != nil && each.Platform.OS == "unknown"
}

// matches compares with a platform such as "linux/amd64".
func matches(p *platform, wanted string) bool {
	parts := strings.Split(wanted, "/")
	return len(parts) >= 2 && p.OS == parts[0] && p.Architecture == parts[1]
}

func applyLayer(cx context.Context, x *archive.Extractor, l *layout, each layer) error {
	stored, _, err := l.open(each.name)
	if err != nil {
		return err
	}
	var storedSum, plainSum hash.Hash = sha256.New(), sha256.New()
	counted := io.TeeReader(stored, storedSum)
	plain, err := archive.Decompress(counted)
	if err != nil {
		return archive.Damaged(each.name, err)
	}
	defer plain.Close()
	whole := io.TeeReader(plain, plainSum)
	if err := x.Layer(cx, whole); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, whole); err != nil {
		return archive.Damaged(each.name, err)
	}
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return archive.Damaged(each.name, err)
	}
	if got := digestOf(plainSum); got != each.diffID {
		return digestMismatch(each.name, each.diffID, got)
	}
	if got := digestOf(storedSum); each.digest != "" && got != each.digest {
		return digestMismatch(each.name, each.digest, got)
	}
	return nil
}

func digestOf(sum hash.Hash) string { return "sha256:" + hex.EncodeToString(sum.Sum(nil)) }
