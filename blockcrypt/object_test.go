package blockcrypt

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func TestObjectRoundTripAndTamper(t *testing.T) {
	rnd := testRand(11)
	for _, kind := range []Kind{KindIndex, KindShard, KindList, KindMapPage} {
		for _, size := range []int{0, 1, 251, 252, 253, 1000} {
			body := bytes.Repeat([]byte{7}, size)
			obj, err := testVault.SealObject(rnd, testKEKs[2], 2, kind, testName(kind), body)
			if err != nil {
				t.Fatal(err)
			}
			got, epoch, err := testVault.OpenObject(testKEKs, kind, testName(kind), obj)
			if err != nil || epoch != 2 || !bytes.Equal(got, body) {
				t.Fatalf("kind %d, %d bytes: got %d bytes of epoch %d, %v", kind, size, len(got), epoch, err)
			}
			if size == 253 {
				tamper(t, testName(kind), obj, func(b []byte) error {
					_, _, err := testVault.OpenObject(testKEKs, kind, testName(kind), b)
					return err
				})
			}
		}
	}
}

func TestObjectElsewhere(t *testing.T) {
	name := testName(KindIndex)
	obj, err := testVault.SealObject(testRand(1), testKEKs[2], 2, KindIndex, name, []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	other := Name{Kind: KindIndex, ID: testDir, Seq: 8, R: testR}.String()
	_, _, err = testVault.OpenObject(testKEKs, KindIndex, other, obj)
	mustDamaged(t, "other name", err)
	_, _, err = testVault.OpenObject(testKEKs, KindShard, testName(KindShard), obj)
	mustDamaged(t, "other kind", err)
	v := testVault
	v.ID[0]++
	_, _, err = v.OpenObject(testKEKs, KindIndex, name, obj)
	mustDamaged(t, "other vault", err)
	v = testVault
	v.Domain[0]++
	_, _, err = v.OpenObject(testKEKs, KindIndex, name, obj)
	mustDamaged(t, "other domain", err)
	_, _, err = testVault.OpenObject(keyring{2: testKEKs[1]}, KindIndex, name, obj)
	mustDamaged(t, "other key", err)

	if _, err := testVault.SealObject(testRand(2), testKEKs[2], 2, KindShard, name, nil); err == nil {
		t.Error("sealed a shard under the name of an index")
	}
	if _, err := testVault.SealObject(testRand(2), testKEKs[2], 2, KindHeader, testName(KindHeader), nil); err == nil {
		t.Error("sealed a header as an object")
	}
	v = Vault{Suite: XChaCha20Poly1305}
	if _, err := v.SealObject(testRand(2), testKEKs[2], 2, KindIndex, name, nil); !errors.Is(err, ErrSuite) {
		t.Errorf("suite 2: %v", err)
	}
}

func TestDEK(t *testing.T) {
	dek, w, err := testVault.NewDEK(testRand(1), testKEKs[1], 1, testFile, 3)
	if err != nil {
		t.Fatal(err)
	}
	got, err := testVault.UnwrapDEK(testKEKs, testFile, w)
	if err != nil || got != dek {
		t.Fatalf("got another key, %v", err)
	}
	again, err := testVault.WrapDEK(testRand(2), testKEKs[2], 2, testFile, 3, w.Born, &dek)
	if err != nil || again.Commit != w.Commit || again.Epoch != 2 {
		t.Fatalf("rewrapped: %+v, %v", again, err)
	}
	for name, change := range map[string]func(*WrappedDEK){
		"number": func(w *WrappedDEK) { w.Number++ },
		"zero":   func(w *WrappedDEK) { w.Number = 0 },
		"epoch":  func(w *WrappedDEK) { w.Epoch++ },
		"commit": func(w *WrappedDEK) { w.Commit[31] ^= 1 },
		"nonce":  func(w *WrappedDEK) { w.Wrap[0] ^= 1 },
		"key":    func(w *WrappedDEK) { w.Wrap[20] ^= 1 },
		"short":  func(w *WrappedDEK) { w.Wrap = w.Wrap[:10] },
	} {
		bad := w
		bad.Wrap = bytes.Clone(w.Wrap)
		change(&bad)
		key, err := testVault.UnwrapDEK(testKEKs, testFile, bad)
		mustDamaged(t, name, err)
		if key != [32]byte{} {
			t.Errorf("%s: returned a key with the error", name)
		}
	}
	_, err = testVault.UnwrapDEK(testKEKs, testDir, w)
	mustDamaged(t, "other file", err)
}

// testHeaderObject returns a header with two data keys and two inline blocks.
func testHeaderObject(t testing.TB) (obj []byte, deks []WrappedDEK, inline []byte) {
	rnd := testRand(3)
	dek, w, err := testVault.NewDEK(rnd, testKEKs[1], 1, testFile, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, w2, err := testVault.NewDEK(rnd, testKEKs[2], 2, testFile, 2)
	if err != nil {
		t.Fatal(err)
	}
	c, err := testVault.NewInlineCipher(&dek, testFile, testGen)
	if err != nil {
		t.Fatal(err)
	}
	h := testHeader()
	for i, n := range h.InlineLen {
		nonce := make([]byte, NonceSize)
		rnd.Read(nonce)
		inline = c.Seal(inline, nonce, bytes.Repeat([]byte{byte(i + 1)}, int(n)), uint32(i), 0)
	}
	deks = []WrappedDEK{w, w2}
	obj, err = testVault.SealHeader(rnd, testKEKs[2], 2, testName(KindHeader), testFile, deks, h, inline)
	if err != nil {
		t.Fatal(err)
	}
	return obj, deks, inline
}

func TestHeader(t *testing.T) {
	defer forgetNonces()
	obj, deks, inline := testHeaderObject(t)
	gotDEKs, h, gotInline, err := testVault.OpenHeader(testKEKs, testName(KindHeader), testFile, obj)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(h, testHeader()) || !reflect.DeepEqual(gotDEKs, deks) || !bytes.Equal(gotInline, inline) {
		t.Fatalf("got %+v", h)
	}
	dek, err := testVault.UnwrapDEK(testKEKs, testFile, gotDEKs[0])
	if err != nil {
		t.Fatal(err)
	}
	c, err := testVault.NewInlineCipher(&dek, testFile, h.InlineGen)
	if err != nil {
		t.Fatal(err)
	}
	err = h.InlineRecords(gotInline, func(i uint32, record []byte) error {
		plain, err := c.Open(nil, record, i, 0)
		if err == nil && !bytes.Equal(plain, bytes.Repeat([]byte{byte(i + 1)}, int(h.InlineLen[i]))) {
			t.Errorf("inline block %d has other bytes", i)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = testVault.OpenHeader(testKEKs, testName(KindHeader), testDir, obj)
	mustDamaged(t, "other file", err)
}

func TestHeaderTamper(t *testing.T) {
	dek, w, err := testVault.NewDEK(testRand(4), testKEKs[2], 2, testFile, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := testVault.NewInlineCipher(&dek, testFile, testGen)
	if err != nil {
		t.Fatal(err)
	}
	h := &Header{Entry: Entry{Name: "a", Type: TypeRegular}, InlineGen: testGen, InlineDEK: 1, InlineLen: []uint32{5},
		Runs: []Run{{Count: 1, Kind: RunHeader}}}
	inline := c.Seal(nil, make([]byte, NonceSize), []byte("hello"), 0, 0)
	name := testName(KindHeader)
	obj, err := testVault.SealHeader(testRand(5), testKEKs[2], 2, name, testFile, []WrappedDEK{w}, h, inline)
	if err != nil {
		t.Fatal(err)
	}
	tamper(t, name, obj, func(b []byte) error {
		_, h, inline, err := testVault.OpenHeader(testKEKs, name, testFile, b)
		if err != nil {
			return err
		}
		return h.InlineRecords(inline, func(i uint32, record []byte) error {
			_, err := c.Open(nil, record, i, 0)
			return err
		})
	})
}

func TestHeaderRefused(t *testing.T) {
	name := testName(KindHeader)
	for what, change := range map[string]func(*Header){
		"journal run":     func(h *Header) { h.Runs[0].Kind = RunJournal },
		"overlap":         func(h *Header) { h.Runs[1].Start = 2 },
		"empty run":       func(h *Header) { h.Runs[1].Count = 0 },
		"slot":            func(h *Header) { h.Runs[0].Slot = MaxExtentSlots },
		"inline slot":     func(h *Header) { h.Runs[3].Slot = 1 },
		"two maps":        func(h *Header) { h.MapTop = testPageRef(1) },
		"two tables":      func(h *Header) { h.ExtTop = testPageRef(1) },
		"extents' order":  func(h *Header) { h.Extents[1].Number = 2 },
		"known as rest":   func(h *Header) { h.Rest[1] = []byte{0} },
		"no item as rest": func(h *Header) { h.Rest[99] = []byte{0x18, 0x01} },
		"inline length":   func(h *Header) { h.InlineLen[0]++ },
		"entry":           func(h *Header) { h.Entry.Name = "" },
	} {
		h := testHeader()
		change(h)
		if _, err := testVault.SealHeader(testRand(6), testKEKs[2], 2, name, testFile, nil, h, make([]byte, BlockSize+17+2*RecordOverhead)); err == nil {
			t.Errorf("%s: sealed", what)
		}
	}
}

func TestRoot(t *testing.T) {
	want := testRoot()
	data, err := testVault.SealRoot(testRand(7), testKEKs[2], want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := testVault.OpenRoot(testKEKs, data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	p, err := ParseRootPrefix(data)
	if err != nil || p != want.RootPrefix {
		t.Fatalf("prefix %+v, %v", p, err)
	}
	tamper(t, "root", data, func(b []byte) error {
		_, err := testVault.OpenRoot(testKEKs, b)
		return err
	})
	bare := &Root{RootPrefix: want.RootPrefix, Dirs: want.Dirs, Epochs: []EpochStart{{Epoch: 2}}}
	bare.FirstSegment, bare.Seq = "", 8
	if data, err = testVault.SealRoot(testRand(8), testKEKs[2], bare); err != nil {
		t.Fatal(err)
	}
	if got, err = testVault.OpenRoot(testKEKs, data); err != nil || !reflect.DeepEqual(got, bare) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestRootRefused(t *testing.T) {
	for what, change := range map[string]func(*Root){
		"key file":    func(r *Root) { r.KeyFile.Name = "root" },
		"fold":        func(r *Root) { r.Fold = ObjRef{} },
		"segment":     func(r *Root) { r.FirstSegment = "journal/../x" },
		"directory":   func(r *Root) { r.Dirs[1].Name = "else" },
		"last":        func(r *Root) { r.Last.Name = "folds/1" },
		"predecessor": func(r *Root) { r.Predecessor.Name = "root" },
		"terms":       func(r *Root) { r.Terms = make([]Term, MaxRootTerms+1) },
		"no epochs":   func(r *Root) { r.Epochs = nil },
		"epochs":      func(r *Root) { r.Epochs = []EpochStart{{Epoch: 2}, {Epoch: 1, Fold: 5}} },
		"folds":       func(r *Root) { r.Epochs = []EpochStart{{Epoch: 1, Fold: 6}, {Epoch: 2, Fold: 5}} },
		"newest":      func(r *Root) { r.Epochs = []EpochStart{{Epoch: 1}} },
		"identity":    func(r *Root) { r.Identity = make([]byte, maxIdentity+1) },
		"too long": func(r *Root) {
			for len(r.Terms) < MaxRootTerms {
				r.Terms = append(r.Terms, Term{Host: string(make([]byte, 255)), User: string(make([]byte, 255))})
			}
		},
	} {
		r := testRoot()
		change(r)
		if _, err := testVault.SealRoot(testRand(9), testKEKs[2], r); err == nil {
			t.Errorf("%s: sealed", what)
		}
	}
	r := testRoot()
	for len(r.Terms) < MaxRootTerms {
		r.Terms = append(r.Terms, Term{Host: "a-host-name-of-forty-bytes-or-thereabouts", User: "some-user"})
	}
	if _, err := testVault.SealRoot(testRand(10), testKEKs[2], r); err != nil {
		t.Errorf("%d terms: %v", len(r.Terms), err)
	}
}

func TestFold(t *testing.T) {
	want := testFold()
	name := testName(KindFold)
	data, err := testVault.EncodeFold(testKEKs[2], name, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := testVault.OpenFold(testKEKs, name, data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err = DecodeFold(data); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("without a key: got %+v, %v", got, err)
	}
	tamper(t, name, data, func(b []byte) error {
		_, err := testVault.OpenFold(testKEKs, name, b)
		return err
	})
	want.Born = []Born{want.Born[1], want.Born[0]}
	unsorted, err := testVault.EncodeFold(testKEKs[2], name, want)
	if err != nil || !bytes.Equal(unsorted, data) {
		t.Errorf("the order of the list matters: %v", err)
	}
	for what, change := range map[string]func(*FoldRecord){
		"twice": func(f *FoldRecord) { f.Born = append(f.Born, f.Born[0]) },
		"path":  func(f *FoldRecord) { f.Dead[0].Name = "../etc/passwd" },
		"run":   func(f *FoldRecord) { f.Runs[0].Name = "root" },
		"name":  func(f *FoldRecord) { f.Seq++ },
		"from":  func(f *FoldRecord) { f.From = f.Seq + 1 },
	} {
		f := testFold()
		change(f)
		if _, err := testVault.EncodeFold(testKEKs[2], name, f); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
}
