package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"envfs/kms"
	"envfs/kms/audit"
)

func (a *app) kmsAuditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show and verify the audit log of a KMS",
		Long: `Show and verify the audit log of a KMS. Every call is in it, allowed or refused. Its lines are chained by hashes: who has a
checkpoint, taken earlier and kept elsewhere, can tell that nothing up to it was changed. These verbs need no key.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.kmsAuditShowCommand(), a.kmsAuditVerifyCommand(), a.kmsAuditCheckpointCommand())
	return c
}

// auditFilter says which entries are wanted: those that hold each of its words.
type auditFilter struct{ user, key, action, result string }

func (f *auditFilter) takes(e *audit.Entry) bool {
	return strings.Contains(e.User, f.user) && (strings.Contains(e.Key, f.key) || strings.Contains(e.Subject, f.key)) &&
		strings.Contains(e.Action, f.action) && strings.Contains(e.Result, f.result)
}

func (a *app) kmsAuditShowCommand() *cobra.Command {
	var (
		f      auditFilter
		last   int
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "show DIR",
		Short: "Show calls, oldest first",
		Example: `  envfs kms audit show ~/kms --last 20
  envfs kms audit show ~/kms --action Decrypt --key 6f1c0f0e --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var lines []string // the last ones, if only they are wanted
			err := audit.Read(kms.AuditDir(args[0]), func(e *audit.Entry, body []byte) error {
				if !f.takes(e) {
					return c.Context().Err()
				}
				line := string(body)
				if !asJSON {
					line = auditLine(e)
				}
				if last == 0 {
					fmt.Fprintln(a.out, line)
					return a.out.err
				}
				if lines = append(lines, line); len(lines) > last {
					lines = lines[1:]
				}
				return c.Context().Err()
			})
			if err != nil {
				return fmt.Errorf("kms audit show: %w", err)
			}
			for _, line := range lines {
				fmt.Fprintln(a.out, line)
			}
			return nil
		},
	}
	c.Flags().StringVar(&f.user, "user", "", "only those of users whose ARN holds `TEXT`")
	c.Flags().StringVar(&f.key, "key", "", "only those about keys, aliases and users whose names hold `TEXT`")
	c.Flags().StringVar(&f.action, "action", "", "only those whose action holds `TEXT`")
	c.Flags().StringVar(&f.result, "result", "", "only those whose result holds `TEXT`")
	c.Flags().IntVar(&last, "last", 0, "only the last `N`")
	c.Flags().BoolVar(&asJSON, "json", false, "the entries as they stand in the log: one JSON object each")
	return c
}

// auditLine shows an entry to people.
func auditLine(e *audit.Entry) string {
	who := e.User
	if i := strings.LastIndex(who, "/"); i >= 0 {
		who = who[i+1:]
	}
	if who == "" {
		who = "? " + e.AccessKey
	}
	words := []string{fmt.Sprint(e.Seq), e.Time.Local().Format("2006-01-02 15:04:05.000"), who, e.Action, e.Result}
	for _, s := range []string{e.Key, e.Subject, e.Source} {
		if s != "" {
			words = append(words, s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Context)) {
		words = append(words, name+"="+e.Context[name])
	}
	if e.Count > 0 {
		words = append(words, fmt.Sprintf("(and %d more)", e.Count))
	}
	if e.Late {
		words = append(words, "(written after a crash)")
	}
	return spelled(strings.Join(words, " "))
}

func (a *app) kmsAuditVerifyCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:     "verify DIR",
		Short:   "Find out whether the log was changed",
		Example: `  envfs kms audit verify ~/kms --checkpoint ~/elsewhere/kms.checkpoints`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var checkpoints []audit.Checkpoint
			for _, name := range files {
				some, err := readCheckpoints(name)
				if err != nil {
					return fmt.Errorf("kms audit verify: %w", err)
				}
				checkpoints = append(checkpoints, some...)
			}
			r, err := audit.Verify(kms.AuditDir(args[0]), checkpoints...)
			if err != nil {
				return fmt.Errorf("kms audit verify: %w", err)
			}
			return a.tellVerified(r, len(checkpoints))
		},
	}
	c.Flags().StringArrayVar(&files, "checkpoint", nil, "checkpoints that were taken earlier are in `FILE`, one a line")
	return c
}

func (a *app) tellVerified(r *audit.Report, checkpoints int) error {
	for _, f := range r.Findings {
		fmt.Fprintln(a.out, harmless(f.String()))
	}
	if r.Torn > 0 {
		a.say("The last line, of %d bytes, has no end: it is being written, or a crash has left it.", r.Torn)
	}
	if len(r.Findings) > 0 {
		return fmt.Errorf("kms audit verify: the log was changed: %w", errDamage)
	}
	a.say("%s, each follows the one before; %s. Head: %s", plural(int64(r.Lines), "line", "lines"), plural(int64(checkpoints), "checkpoint agrees", "checkpoints agree"), r.Head)
	if checkpoints == 0 {
		a.say("Without a checkpoint kept elsewhere, a log that was written anew as a whole looks the same.")
	}
	return nil
}

// readCheckpoints reads checkpoints, one a line.
func readCheckpoints(name string) ([]audit.Checkpoint, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var all []audit.Checkpoint
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		c, err := audit.ParseCheckpoint(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no checkpoint in it", name)
	}
	return all, nil
}

func (a *app) kmsAuditCheckpointCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "checkpoint DIR",
		Short:   "Print a checkpoint of the log, to be kept on another machine",
		Example: `  envfs kms audit checkpoint ~/kms | ssh elsewhere 'cat >> kms.checkpoints'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := audit.Verify(kms.AuditDir(args[0]))
			if err != nil {
				return fmt.Errorf("kms audit checkpoint: %w", err)
			}
			if len(r.Findings) > 0 {
				return hint(fmt.Errorf("kms audit checkpoint: the log was changed: %w", errDamage), "`envfs kms audit verify` tells where")
			}
			_, err = fmt.Fprintln(a.out, r.Head)
			return err
		},
	}
}
