package kms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"envfs/kms/audit"
)

// Call is one call while it is answered, and what the log will tell of it.
type Call struct {
	Action string // for instance Decrypt
	Caller Caller
	Source string // address of the caller
	ID     string // of the request, unique

	at        time.Time
	key       string // ARN, or as the caller named it
	subject   string
	context   map[string]string
	toContext map[string]string
	changed   bool // the store knows of this call until it is in the log
}

const okResult = "ok"

// entry returns what the log tells of the call.
func (c *Call) entry(result string) *audit.Entry {
	return &audit.Entry{
		Time: c.at.UTC(), User: c.Caller.ARN, AccessKey: clip(c.Caller.AccessKey), Action: clip(c.Action), Key: clip(c.key), Subject: clip(c.subject),
		Context: bounded(c.context), ToContext: bounded(c.toContext), Source: c.Source, ID: c.ID, Result: result,
	}
}

// bounded returns a context as it is logged: one that is larger than any that is taken is left out.
func bounded(context map[string]string) map[string]string {
	if n := contextSize(context); n > maxContext {
		return map[string]string{"(left out)": fmt.Sprintf("%d bytes", n)}
	}
	return context
}

// clip bounds what a caller may write into the log.
func clip(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for !utf8.ValidString(s) && len(s) > most-utf8.UTFMax {
		s = s[:len(s)-1]
	}
	return s + "..."
}

// operation is how calls of one action are answered.
type operation struct {
	local bool // only for who administers the KMS on its machine
	uses  bool // keys, to encrypt or decrypt
	do    func(s *Service, c *Call, body []byte) (any, error)
}

// call makes an operation of a method with its own types of input and output.
func call[In, Out any](f func(*Service, *Call, *In) (*Out, error)) operation {
	return operation{do: func(s *Service, c *Call, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		return f(s, c, in)
	}}
}

// use makes an operation that uses keys.
func use[In, Out any](f func(*Service, *Call, *In) (*Out, error)) operation {
	op := call(f)
	op.uses = true
	return op
}

func local[In, Out any](f func(*Service, *Call, *In) (*Out, error)) operation {
	op := call(f)
	op.local = true
	return op
}

// decode decodes the input of a call. Members that are not known are refused: they would ask for something that is not
// done.
func decode(body []byte, in any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return NewError("SerializationException", "The request cannot be understood: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return NewError("SerializationException", "The request cannot be understood: there is more behind its end")
	}
	return nil
}

// none is an input or output without members.
type none struct{}

// wiper is an output that holds secrets.
type wiper interface{ wipe() }

// Do answers a call: with JSON, which the caller wipes as there may be secrets in it, or with an [*Error]. The call is
// in the audit log when Do returns; if it cannot be, it is answered with an error, and nothing of what it led to is
// told.
func (s *Service) Do(c *Call, body []byte) ([]byte, *Error) {
	c.at = s.now()
	op, ok := operations[c.Action]
	if op.uses {
		// The log has uses and changes in the order in which they came about.
		s.uses.RLock()
		defer s.uses.RUnlock()
	}
	defer s.settle(c)
	var reply []byte
	err := NewError("UnknownOperationException", "There is no operation of this name.")
	if ok {
		reply, err = s.do(c, op, body)
	}
	result := okResult
	if err != nil {
		result = err.Code
	}
	if lerr := s.record(c, result); lerr != nil {
		clear(reply)
		if err != nil {
			lerr = errors.Join(lerr, err)
		}
		return nil, internal(lerr)
	}
	return reply, err
}

func (s *Service) do(c *Call, op operation, body []byte) ([]byte, *Error) {
	if !s.current(c) {
		return nil, NewError("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if op.local && !c.Caller.Local {
		return nil, denied(c, c.Action, "*")
	}
	out, err := op.do(s, c, body)
	if err != nil {
		return nil, asError(err)
	}
	reply, err := json.Marshal(out)
	if w, ok := out.(wiper); ok {
		w.wipe()
	}
	if err != nil {
		return nil, internal(err)
	}
	return reply, nil
}

// current reports whether the caller's access key is still one: it may have been taken away since the signature was
// verified.
func (s *Service) current(c *Call) bool {
	if c.Caller.Local || c.Caller.AccessKey == "" {
		return true
	}
	now, ok := s.Caller(c.Caller.AccessKey)
	return ok && now == c.Caller
}

// Refuse has a call in the log that was refused before it came to [Service.Do], for instance because its signature is
// wrong. count tells how many more were refused that are not in the log one by one. It returns the error to answer
// with.
func (s *Service) Refuse(c *Call, err *Error, count int) *Error {
	c.at = s.now()
	e := c.entry(err.Code)
	e.Count = count
	if lerr := s.audit.Append(e); lerr != nil {
		return internal(errors.Join(lerr, err))
	}
	return err
}
