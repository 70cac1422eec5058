package wire

import (
	"bytes"
	"io"
	"reflect"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	var pipe bytes.Buffer
	sent := Request{Op: MAC, Key: Key{Token: "office", Object: "envfs", ID: []byte{1}}, Message: []byte("message"), New: true}
	for range 2 {
		if err := Write(&pipe, sent); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		var got Request
		if err := Read(&pipe, &got); err != nil || !reflect.DeepEqual(got, sent) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if err := Read(&pipe, &Request{}); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if err := Write(&pipe, Request{Message: make([]byte, maxFrame)}); err == nil || pipe.Len() > 0 {
		t.Errorf("a frame that is too long: %v", err)
	}
}

func TestBadFrames(t *testing.T) {
	for _, frame := range []string{"\x00", "\x00\x00\x00\x05{}", "\xff\xff\xff\xff", "\x00\x00\x00\x02no", "\x00\x00\x00\x00"} {
		if err := Read(bytes.NewBufferString(frame), &Reply{}); err == nil || err == io.EOF {
			t.Errorf("%q: %v", frame, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0d{\"code\":\"ok\"}"))
	f.Fuzz(func(_ *testing.T, frame []byte) { _ = Read(bytes.NewReader(frame), &Reply{}) })
}
