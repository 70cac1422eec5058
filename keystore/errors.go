package keystore

import "errors"

var (
	// ErrNotKeyFile says that the bytes are no key file of a vault.
	ErrNotKeyFile = errors.New("not a key file")
	// ErrNewerVersion says that a newer envfs made the key file.
	ErrNewerVersion = errors.New("made by a newer version of envfs")
	// ErrDecayed says that the bytes are not those that were written, by accident: the plain SHA-256 does not fit.
	ErrDecayed = errors.New("key file is damaged")
	// ErrInvalid says that the key file is whole but holds what no envfs would write or what this one refuses, such as
	// costs above the caps.
	ErrInvalid = errors.New("key file is not valid")
	// ErrAltered says that a key opened a slot, yet the file is not what a holder of the root key wrote.
	ErrAltered = errors.New("key file was altered")
	// ErrWrongKey says that a slot was tried to the end and none opened.
	ErrWrongKey = errors.New("wrong key")
	// ErrNoSlot says that no slot could be tried with what was given.
	ErrNoSlot = errors.New("no slot could be tried")
	// ErrRefused says that who holds a master key refused to use it: it is disabled, the caller has no right to it, the PIN
	// is wrong, what was wrapped was wrapped by another key or for something else.
	ErrRefused = errors.New("refused")
	// ErrAway says that who holds a master key could not be asked: a later try may succeed.
	ErrAway = errors.New("away")
	// ErrNoVersions says that the master keys of a kind have no versions, so that there is nothing to rewrap.
	ErrNoVersions = errors.New("keys of this kind have no versions")
	// ErrLastSlot refuses the removal of the only slot.
	ErrLastSlot = errors.New("it is the last slot")
	// ErrOpeningSlot refuses the removal of the slot that opened the vault, unless it is forced.
	ErrOpeningSlot = errors.New("it is the slot that opened the vault")
	// ErrTooManySlots refuses a slot beyond [MaxSlots].
	ErrTooManySlots = errors.New("too many slots")
	// ErrTooManyEpochs refuses a rotation beyond [MaxEpochs] key epochs in use.
	ErrTooManyEpochs = errors.New("too many key epochs in use")
	// ErrChanged says that the key file is not the one any more that a change was asked for.
	ErrChanged = errors.New("changed meanwhile")
	// ErrUnproven says that no key at hand tells whether an older key file is what a holder of its root key wrote.
	ErrUnproven = errors.New("nothing proves that it is genuine")
	// ErrUnknownSlot says that the key file has no such slot.
	ErrUnknownSlot = errors.New("no such slot")
	// ErrUnknownEpoch says that the keyring has no such key epoch.
	ErrUnknownEpoch = errors.New("no such key epoch")
	// ErrClosed says that the vault's keys are wiped.
	ErrClosed = errors.New("keys are wiped")
)
