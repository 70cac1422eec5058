package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// suffix is how the names of sockets end.
const suffix = ".sock"

// helloTimeout is how long a daemon may take to greet.
const helloTimeout = 5 * time.Second

// Client is a connection to the daemon of one mount, good for one request. It must not be used concurrently.
type Client struct {
	Hello Hello
	c     *net.UnixConn
	lines *lines
	pidfd int
}

// All connects to every daemon of this user. Sockets that nobody serves any more are removed. The caller closes the
// clients.
func All() ([]*Client, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	return allIn(dir)
}

func allIn(dir string) ([]*Client, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	found := make([]*Client, len(entries))
	var dialing sync.WaitGroup // at once: those that are stopped cost all of helloTimeout
	for i, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		dialing.Go(func() {
			c, err := dial(path)
			switch {
			case errors.Is(err, unix.ECONNREFUSED):
				os.Remove(path)
			case err == nil: // else it is ending just now, or stopped: whoever needs it finds the mount without it
				found[i] = c
			}
		})
	}
	dialing.Wait()
	return slices.DeleteFunc(found, func(c *Client) bool { return c == nil }), nil
}

// Find connects to the daemons for which match holds, those that write first: others may show an older moment.
func Find(match func(Hello) bool) ([]*Client, error) {
	all, err := All()
	if err != nil {
		return nil, err
	}
	var found []*Client
	for _, c := range all {
		if match(c.Hello) {
			found = append(found, c)
			continue
		}
		c.Close()
	}
	slices.SortStableFunc(found, func(a, b *Client) int {
		switch {
		case a.Hello.ReadOnly == b.Hello.ReadOnly:
			return 0
		case a.Hello.ReadOnly:
			return 1
		}
		return -1
	})
	return found, nil
}

func dial(path string) (*Client, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	client := &Client{c: c, lines: newLines(c), pidfd: -1}
	cred, err := peer(c)
	if err == nil && int(cred.Uid) != os.Getuid() {
		err = fmt.Errorf("socket %s: served by user %d", path, cred.Uid)
	}
	if err == nil {
		c.SetDeadline(time.Now().Add(helloTimeout))
		err = client.lines.next(&client.Hello)
		c.SetDeadline(time.Time{})
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	// The daemon's end is waited for by this: process numbers are used again.
	if fd, err := unix.PidfdOpen(int(cred.Pid), 0); err == nil {
		client.pidfd = fd
	}
	return client, nil
}

// Close ends the connection.
func (c *Client) Close() {
	c.c.Close()
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
		c.pidfd = -1
	}
}

// Do sends the request and calls each for every reply until the last; that one's error is returned. When ctx ends, the
// daemon is asked to break off what it can, and the answer is still waited for.
func (c *Client) Do(ctx context.Context, r Request, each func(Reply)) error {
	if c.Hello.Version != Version && r.Verb != Unmount {
		return fmt.Errorf("ask daemon of %s: it is another version of envfs; unmount and mount again", c.Hello.Mountpoint)
	}
	enc := json.NewEncoder(c.c)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("ask daemon: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { enc.Encode(Request{Verb: Break}) })
	defer stop()
	for {
		var reply Reply
		if err := c.lines.next(&reply); err != nil {
			return fmt.Errorf("hear from daemon: %w", err)
		}
		if reply.Done {
			if reply.Error != nil {
				return reply.Error
			}
			return nil
		}
		each(reply)
	}
}

// WaitEnd waits until the daemon's process has ended.
func (c *Client) WaitEnd(ctx context.Context) error {
	if c.pidfd < 0 {
		return nil // it had ended before it could be watched
	}
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 200)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the daemon's end: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
	return ctx.Err()
}
