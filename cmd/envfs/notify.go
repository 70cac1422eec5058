package main

import (
	"net"
	"os"
)

// notifyReady tells systemd that the service is ready, if it wants to hear that (sd_notify(3)).
func notifyReady() error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	c, err := net.Dial("unixgram", name)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("READY=1"))
	return err
}
