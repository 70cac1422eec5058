package masterkey

import "envfs/keystore"

// Holder is who holds the keys of a kind of slots, and so what a vault is lost with that has no other key.
type Holder uint8

// The holders.
const (
	BySeveral Holder = iota // or by somebody this version does not know
	ByPerson                // who remembers it or keeps a copy: passphrases, files, codes
	ByMachine               // one machine; it is not copied to another
	ByToken                 // one token or HSM, which another machine may use
	ByService               // one service that several machines ask
)

// String returns what all hangs on, for people; "" if that is not one thing.
func (h Holder) String() string {
	switch h {
	case ByMachine:
		return "one machine"
	case ByToken:
		return "one token"
	case ByService:
		return "one service"
	}
	return ""
}

// OnlyHolder returns ByMachine if all slots of the given kinds hang on one machine, ByToken or ByService if all hang on
// one of these, and else BySeveral. The keys of one kind are taken for keys of one service or token, those of two kinds
// for keys of two.
func OnlyHolder(slots []string) Holder {
	var first string
	all := BySeveral
	for _, s := range slots {
		h := holder(s)
		switch {
		case h == BySeveral, h == ByPerson:
			return BySeveral
		case all == BySeveral:
			first, all = s, h
		case h != all, h != ByMachine && s != first:
			return BySeveral
		}
	}
	return all
}

func holder(name string) Holder {
	switch name {
	case keystore.KindPassphrase, keystore.KindKeyFile, keystore.KindRecovery:
		return ByPerson
	}
	for _, k := range kinds {
		if k.name == name {
			return k.held
		}
	}
	return BySeveral
}
