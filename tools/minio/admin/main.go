// Command admin makes a user of a MinIO server for tests, or changes one: it may do what the policy on standard input says,
// and nothing else. The server's administrator is MINIO_ROOT_USER with MINIO_ROOT_PASSWORD.
//
//	minio-admin HOST:PORT USER SECRET <policy.json
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/minio/madmin-go/v3"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "minio-admin:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return fmt.Errorf("usage: minio-admin HOST:PORT USER SECRET <policy.json")
	}
	policy, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	c, err := madmin.New(os.Args[1], os.Getenv("MINIO_ROOT_USER"), os.Getenv("MINIO_ROOT_PASSWORD"), false)
	if err != nil {
		return err
	}
	ctx, user := context.Background(), os.Args[2]
	if err := c.AddCannedPolicy(ctx, user, policy); err != nil {
		return fmt.Errorf("add policy: %w", err)
	}
	if err := c.AddUser(ctx, user, os.Args[3]); err != nil {
		return fmt.Errorf("add user: %w", err)
	}
	_, err = c.AttachPolicy(ctx, madmin.PolicyAssociationReq{Policies: []string{user}, User: user})
	if err != nil && madmin.ToErrorResponse(err).Code != "XMinioAdminPolicyChangeAlreadyApplied" {
		return fmt.Errorf("give the user the policy: %w", err)
	}
	return nil
}
