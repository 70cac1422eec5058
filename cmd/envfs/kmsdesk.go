package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"syscall"

	"envfs/cmd/envfs/internal/secret"
	"envfs/kms"
	"envfs/kms/server"
)

// kmsDesk is where a KMS is administered: the service that runs, or the directory.
type kmsDesk interface {
	// do calls an action. in and out are its input and output in JSON.
	do(ctx context.Context, action string, in, out any) error
	backup(ctx context.Context, w io.Writer) error
	Close() error
}

// kmsDesk returns the desk of the KMS in dir. Its service is asked if it runs; else the directory is opened.
func (a *app) kmsDesk(ctx context.Context, dir string, src *secret.Source) (kmsDesk, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	d := newServedKMS(server.AdminSocket(dir))
	err = d.reachable(ctx)
	if err == nil {
		return d, nil
	}
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("reach the service: %w", err)
	}
	s, err := a.openKMS(ctx, dir, src)
	if err != nil {
		return nil, err
	}
	return &openedKMS{s}, nil
}

// openKMS opens the KMS in dir.
func (a *app) openKMS(ctx context.Context, dir string, src *secret.Source) (*kms.Service, error) {
	if _, err := os.Stat(kms.StorePath(dir)); err == nil {
		if err := kmsOwner(dir); err != nil {
			return nil, err
		}
	}
	sealer, wipe, err := a.kmsSealer(ctx, dir, src)
	if err != nil {
		return nil, err
	}
	defer wipe()
	return kms.Open(ctx, dir, sealer, kms.Options{Log: newLog(a.talk)})
}

// kmsOwner refuses a directory of another user: what would be written there, that user's service could not read.
func kmsOwner(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || int(sys.Uid) == os.Geteuid() {
		return nil
	}
	name := fmt.Sprint(sys.Uid)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return hint(fmt.Errorf("%s belongs to %s", dir, name), "run this as that user")
}

// openedKMS is a KMS that this process has opened.
type openedKMS struct{ *kms.Service }

// localCall is a call of who runs this command on the KMS's machine.
func localCall() *kms.Call {
	return &kms.Call{ID: kms.NewRequestID(), Caller: kms.Caller{ARN: server.LocalName(os.Getuid()), Local: true}, Source: "command"}
}

func (o *openedKMS) do(_ context.Context, action string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	c := localCall()
	c.Action = action
	reply, kerr := o.Do(c, body)
	defer clear(reply)
	if kerr != nil {
		return kerr
	}
	return json.Unmarshal(reply, out)
}

func (o *openedKMS) backup(ctx context.Context, w io.Writer) error {
	if err := o.do(ctx, "Backup", struct{}{}, new(struct{})); err != nil {
		return err
	}
	return o.WriteBackup(w)
}

// servedKMS is a KMS that is being served.
type servedKMS struct {
	socket string
	client *http.Client
}

func newServedKMS(socket string) *servedKMS {
	d := &servedKMS{socket: socket}
	d.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx) }}}
	return d
}

func (d *servedKMS) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", d.socket)
}

// reachable reports whether somebody listens.
func (d *servedKMS) reachable(ctx context.Context) error {
	c, err := d.dial(ctx)
	if err != nil {
		return err
	}
	return c.Close()
}

func (d *servedKMS) do(ctx context.Context, action string, in, out any) error {
	reply, err := d.post(ctx, action, in)
	if err != nil {
		return err
	}
	defer reply.Close()
	return json.NewDecoder(reply).Decode(out)
}

// post calls an action and returns the reply, to be closed.
func (d *servedKMS) post(ctx context.Context, action string, in any) (io.ReadCloser, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://kms/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Amz-Target", "EnvfsKMS."+action)
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the service: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var told struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&told); err != nil {
		return nil, fmt.Errorf("ask the service: %s", resp.Status)
	}
	return nil, kms.NewError(told.Type, "%s", told.Message)
}

func (d *servedKMS) backup(ctx context.Context, w io.Writer) error {
	reply, err := d.post(ctx, "Backup", struct{}{})
	if err != nil {
		return err
	}
	defer reply.Close()
	_, err = io.Copy(w, reply)
	return err
}

// Close gives up the connection.
func (d *servedKMS) Close() error {
	d.client.CloseIdleConnections()
	return nil
}
