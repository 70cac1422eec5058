package bucket

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"envfs/tests/command"
)

// policy returns the policy that docs/BUCKET.md prints below a heading, for the bucket of the rig.
func (r *rig) policy(heading string) string {
	r.t.Helper()
	text, err := os.ReadFile("../../docs/BUCKET.md")
	must(r.t, err)
	_, rest, ok := strings.Cut(string(text), "\n### "+heading+"\n```json\n")
	policy, _, ends := strings.Cut(rest, "\n```\n")
	if !ok || !ends {
		r.t.Fatalf("docs/BUCKET.md prints no policy below %q", heading)
	}
	policy = strings.ReplaceAll(policy, `arn:aws:s3:::team/vault/`, `arn:aws:s3:::`+r.bucket+`/team/vault/`)
	return strings.ReplaceAll(policy, `arn:aws:s3:::team"`, `arn:aws:s3:::`+r.bucket+`"`)
}

// as makes a user of the server with a policy, and returns the vault as that user sees it on another machine.
func (r *rig) as(policy string) (v *command.Vault, user *credentials.Credentials) {
	r.t.Helper()
	access, secret, err := r.server.NewUser(r.t.Context(), []byte(policy))
	must(r.t, err)
	v = r.elsewhere()
	v.Extra = []string{"AWS_ACCESS_KEY_ID=" + access, "AWS_SECRET_ACCESS_KEY=" + secret}
	return v, credentials.NewStaticV4(access, secret, "")
}

// succeeds runs a verb that must succeed and say something.
func succeeds(t *testing.T, v *command.Vault, want string, args ...string) {
	t.Helper()
	if res, err := v.Run(args...); err != nil || res.Code != 0 || !strings.Contains(res.Out, want) {
		t.Errorf("%q: %d, %v: %s%s", args, res.Code, err, res.Out, res.Talk)
	}
}

// looks proves that all works that only looks, and that writing is refused for a reason.
func looks(t *testing.T, r *rig, v *command.Vault, files map[string][]byte, reason string) {
	t.Helper()
	succeeds(t, v, "file1\n", v.Keyed("ls", v.Store, "d")...)
	succeeds(t, v, string(files["file1"]), v.Keyed("cat", v.Store, "d/file1")...)
	succeeds(t, v, "AES-256-GCM", "info", v.Store)
	must(t, v.Check())
	succeeds(t, v, "", "copy", v.Store, filepath.Join(v.Home, "copy"))
	must(t, v.Mount("--follow"))
	compare(t, filepath.Join(v.Point, "d"), files)
	must(t, v.Remount("--read-only"))
	compare(t, filepath.Join(v.Point, "d"), files)
	if err := os.WriteFile(filepath.Join(v.Point, "x"), nil, 0o644); err == nil {
		t.Error("a file was written to a read-only mount")
	}
	must(t, v.Unmount())
	refused := map[string][]string{
		"mount": v.Keyed("mount", v.Store, v.Point),
		"init":  v.Keyed("init", strings.Replace(v.Store, "team/vault", "team/vault/new", 1)),
		"copy":  {"copy", filepath.Join(v.Home, "copy"), strings.Replace(v.Store, "team/vault", "team/vault/new", 1)},
	}
	for verb, args := range refused {
		if res, err := v.Run(args...); err != nil || res.Code != 1 || !regexp.MustCompile(reason).MatchString(res.Talk) {
			t.Errorf("%s: %d, %v: %s; want %q", verb, res.Code, err, res.Talk, reason)
		}
	}
}

