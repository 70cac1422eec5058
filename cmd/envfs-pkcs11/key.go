//go:build cgo

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"envfs/keystore/pkcs11/wire"
)

// template is what keys are found by.
func template(k wire.Key) []*pkcs11.Attribute {
	t := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY)}
	if k.Object != "" {
		t = append(t, pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Object))
	}
	if k.ID != nil {
		t = append(t, pkcs11.NewAttribute(pkcs11.CKA_ID, k.ID))
	}
	return t
}

// search returns the keys that k names, two at most.
func (d *device) search(s pkcs11.SessionHandle, k wire.Key) ([]pkcs11.ObjectHandle, error) {
	if err := d.module.FindObjectsInit(s, template(k)); err != nil {
		return nil, fmt.Errorf("find key: %w", err)
	}
	found, _, err := d.module.FindObjects(s, 2)
	if end := d.module.FindObjectsFinal(s); err == nil {
		err = end
	}
	if err != nil {
		return nil, fmt.Errorf("find key: %w", err)
	}
	return found, nil
}

// key returns the one key that k names. It must be able to sign.
func (d *device) key(s pkcs11.SessionHandle, k wire.Key) (pkcs11.ObjectHandle, error) {
	found, err := d.search(s, k)
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, errRefused("the token has no such secret key: `envfs key generate --pkcs11 URI` makes one")
	case len(found) > 1:
		return 0, errRefused("several keys are called so: name one by its id, too")
	}
	if can, err := d.is(s, found[0], pkcs11.CKA_SIGN); err != nil {
		return 0, err
	} else if !can {
		return 0, errRefused("the key must not sign (CKA_SIGN is false): `envfs key generate --pkcs11 URI` makes one that may")
	}
	return found[0], nil
}

// is returns a boolean attribute of a key.
func (d *device) is(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, attribute uint) (bool, error) {
	got, err := d.module.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil {
		return false, fmt.Errorf("read key's attributes: %w", err)
	}
	return len(got) == 1 && bytes.ContainsAny(got[0].Value, "\x01"), nil
}

// mac returns the HMAC-SHA-256 of the message.
func (d *device) mac(s pkcs11.SessionHandle, q wire.Request) ([]byte, error) {
	o, err := d.key(s, q.Key)
	if err != nil {
		return nil, err
	}
	if q.New {
		if out, err := d.is(s, o, pkcs11.CKA_EXTRACTABLE); err != nil {
			return nil, err
		} else if out {
			return nil, errRefused("the key can leave its token (CKA_EXTRACTABLE): make one that cannot, by `envfs key generate --pkcs11 URI`")
		}
	}
	if err := d.module.SignInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_SHA256_HMAC, nil)}, o); err != nil {
		return nil, fmt.Errorf("HMAC-SHA-256: %w", err)
	}
	sum, err := d.module.Sign(s, q.Message)
	if err != nil {
		return nil, fmt.Errorf("HMAC-SHA-256: %w", err)
	}
	if len(sum) != sha256.Size {
		clear(sum)
		return nil, fmt.Errorf("HMAC-SHA-256: %d bytes", len(sum))
	}
	return sum, nil
}

// generate makes the key that k names.
func (d *device) generate(slot uint, s pkcs11.SessionHandle, k wire.Key) error {
	if found, err := d.search(s, k); err != nil {
		return err
	} else if len(found) > 0 {
		return errRefused("the token has a key of that name already")
	}
	rw, err := d.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("open session for writing: %w", err)
	}
	attributes := append(template(k),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, sha256.Size),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
	)
	_, err = d.module.GenerateKey(rw, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, nil)}, attributes)
	if err != nil {
		err = fmt.Errorf("generate key: %w", err)
	}
	return errors.Join(err, d.module.CloseSession(rw))
}
