package main

import (
	"context"
	"errors"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/mountpoint"
	"envfs/cmd/envfs/internal/secret"
	"envfs/cmd/envfs/internal/state"
	"envfs/fs"
	"envfs/keystore"
	"envfs/keystore/masterkey"
	"envfs/keystore/pin"
	"envfs/kms/audit"
	"envfs/kms/seal"
	"envfs/kms/store"
	"envfs/remote"
)

// The exit codes.
const (
	codeOK          = 0
	codeError       = 1
	codeUsage       = 2
	codePartly      = 3
	codeNoVault     = 10
	codeInUse       = 11
	codeWrongKey    = 12
	codeIncomplete  = 14
	codeFork        = 15
	codeDamage      = 26
	codeInterrupted = 130
)

// Errors of the command itself.
var (
	errUsage       = errors.New("usage")
	errInterrupted = errors.New("interrupted")
	errPartly      = errors.New("only partly done")
	errNotOpened   = errors.New("not opened")
	errOldEpochs   = errors.New("older key epochs are in use")
	errNotMounted  = errors.New("not mounted")
	errDamage      = errors.New("damage found")
)

// outcome is what an error leads to.
type outcome struct {
	err  error
	code int
	hint string
}

// outcomes is the one table of errors, exit codes and advice. The first that fits counts.
var outcomes = [...]outcome{
	{errUsage, codeUsage, ""},
	{errInterrupted, codeInterrupted, ""},
	{control.ErrBreak, codeInterrupted, ""},
	{context.Canceled, codeInterrupted, ""},
	{errPartly, codePartly, ""},
	{errOldEpochs, codePartly, ""},
	{errNotOpened, codeWrongKey, ""},
	{errDamage, codeDamage, ""},
	{errNotMounted, codeError, "`envfs status` lists what is mounted"},

	{fs.ErrHalfMade, codeNoVault, "run `envfs init` on it again: it goes on from there"},
	{fs.ErrRootLost, codeNoVault, "keep all files as they are; restore `root` from a backup"},
	{fs.ErrNoVault, codeNoVault, "`envfs init` makes one"},
	{fs.ErrOtherWriter, codeInUse, ""},
	{fs.ErrInUse, codeInUse, ""},
	{remote.ErrInUse, codeInUse, ""},
	{masterkey.ErrNowhere, codeError, "use a passphrase (no --key at all), or --key auto:file, which keeps the key in a file on this machine, unprotected"},
	{keystore.ErrWrongKey, codeWrongKey, ""},
	{keystore.ErrRefused, codeWrongKey, ""},
	{keystore.ErrAway, codeError, "try again when it is there (`envfs mount --wait-open 5m` waits for it); any other key of the vault opens it, too"},
	{fs.ErrOvertaken, codeFork, "unmount, then `envfs sync --rescue STORE` brings back what was not published here"},
	{fs.ErrIncomplete, codeIncomplete, "--read-only shows the newest moment that is complete; --accept-older goes on from it"},
	{fs.ErrFork, codeFork, "look at each side with --read-only --root NAME (NAME lies in the store), and copy out what you need"},
	{fs.ErrSetBack, codeFork, "--read-only shows it; --accept-older goes on from it"},
	{fs.ErrAhead, codeFork, "copy the other way, or to a new place"},
	{fs.ErrOtherVault, codeFork, "if this is as it should be, remove the vault's file below pins/ in the state directory"},
	{pin.ErrSetBack, codeFork, "--read-only shows it; --accept-older goes on from it"},
	{pin.ErrOtherRoot, codeFork, "--read-only shows it; --accept-older goes on from it"},
	{pin.ErrOtherKey, codeFork, "if this is as it should be, remove the vault's file below pins/ in the state directory"},
	{pin.ErrDamaged, codeError, "remove that file, and what was seen of its vault is not known any more"},
	{fs.ErrVersion, codeError, "install a newer envfs"},
	{keystore.ErrNewerVersion, codeError, "install a newer envfs"},
	{fs.ErrDamaged, codeDamage, ""},
	{keystore.ErrDecayed, codeDamage, "envfs.json in the store is a copy of the newest key file"},
	{keystore.ErrAltered, codeDamage, "somebody changed the key file: restore it from a backup"},
	{keystore.ErrUnproven, codeError, "a backup of later may do; or open the vault with a key that opened it then, too"},
	{keystore.ErrNoSlot, codeError, "`envfs info` lists what opens this vault"},
	{keystore.ErrLastSlot, codeError, "add another slot first, or use `envfs key replace`"},
	{keystore.ErrOpeningSlot, codeError, "--force removes it all the same; be sure that another one opens the vault"},
	{keystore.ErrChanged, codeError, "somebody else has changed the keys: look again, and repeat it"},
	{keystore.ErrUnknownSlot, codeError, "`envfs key list` lists the slots"},

	{store.ErrNone, codeNoVault, "`envfs kms init` makes one"},
	{store.ErrInUse, codeInUse, ""},
	{store.ErrDamaged, codeDamage, "restore it from a backup"},
	{store.ErrSeal, codeError, "give --passfile or --passcmd, --keyfile or --key, as it was made"},
	{seal.ErrWrong, codeWrongKey, ""},
	{audit.ErrAltered, codeDamage, "`envfs kms audit verify` tells where; keep the files, and move them away to go on with a new log"},

	{secret.ErrNoTerminal, codeError, "give the secret by --passfile, --passcmd or --keyfile"},
	{mountpoint.ErrMissing, codeError, "make an empty directory first (mkdir)"},
	{mountpoint.ErrNotEmpty, codeError, "mount on an empty directory"},
	{mountpoint.ErrNotDir, codeError, "mount on an empty directory"},
	{mountpoint.ErrInsideStore, codeError, "mount on a directory outside the store"},
	{mountpoint.ErrStoreInside, codeError, "mount on a directory that does not contain the store"},
	{mountpoint.ErrMounted, codeError, "`envfs unmount` takes it away"},
	{mountpoint.ErrDeadOther, codeError, "`envfs unmount` takes it away"},
	{mountpoint.ErrNoDevice, codeError, "load the kernel module (modprobe fuse); in a container, pass /dev/fuse in"},
	{mountpoint.ErrNoFusermount, codeError, "install fuse3 (apt-get install fuse3)"},
	{mountpoint.ErrAllowOther, codeError, "root can allow it: echo user_allow_other >> /etc/fuse.conf"},
	{mountpoint.ErrBusy, codeError, "end these processes, or add --lazy"},
	{state.ErrWithStore, codeError, "--state-dir names another place for the key, which must not travel with the store"},
	{state.ErrInCache, codeError, "--state-dir names another place for what waits to be published"},
	{remote.ErrReadOnly, codeError, "--read-only needs no write permission"},
	{remote.ErrNoSpace, codeError, "make space on the store's disk"},
	{fs.ErrNoSpace, codeError, "make space on the store's disk"},
}

// outcomeOf returns the row of an error, or nil.
func outcomeOf(err error) *outcome {
	for i := range outcomes {
		if errors.Is(err, outcomes[i].err) {
			return &outcomes[i]
		}
	}
	return nil
}

// exitCode returns the code with which the command exits for an error.
func exitCode(err error) int {
	if err == nil {
		return codeOK
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		return e.Code
	}
	if o := outcomeOf(err); o != nil {
		return o.code
	}
	return codeError
}
