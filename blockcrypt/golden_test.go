package blockcrypt

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vector is one worked example. Its fields are text, or bytes in hexadecimal.
type vector map[string]string

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// vectors returns the worked examples of docs/FORMAT.md. Keys and AADs are written down here as the document does.
func vectors(t *testing.T) map[string]vector {
	t.Helper()
	rnd := testRand(42)
	v, kek := testVault, testKEKs[2]
	suite, zero, epoch := []byte{1}, make([]byte, 16), U32(2)
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	all := map[string]vector{
		"common": {"vault": hexOf(v.ID[:]), "kek": hexOf(kek), "epoch": "2", "file": hexOf(testFile[:]),
			"directory": hexOf(testDir[:]), "r": hexOf(testR[:]), "extra": hexOf(testX[:])},
	}

	entry := testEntry("hello.txt")
	all["entry"] = vector{"name": hexOf([]byte(entry.Name)), "body": hexOf(must(EncodeEntry(&entry)))}
	entries := []Entry{entry, testDirEntry("dir")}
	leaf := makeShard(t, entries)
	index := must(EncodeIndex(&Index{Salt: testSalt, Names: 2, Leaf: leaf}))
	name := testName(KindIndex)
	obj := must(v.SealObject(rnd, kek, 2, KindIndex, name, index))
	all["index"] = vector{"name": name, "salt": hexOf(testSalt[:]), "body": hexOf(index), "object": hexOf(obj),
		"key": hexOf(Derive(kek, nil, KeySize, "index", suite, v.ID[:], zero, epoch, []byte(name))),
		"aad": hexOf(Context("index", obj[:64], []byte(name)))}

	page := must(EncodeRunPage(0, testRuns()))
	name = testName(KindMapPage)
	all["map"] = vector{"name": name, "body": hexOf(page),
		"object": hexOf(must(v.SealObject(rnd, kek, 2, KindMapPage, name, page))),
		"key":    hexOf(Derive(kek, nil, KeySize, "map", suite, v.ID[:], zero, epoch, []byte(name)))}

	dek, w, err := v.NewDEK(rnd, kek, 2, testFile, 1)
	if err != nil {
		t.Fatal(err)
	}
	all["dek"] = vector{"number": "1", "dek": hexOf(dek[:]), "commitment": hexOf(w.Commit[:]), "wrap": hexOf(w.Wrap),
		"key": hexOf(Derive(kek, nil, KeySize, "dek", suite, v.ID[:], zero, epoch, testFile[:], U32(1))),
		"aad": hexOf(Context("dek", v.ID[:], zero, epoch, testFile[:], U32(1)))}

	nonce := make([]byte, NonceSize)
	rnd.Read(nonce)
	inlineCipher, err := v.NewInlineCipher(&dek, testFile, testGen)
	if err != nil {
		t.Fatal(err)
	}
	h := &Header{Entry: entry, Parent: testDir, Runs: []Run{{Count: 1, Kind: RunHeader}}, NextExt: 1,
		InlineGen: testGen, InlineDEK: 1, InlineLen: []uint32{5}}
	record := inlineCipher.Seal(nil, nonce, []byte("hello"), 0, 0)
	name = testName(KindHeader)
	all["header"] = vector{"name": name, "body": hexOf(must(encodeHeader(h))), "inline plaintext": hexOf([]byte("hello")),
		"object":     hexOf(must(v.SealHeader(rnd, kek, 2, name, testFile, []WrappedDEK{w}, h, record))),
		"key":        hexOf(Derive(kek, nil, KeySize, "header", suite, v.ID[:], zero, epoch, []byte(name))),
		"inline key": hexOf(Derive(dek[:], nil, KeySize, "inline", suite, testFile[:], testGen[:])),
		"inline aad": hexOf(Context("inline", testFile[:], testGen[:], U32(0), U32(5))),
		"generation": hexOf(testGen[:])}

	extentCipher, err := v.NewExtentCipher(&dek, testFile, testGen)
	if err != nil {
		t.Fatal(err)
	}
	rnd.Read(nonce)
	block := bytes.Repeat([]byte("block of 16 byte"), BlockSize/16)
	prefix := ExtentPrefix(testGen, 1, w.Commit)
	record = extentCipher.Seal(nil, nonce, block, 0, 77)
	all["extent"] = vector{"prefix": hexOf(prefix[:]), "generation": hexOf(testGen[:]), "slot": "0", "block": "77",
		"record's SHA-256": Sum(record).String(), "record's first 32 bytes": hexOf(record[:32]),
		"record's tag": hexOf(record[len(record)-tagSize:]), "plaintext": "4096 bytes: 'block of 16 byte' 256 times",
		"key": hexOf(Derive(dek[:], nil, KeySize, "extent", suite, testFile[:], testGen[:])),
		"aad": hexOf(Context("extent", testFile[:], testGen[:], U32(0), U64(77), U32(BlockSize)))}

	root := must(v.SealRoot(rnd, kek, testRoot()))
	all["root"] = vector{"object": hexOf(root), "body": hexOf(must(encodeRoot(testRoot()))),
		"key": hexOf(Derive(kek, nil, KeySize, "root", suite, v.ID[:], epoch, U64(7), testR[:]))}

	name = testName(KindFold)
	all["fold"] = vector{"name": name, "object": hexOf(must(v.EncodeFold(kek, name, testFold()))),
		"body": hexOf(must(appendFoldBody(nil, testFold()))),
		"key":  hexOf(Derive(kek, nil, KeySize, "fold", v.ID[:], epoch, []byte(name)))}

	name = testName(KindSegment)
	segment := v.AppendSegmentPrefix(nil, SegmentPrefix{Epoch: 2, Term: 3, Seq: 7, First: 90})
	pos := BatchPos{Term: 3, Number: 90, Offset: 64, Prev: Hash{1, 2}}
	segment, hash, where, err := segmentCipher(t).SealBatch(segment, rnd, pos, []byte("meta"), [][]byte{[]byte("content")})
	if err != nil {
		t.Fatal(err)
	}
	all["segment"] = vector{"name": name, "object": hexOf(segment), "batch hash": hash.String(),
		"meta": hexOf([]byte("meta")), "content": hexOf([]byte("content")), "hash before": pos.Prev.String(),
		"key":         hexOf(Derive(kek, nil, KeySize, "batch", suite, v.ID[:], zero, epoch, []byte(name))),
		"meta aad":    hexOf(Context("batch", segment[64:88], U64(3), U64(90), U64(64), pos.Prev[:])),
		"content aad": hexOf(Context("content", U64(90), U64(where[0].Offset), U32(0), U32(7)))}
	return all
}

// TestVectors checks that the same inputs still give the same bytes, and that the bytes of the file still open.
func TestVectors(t *testing.T) {
	defer forgetNonces()
	forgetNonces()
	got, err := json.MarshalIndent(vectors(t), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", "vectors.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the bytes of the format have changed; if that is meant, run with -update and mend docs/FORMAT.md")
	}
	var stored map[string]vector
	if err := json.Unmarshal(want, &stored); err != nil {
		t.Fatal(err)
	}
	object := func(what string) []byte {
		b, err := hex.DecodeString(stored[what]["object"])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, _, err := testVault.OpenObject(testKEKs, KindIndex, stored["index"]["name"], object("index")); err != nil {
		t.Error(err)
	}
	if _, _, _, err := testVault.OpenHeader(testKEKs, stored["header"]["name"], testFile, object("header")); err != nil {
		t.Error(err)
	}
	if _, err := testVault.OpenRoot(testKEKs, object("root")); err != nil {
		t.Error(err)
	}
	if _, err := testVault.OpenFold(testKEKs, stored["fold"]["name"], object("fold")); err != nil {
		t.Error(err)
	}
}
