package server

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"envfs/kms"
	"envfs/kms/sigv4"
)

const (
	// maxBody bounds a request in bytes: a policy of 32 KiB, escaped, fits.
	maxBody = 256 << 10

	contentType  = "application/x-amz-json-1.1"
	targetPrefix = "TrentService."
	localPrefix  = "EnvfsKMS."
)

// api answers the requests of clients, which must be signed.
func (s *Server) api(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/health" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		s.health(w)
		return
	}
	c := &kms.Call{ID: kms.NewRequestID(), Source: r.RemoteAddr}
	reply, err := s.call(c, w, r)
	s.reply(w, c, reply, err)
}

// call answers one request.
func (s *Server) call(c *kms.Call, w http.ResponseWriter, r *http.Request) ([]byte, *kms.Error) {
	target, known := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	c.Action = target
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	defer clear(body)
	if err != nil {
		return nil, s.refuseStranger(c, requestError(err))
	}
	if r.Method != http.MethodPost {
		return nil, s.refuseStranger(c, kms.NewError("UnknownOperationException", "Only POST is answered."))
	}
	now := s.options.Now()
	accessKey, err := s.verifier.Verify(r, body, now)
	caller, exists := s.service.Caller(accessKey)
	c.Caller = caller
	if err == nil && !exists {
		err = &sigv4.Error{Code: "UnrecognizedClientException", Message: "The security token included in the request is invalid."}
	}
	if err != nil {
		c.Caller = kms.Caller{AccessKey: accessKey} // who it is has not been shown
		return nil, s.refuseStranger(c, signatureError(err))
	}
	if v := s.users.take(c.Caller.ARN, now); !v.ok {
		return nil, s.refuse(c, v, throttled())
	}
	if !known {
		return nil, s.service.Refuse(c, kms.NewError("UnknownOperationException", "X-Amz-Target names no operation of KMS."), 0)
	}
	return s.service.Do(c, body)
}

func throttled() *kms.Error {
	return kms.NewError("ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

// refuseStranger refuses a request of which nobody has shown who sent it. A source that sends many has them counted,
// not each logged.
func (s *Server) refuseStranger(c *kms.Call, err *kms.Error) *kms.Error {
	v := s.strangers.take(hostOf(c.Source), s.options.Now())
	if v.ok {
		return s.service.Refuse(c, err, 0)
	}
	return s.refuse(c, v, throttled())
}

func (s *Server) refuse(c *kms.Call, v verdict, err *kms.Error) *kms.Error {
	if !v.log {
		return err
	}
	return s.service.Refuse(c, err, v.count)
}

func requestError(err error) *kms.Error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return kms.NewError("RequestEntityTooLargeException", "The request is larger than %d bytes.", maxBody)
	}
	return kms.NewError("SerializationException", "The request cannot be read.")
}

func signatureError(err error) *kms.Error {
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return kms.NewError(e.Code, "%s", e.Message)
	}
	return kms.NewError("InvalidSignatureException", "%v", err)
}

// hostOf returns an address without its port.
func hostOf(source string) string {
	if host, _, err := net.SplitHostPort(source); err == nil {
		return host
	}
	return source
}

// reply sends an answer, and wipes it.
func (s *Server) reply(w http.ResponseWriter, c *kms.Call, reply []byte, err *kms.Error) {
	defer func() { clear(reply) }()
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Amzn-Requestid", c.ID)
	w.Header().Set("Cache-Control", "no-store")
	if err == nil {
		w.Write(reply) // a client that went away is told nothing
		return
	}
	if cause := errors.Unwrap(err); cause != nil {
		s.options.Log.Error("a call could not be answered", "action", c.Action, "request", c.ID, "cause", cause)
	}
	reply, jerr := json.Marshal(struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}{err.Code, err.Message})
	if jerr != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(err.Status())
	w.Write(reply)
}

// health tells whether calls can be answered. It needs no signature and tells nothing else.
func (s *Server) health(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := s.service.Healthy(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, `{"status":"failing"}`+"\n")
		return
	}
	io.WriteString(w, `{"status":"ok"}`+"\n")
}

// admin answers the requests of who administers the KMS on its machine, whom the socket has let in.
func (s *Server) admin(w http.ResponseWriter, r *http.Request) {
	c := &kms.Call{ID: kms.NewRequestID(), Source: r.RemoteAddr}
	c.Caller = kms.Caller{ARN: LocalName(peerOf(r)), Local: true}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.reply(w, c, nil, s.service.Refuse(c, requestError(err), 0))
		return
	}
	target := r.Header.Get("X-Amz-Target")
	if action, ok := strings.CutPrefix(target, targetPrefix); ok {
		c.Action = action
	} else {
		c.Action, _ = strings.CutPrefix(target, localPrefix)
	}
	reply, kerr := s.service.Do(c, body)
	if kerr != nil || c.Action != "Backup" {
		s.reply(w, c, reply, kerr)
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if err := s.service.WriteBackup(w); err != nil {
		s.options.Log.Error("a backup failed", "cause", err)
		panic(http.ErrAbortHandler) // the client must not take it for complete
	}
}
