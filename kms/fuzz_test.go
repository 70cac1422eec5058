package kms

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"envfs/kms/seal"
)

// FuzzCalls: whatever is sent is answered, or refused with an error that is the caller's.
func FuzzCalls(f *testing.F) {
	key, err := seal.NewKeyFile(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	if _, err := Init(f.Context(), dir, DefaultConfig, key, testEpoch); err != nil {
		f.Fatal(err)
	}
	s, err := Open(f.Context(), dir, key, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	actions := slices.Sorted(maps.Keys(operations))
	for i := range actions {
		f.Add(i, true, []byte(`{}`))
	}
	f.Add(slices.Index(actions, "CreateKey"), true, []byte(`{"Description":"x"}`))
	f.Add(slices.Index(actions, "Decrypt"), false, []byte(`{"CiphertextBlob":"AQEB","EncryptionContext":{"a":"b"}}`))
	f.Add(slices.Index(actions, "GenerateDataKey"), true, []byte(`{"KeyId":"alias/x","NumberOfBytes":-1}`))
	f.Add(slices.Index(actions, "ListKeys"), true, []byte(`{"Limit":1,"Marker":"9223372036854775807"}`))
	f.Fuzz(func(t *testing.T, action int, admin bool, body []byte) {
		c := &Call{Action: actions[uint(action)%uint(len(actions))], Caller: Caller{ARN: "arn:aws:iam::000000000000:user/x", Admin: admin}, ID: NewRequestID(), at: testEpoch}
		if _, err := s.Do(c, body); err != nil && err.Code == codeInternal {
			t.Fatalf("%s %q: %v", c.Action, body, err.cause)
		}
	})
}
