package kms

import (
	"encoding/json"
	"fmt"
	"time"

	"envfs/kms/store"
)

// operations are the actions of AWS KMS that there are, and those of who administers the KMS on its machine.
var operations = map[string]operation{
	"CancelKeyDeletion":               call((*Service).cancelKeyDeletion),
	"CreateAlias":                     call((*Service).createAlias),
	"CreateKey":                       call((*Service).createKey),
	"Decrypt":                         use((*Service).decrypt),
	"DeleteAlias":                     call((*Service).deleteAlias),
	"DescribeKey":                     call((*Service).describeKey),
	"DisableKey":                      call((*Service).disableKey),
	"DisableKeyRotation":              call((*Service).disableKeyRotation),
	"EnableKey":                       call((*Service).enableKey),
	"EnableKeyRotation":               call((*Service).enableKeyRotation),
	"Encrypt":                         use((*Service).encrypt),
	"GenerateDataKey":                 use((*Service).generateDataKey),
	"GenerateDataKeyWithoutPlaintext": use((*Service).generateDataKeyWithoutPlaintext),
	"GetKeyPolicy":                    call((*Service).getKeyPolicy),
	"GetKeyRotationStatus":            call((*Service).getKeyRotationStatus),
	"ListAliases":                     call((*Service).listAliases),
	"ListKeyPolicies":                 call((*Service).listKeyPolicies),
	"ListKeyRotations":                call((*Service).listKeyRotations),
	"ListKeys":                        call((*Service).listKeys),
	"ListResourceTags":                call((*Service).listResourceTags),
	"PutKeyPolicy":                    call((*Service).putKeyPolicy),
	"ReEncrypt":                       use((*Service).reEncrypt),
	"RotateKeyOnDemand":               call((*Service).rotateKeyOnDemand),
	"ScheduleKeyDeletion":             call((*Service).scheduleKeyDeletion),
	"UpdateAlias":                     call((*Service).updateAlias),
	"UpdateKeyDescription":            call((*Service).updateKeyDescription),

	"CreateUser": local((*Service).createUser),
	"ListUsers":  local((*Service).listUsers),
	"RekeyUser":  local((*Service).rekeyUser),
	"RemoveUser": local((*Service).removeUser),
	"Backup":     local((*Service).backup),
}

// seconds is a time as AWS's protocol writes it: seconds since 1970, with a fraction.
type seconds time.Time

// MarshalJSON returns the time as a number.
func (s seconds) MarshalJSON() ([]byte, error) {
	ms := time.Time(s).UnixMilli()
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// at returns a pointer to a time that may be none.
func at(t time.Time) *seconds {
	if t.IsZero() {
		return nil
	}
	s := seconds(t)
	return &s
}

// keyInput is the input of actions that need no more than a key.
type keyInput struct {
	KeyID string `json:"KeyId"`
}

// readKey returns the key that a call names by id or ARN, and an unlock to be called when done with it.
func (s *Service) readKey(c *Call, name string) (k *key, done func(), err error) {
	s.mu.RLock()
	if k, err = s.targetByID(c, c.Action, name); err != nil {
		s.mu.RUnlock()
		return nil, nil, err
	}
	return k, s.mu.RUnlock, nil
}

// changeKey has f change the key that a call names by id or ARN, if its caller may.
func (s *Service) changeKey(c *Call, name string, f func(k *key) error) (*key, error) {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	k, err := s.targetByID(c, c.Action, name)
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	next := k.changed()
	if err := f(next); err != nil {
		return nil, err
	}
	return next, s.commit(c, func(tx *store.Tx) error { return putKey(tx, next) }, func() { s.keys[next.id] = next })
}

// putKey puts a key's record.
func putKey(tx *store.Tx, k *key) error {
	record, err := json.Marshal(k.keyRecord)
	if err != nil {
		return err
	}
	return tx.Put(tableKeys, keyID(k.id), record)
}

// putBacking puts the newest backing key of a key.
func putBacking(tx *store.Tx, k *key) error {
	newest := k.Backing[len(k.Backing)-1].ID
	return tx.Put(tableBacking, backingName(k, newest), k.backing[newest].Bytes())
}

func backingName(k *key, b backingID) string {
	text, _ := b.MarshalText()
	return keyID(k.id) + "/" + string(text)
}
