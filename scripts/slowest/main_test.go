package main

import (
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"noise of A\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":1.5}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"why B failed\n"}
{"Action":"run","Package":"p","Test":"TestB/sub"}
{"Action":"pass","Package":"p","Test":"TestB/sub","Elapsed":9}
{"Action":"fail","Package":"p","Test":"TestB","Elapsed":10}
{"Action":"output","Package":"p","Output":"FAIL\tp\t11s\n"}
{"Action":"fail","Package":"p","Elapsed":11}
{"Action":"output","Package":"q","Output":"ok  \tq\t0.1s\n"}
{"Action":"pass","Package":"q","Elapsed":0.1}
go: a word from go itself
`

func TestReport(t *testing.T) {
	var out strings.Builder
	r := &report{out: &out, output: make(map[key][]string)}
	if err := r.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	r.close()
	got := out.String()
	for _, want := range []string{"why B failed\n", "FAIL\tp\t11s\n", "ok  \tq\t0.1s\n", "go: a word from go itself\n",
		"   10.00 s  p TestB\n    1.50 s  p TestA\n", "2 passed, 1 failed, 0 skipped; 1 packages failed\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	for _, no := range []string{"noise of A", "TestB/sub"} {
		if strings.Contains(got, no) {
			t.Errorf("%q stands in:\n%s", no, got)
		}
	}
}

// A test that was running when its process died tells why.
func TestReportOfADeadProcess(t *testing.T) {
	const events = `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oh\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t1s\n"}
{"Action":"fail","Package":"p","Elapsed":1}
`
	var out strings.Builder
	r := &report{out: &out, output: make(map[key][]string)}
	if err := r.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "panic: oh\n") || r.broken != 1 {
		t.Errorf("%d broken:\n%s", r.broken, out.String())
	}
}