// Users with the policies that docs/BUCKET.md prints can do what it says, and no more.
func TestPolicies(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	all, err := r.server.Client()
	must(t, err)
	_, err = all.PutObject(ctx, r.bucket, "other/x", strings.NewReader("x"), 1, minio.PutObjectOptions{})
	must(t, err)

	writer, user := r.as(r.policy("Who writes"))
	must(t, writer.Mount())
	files := fill(t, filepath.Join(writer.Point, "d"), 30)
	must(t, writer.Remount())
	must(t, os.Remove(filepath.Join(writer.Point, "d", "file29")))
	delete(files, "file29")
	must(t, writer.Remount())
	fill(t, filepath.Join(writer.Point, "more"), 3)
	must(t, writer.Remount())
	st := status[shown](t, writer)
	must(t, writer.Unmount())
	if st.Bucket.Refused != 0 {
		t.Errorf("the writer may not delete: %d objects are kept", st.Bucket.Refused)
	}
	must(t, writer.Check())
	succeeds(t, writer, "", "copy", writer.Store, filepath.Join(writer.Home, "copy"))
	c, err := minio.New(r.server.Address, &minio.Options{Creds: user, Region: "us-east-1"})
	must(t, err)
	if _, err := c.StatObject(ctx, r.bucket, "other/x", minio.StatObjectOptions{}); err == nil {
		t.Error("the writer reads beyond its prefix")
	}
	if _, err := c.PutObject(ctx, r.bucket, "other/y", strings.NewReader("x"), 1, minio.PutObjectOptions{}); err == nil {
		t.Error("the writer writes beyond its prefix")
	}

	reader, user := r.as(r.policy("Who reads"))
	looks(t, r, reader, files, `these credentials may not write: (?s:.*)hint: --read-only looks`)
	must(t, writer.Mount())
	must(t, reader.Mount("--follow"))
	compare(t, filepath.Join(reader.Point, "d"), files)
	must(t, os.WriteFile(filepath.Join(writer.Point, "d", "news"), []byte("news"), 0o644))
	succeeds(t, writer, "", "sync", writer.Point)
	appear(t, filepath.Join(reader.Point, "d", "news"))
	must(t, writer.Unmount())
	must(t, reader.Unmount())
	c, err = minio.New(r.server.Address, &minio.Options{Creds: user, Region: "us-east-1"})
	must(t, err)
	if err := c.RemoveObject(ctx, r.bucket, "team/vault/root", minio.RemoveObjectOptions{}); err == nil {
		t.Error("the reader deletes")
	}

	// Whoever may not delete goes on; what is kept is counted.
	keeper, _ := r.as(strings.Replace(r.policy("Who writes"), `, "s3:DeleteObject"`, "", 1))
	must(t, keeper.Mount())
	for i := range 3 {
		compare(t, filepath.Join(keeper.Point, "d"), files)
		must(t, os.WriteFile(filepath.Join(keeper.Point, "d", "file1"), files["file2"], 0o644))
		files["file1"] = files["file2"]
		if i == 2 { // at the latest
			until(t, keeper, "a refused deletion is counted", func(st *shown) bool { return st.Bucket.Refused > 0 })
		}
		if st := status[shown](t, keeper); st.Bucket.Refused > 0 && i > 0 {
			res, err := keeper.Run("status")
			must(t, err)
			if !strings.Contains(res.Out, "the bucket keeps") {
				t.Errorf("status: %s", res.Out)
			}
			break
		}
		must(t, keeper.Remount())
	}
	must(t, keeper.Unmount())
	must(t, keeper.Check())
}

// A vault lives in a bucket whose objects have versions and are locked.
func TestLockedBucket(t *testing.T) {
	r := newRig(t)
	c, err := r.server.Client()
	must(t, err)
	bucket := r.bucket + "-locked"
	must(t, c.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{ObjectLocking: true}))
	mode, days, unit := minio.Governance, uint(1), minio.Days
	must(t, c.SetBucketObjectLockConfig(t.Context(), bucket, &mode, &days, &unit))
	must(t, c.SetBucketLifecycle(t.Context(), bucket, lifecycleOf(t)))
	v, err := command.New(binary, r.server.Location(bucket, "team/vault"), t.TempDir(), r.Extra...)
	must(t, err)
	r.tidy(v)
	must(t, v.Mount())
	files := fill(t, filepath.Join(v.Point, "d"), 20)
	must(t, v.Remount())
	must(t, os.Remove(filepath.Join(v.Point, "d", "file3")))
	delete(files, "file3")
	must(t, v.Remount())
	compare(t, filepath.Join(v.Point, "d"), files)
	must(t, v.Unmount())
	must(t, v.Check())
}

// lifecycleOf returns the rules that docs/BUCKET.md prints.
func lifecycleOf(t *testing.T) *lifecycle.Configuration {
	t.Helper()
	text, err := os.ReadFile("../../docs/BUCKET.md")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "\n## Versions, locks, lifecycle\n")
	_, rest, _ = strings.Cut(rest, "```json\n")
	rules, _, _ := strings.Cut(rest, "```")
	c := new(lifecycle.Configuration)
	must(t, json.Unmarshal([]byte(rules), c))
	if len(c.Rules) != 1 || c.Rules[0].NoncurrentVersionExpiration.NoncurrentDays != 30 {
		t.Fatalf("docs/BUCKET.md prints no rules: %+v", c)
	}
	return c
}

// On a server without conditional PUT all works that only looks; writing is refused with the reason.
func TestNoConditions(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	files := fill(t, filepath.Join(r.Point, "d"), 10)
	must(t, r.Unmount())
	p := newProxy(t, r.server.Address, nil)
	p.ignore(r.server, "If-Match", "If-None-Match")
	v := r.elsewhere()
	v.Store = strings.Replace(r.Store, r.server.Address, p.addr, 1)
	looks(t, r, v, files, `does not honour conditional PUT(?s:.*)hint: --read-only looks`)
}
