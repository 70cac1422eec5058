package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"envfs/blockcrypt"
	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/state"
	"envfs/keystore"
	"envfs/keystore/masterkey"
)

// vaultInfo is what a vault tells without a key. Nothing of it is authenticated.
type vaultInfo struct {
	Store       string     `json:"store"`
	Vault       string     `json:"vault"`
	Format      int        `json:"format"`
	Suite       string     `json:"suite"`
	BlockSize   uint32     `json:"block_size"`
	SmallFile   uint32     `json:"small_file"`
	ExtentSize  uint32     `json:"extent_size"`
	Created     time.Time  `json:"created"`
	Generation  uint64     `json:"generation"`
	Fingerprint string     `json:"fingerprint"`
	KeyEpoch    uint32     `json:"key_epoch"`
	RootSeq     uint64     `json:"root_seq"`
	RootTime    time.Time  `json:"root_time"`
	MountedAt   []string   `json:"mounted_at,omitempty"`
	StateDir    string     `json:"state_dir,omitempty"` // of a vault in a bucket: what is written here waits there
	Waiting     int64      `json:"waiting_bytes"`       // in StateDir
	WaitingIn   int        `json:"waiting_objects"`
	Slots       []slotInfo `json:"slots"`
	HangOn      string     `json:"hang_on,omitempty"` // "one machine" or "one service": without it no slot opens
}

// slotInfo is what a slot tells without a key.
type slotInfo struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Label   string    `json:"label,omitempty"`
	Created time.Time `json:"created"`
	Cost    string    `json:"cost,omitempty"`
	Key     string    `json:"key,omitempty"`    // how its provider calls the master key
	Wrapped time.Time `json:"wrapped,omitzero"` // when its provider last wrapped its secret
}

func (a *app) infoCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "info STORE",
		Short:   "Tell what a vault tells without a key",
		Example: `  envfs info ~/vault`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.info(c.Context(), args[0], asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	a.placeFlags(c.Flags())
	return c
}

func (a *app) info(ctx context.Context, arg string, asJSON bool) error {
	path, err := storePath(arg)
	if err != nil {
		return fmt.Errorf("info: %w", err)
	}
	kf, prefix, err := peek(ctx, path, "")
	if err != nil {
		return fmt.Errorf("info: %w", err)
	}
	info, err := gatherInfo(path, kf, &prefix, a.at)
	if err != nil {
		return fmt.Errorf("info: %w", err)
	}
	if asJSON {
		return a.object(info)
	}
	row := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("store", "%s", printable(info.Store))
	row("vault", "%s", info.Vault)
	row("format", "%d (draft)", info.Format)
	row("suite", "%s", info.Suite)
	row("sizes", "block %s, small file %s, extent %s", size(int64(info.BlockSize)), size(int64(info.SmallFile)), size(int64(info.ExtentSize)))
	row("made", "%s", moment(info.Created))
	row("key file", "generation %d, key epoch %d", info.Generation, info.KeyEpoch)
	row("fingerprint", "%s", info.Fingerprint)
	row("root", "%d of %s", info.RootSeq, moment(info.RootTime))
	if info.StateDir != "" {
		row("waits here", "%s in %s, in %s", size(info.Waiting), plural(int64(info.WaitingIn), "object", "objects"), printable(info.StateDir))
	}
	for _, at := range info.MountedAt {
		row("mounted at", "%s", printable(at))
	}
	fmt.Fprintln(a.out, "slots")
	a.listSlots(info.Slots)
	if info.HangOn != "" {
		fmt.Fprintf(a.out, "every slot hangs on %s: `envfs key add --new-recovery` makes a way around it\n", info.HangOn)
	}
	return nil
}

func gatherInfo(path string, kf *keystore.File, prefix *blockcrypt.RootPrefix, at state.Places) (*vaultInfo, error) {
	p := kf.Params()
	info := &vaultInfo{
		Store: storeName(path), Vault: kf.VaultID().String(), Format: blockcrypt.FormatVersion, Suite: suiteName(p.Suite),
		BlockSize: p.BlockSize, SmallFile: p.SmallFile, ExtentSize: p.ExtentSize, Created: kf.Created(),
		Generation: kf.Generation(), Fingerprint: kf.Fingerprint().String(), KeyEpoch: prefix.Epoch,
		RootSeq: prefix.Seq, RootTime: time.Unix(prefix.Time.Sec, int64(prefix.Time.Nsec)), Slots: slotsOf(kf),
		HangOn: masterkey.OnlyHolder(kindsOf(kf)).String(),
	}
	clients, err := control.Find(func(h control.Hello) bool { return h.Store == storeName(path) })
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		info.MountedAt = append(info.MountedAt, c.Hello.Mountpoint)
		info.StateDir = c.Hello.StateDir
		c.Close()
	}
	if !isBucket(path) {
		return info, nil
	}
	if d, err := dirsOf(path, at); err == nil && info.StateDir == "" {
		info.StateDir = d.state
	}
	info.Waiting, info.WaitingIn, err = waiting(info.StateDir)
	return info, err
}

func suiteName(s uint8) string {
	switch blockcrypt.Suite(s) {
	case blockcrypt.AES256GCM:
		return "1 (AES-256-GCM)"
	case blockcrypt.XChaCha20Poly1305:
		return "2 (XChaCha20-Poly1305)"
	}
	return fmt.Sprint(s)
}

func slotsOf(kf *keystore.File) []slotInfo {
	var all []slotInfo
	for _, s := range kf.Slots() {
		i := slotInfo{ID: s.ID.String(), Kind: s.Kind, Label: s.Label, Created: s.Created}
		if s.Kind == keystore.KindPassphrase {
			i.Cost = fmt.Sprintf("Argon2id, %d MiB, %d passes, %d lanes", s.KDF.MemoryKiB>>10, s.KDF.Passes, s.KDF.Parallelism)
		}
		i.Key, i.Wrapped = s.Provider.Key, s.Wrapped
		all = append(all, i)
	}
	return all
}

// listSlots writes one line for each slot.
func (a *app) listSlots(slots []slotInfo) {
	for _, s := range slots {
		fmt.Fprintln(a.out, slotLine(s))
	}
}

// slotLine tells of a slot in one line.
func slotLine(s slotInfo) string {
	line := fmt.Sprintf("  %s  %-10s  %s", s.ID, s.Kind, moment(s.Created))
	if s.Label != "" {
		line += "  " + printable(s.Label)
	}
	if s.Key != "" {
		line += "  (" + printable(s.Key) + ")"
	}
	if s.Cost != "" {
		line += "  (" + s.Cost + ")"
	}
	return line
}
