package tamper

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/fs/journal"
	"envfs/keystore"
	"envfs/remote/dir"
)

// keyFiles are attacks on what opens the vault.
func keyFiles() []attack {
	altered := func(name, old, new string, want error) attempt {
		return attempt{name: name, refused: want, do: func(i *intruder) {
			i.forgeKeyFile(func(body string) string {
				changed := strings.Replace(body, old, new, 1)
				if changed == body {
					i.t.Fatalf("no %q in the key file", old)
				}
				return changed
			})
		}}
	}
	return []attack{
		{name: "lower version, suite or sizes", verdict: found, effect: "the key file's MAC or root's tag refuses the vault, also if all plain hashes are made to fit",
			cases: []attempt{
				altered("suite", `"suite": 1`, `"suite": 2`, keystore.ErrAltered),
				altered("block size", `"block_size": 4096`, `"block_size": 8192`, keystore.ErrAltered),
				altered("version", `"version": 0`, `"version": 1`, fs.ErrVersion),
				altered("generation", `"generation": 1`, `"generation": 2`, keystore.ErrAltered),
				{name: "suite of root", refused: fs.ErrDamaged, do: func(i *intruder) { i.edit("root", flip(8*8+1)) }},
				{name: "version of root", refused: fs.ErrVersion, do: func(i *intruder) { i.edit("root", flip(8*7)) }},
			}},
		{name: "lower the cost of a passphrase", verdict: found, effect: "refused before it is paid below 64 MiB or 3 passes; else another secret comes out (exit code 12), and the MAC would refuse it"},
		{name: "add, remove or relabel a slot", verdict: found, effect: "the MAC refuses the vault",
			cases: []attempt{
				altered("label", `"label": "test"`, `"label": "best"`, keystore.ErrAltered),
				altered("kind", `"kind": "keyfile"`, `"kind": "recovery"`, keystore.ErrNoSlot),
				{name: "add", refused: keystore.ErrAltered, do: func(i *intruder) {
					i.forgeKeyFile(func(body string) string {
						at, end := strings.Index(body, "    {\n"), strings.Index(body, "\n    }\n")+len("\n    }")
						slot := body[at:end]
						id := slot[strings.Index(slot, `"id": "`)+7:][:26]
						return body[:at] + strings.Replace(slot, id, "a"+id[1:25]+"a", 1) + ",\n" + body[at:]
					})
				}},
			}},
		{name: "1,000 slots of the highest cost", verdict: found, effect: "more than 32 slots, or more work than 32 GiB passes in all, are refused before any is tried",
			cases: []attempt{{refused: keystore.ErrInvalid, do: func(i *intruder) {
				i.forgeKeyFile(func(body string) string {
					at, end := strings.Index(body, "    {\n"), strings.Index(body, "\n    }\n")+len("\n    }")
					return body[:at] + strings.Repeat(body[at:end]+",\n", 60) + body[at:]
				})
			}}}},
		{name: "a module path, endpoint or command in a key file", verdict: found, effect: "unknown fields are refused; envfs takes these from this machine only",
			cases: []attempt{altered("command", `"vault":`, "\"command\": \"touch /tmp/owned\",\n  \"vault\":", keystore.ErrInvalid)}},
		{name: "a key file by somebody who knows a slot's public key", verdict: found, effect: "its root key does not succeed the one in the slot's payload: refused",
			cases: []attempt{{refused: keystore.ErrAltered, do: func(i *intruder) { i.forgeSuccessor() }}}},
		{name: "the key file of another vault", verdict: found, effect: "no slot opens (exit code 12), or with a stolen public key as above",
			cases: []attempt{{refused: keystore.ErrWrongKey, do: func(i *intruder) {
				for name, data := range newStranger(i.t) {
					if strings.HasPrefix(name, "keys/") {
						i.nameKeyFile(data)
					}
				}
			}}}},
		{name: "ciphertext that opens under two keys", verdict: found, effect: "a data key's commitment is compared before it is used; headers that say otherwise give EIO",
			cases: []attempt{{harmed: paths("Zq-tiny"), do: func(i *intruder) { i.edit(i.now.of("Zq-tiny").header, flip(8*80)) }}}},
	}
}

// forgeKeyFile changes the key file's body, gives it a plain hash that fits, and makes root's prefix name it.
func (i *intruder) forgeKeyFile(edit func(body string) string) {
	i.t.Helper()
	data := i.read(i.now.rootObj.KeyFile.Name)
	at := bytes.LastIndex(data, []byte("mac "))
	mac := string(data[at+4:][:64])
	i.nameKeyFile(sealed(edit(string(data[:at])), mac))
}

// sealed returns a key file with a plain hash that fits.
func sealed(body, mac string) []byte {
	text := body + "mac " + mac
	sum := sha256.Sum256([]byte(text))
	return []byte(text + " sha256 " + hex.EncodeToString(sum[:]) + "\n")
}

// nameKeyFile stores a key file in the place of the newest and its copy, and makes root's prefix hold its hash.
func (i *intruder) nameKeyFile(data []byte) {
	i.t.Helper()
	i.write(i.now.rootObj.KeyFile.Name, data)
	i.write("envfs.json", data)
	sum := sha256.Sum256(data)
	i.edit("root", func(b []byte) []byte { copy(b[64:], sum[:]); return b })
}

// holders are attacks of somebody whose slot was removed, who knows the keys of before and writes to the store.
func holders() []attack {
	return []attack{
		{name: "a removed holder writes a root", verdict: found, effect: "sealed under a key epoch that is not the newest of the key file: refused",
			cases: []attempt{{on: rotated, refused: fs.ErrDamaged, do: func(i *intruder) {
				root := *i.now.rootObj
				root.Seq += 5
				i.sealRoot(&root)
			}}}},
		{name: "a removed holder writes headers and indexes", verdict: found, effect: "other bytes than their references say: EIO",
			cases: []attempt{
				{name: "header", on: rotated, harmed: paths("Zq-small"), do: func(i *intruder) {
					o := i.now.of("Zq-small")
					kek, err := i.former.KEK(1)
					must(i.t, err)
					data, err := i.now.vault.SealHeader(rand.Reader, kek, 1, o.header, o.id, o.deks, &blockcrypt.Header{Entry: o.head.Entry, Parent: o.head.Parent}, nil)
					must(i.t, err)
					i.write(o.header, data)
				}},
				{name: "index", on: rotated, harmed: all("Zq-deep/Zq-2"), do: func(i *intruder) {
					o := i.now.of("Zq-deep/Zq-2")
					kek, err := i.former.KEK(1)
					must(i.t, err)
					body, err := blockcrypt.EncodeIndex(&blockcrypt.Index{Salt: o.entry.Salt, Leaf: new(blockcrypt.Shard)})
					must(i.t, err)
					data, err := i.now.vault.SealObject(rand.Reader, kek, 1, blockcrypt.KindIndex, o.index, body)
					must(i.t, err)
					i.write(o.index, data)
				}},
			}},
		{name: "a removed holder writes journal batches", verdict: harmless, effect: "of a key epoch that is retired: not replayed, set aside under `damaged/`",
			cases: []attempt{{on: rotated, do: func(i *intruder) {
				root := i.now.rootObj
				term := root.Terms[len(root.Terms)-1]
				store, err := dir.Open(i.dir, dir.Options{})
				must(i.t, err)
				w := journal.NewWriter(journal.Config{Store: store, Vault: i.now.vault, Keys: i.former, Term: term.Number, Tag: term.Tag},
					journal.Pos{Number: root.Cut, Hash: root.CutHash}, 7)
				forged := i.now.of("Zq-tiny").entry
				forged.Name = "Zq-forged"
				_, err = w.Append(i.t.Context(), &journal.Batch{Deltas: []journal.Delta{{Kind: journal.SetEntry, ID: root.Dirs[0].ID, Entry: &forged}}})
				must(i.t, err)
				must(i.t, w.Close())
				must(i.t, store.Close())
			}}}},
		{name: "a removed holder forges a successor of the root key", verdict: pinned,
			effect: "a root key of the past opens with the slots of the past, as when the whole vault is put back; a pin of later misses the root key it has seen (exit code 15)"},
		{name: "a removed holder forges a block of an old extent", verdict: unseen,
			effect: "data keys of the time before are theirs for ever; files get a new one with the first write after the removal, and `check` compares the CRC-32C of extents, which is no proof"},
	}
}

func rotated(f *fixture) *state { return f.rotated }

// sealRoot puts a root in place that is sealed under the key epoch that the removed holder knows.
func (i *intruder) sealRoot(root *blockcrypt.Root) {
	i.t.Helper()
	kek, err := i.former.KEK(1)
	must(i.t, err)
	root.Epoch = 1
	root.Epochs = []blockcrypt.EpochStart{{Epoch: 1}}
	root.Time.Sec += 10
	root.R, err = blockcrypt.NewR(rand.Reader, root.R.Tag())
	must(i.t, err)
	t := &root.Terms[len(root.Terms)-1]
	t.LastRootSeq, t.LastRootR = root.Seq, root.R
	data, err := i.now.vault.SealRoot(rand.Reader, kek, root)
	must(i.t, err)
	i.write("root", data)
}

// hostile are attacks with bytes that no envfs writes.
func hostile() []attack {
	return []attack{
		{name: "names that leave the store, or are spelled otherwise", verdict: found, effect: "refused before they touch a path",
			cases: []attempt{
				{name: "key file of root", refused: fs.ErrDamaged, do: func(i *intruder) { i.renameInRoot(0, "../../../../etc/passwd") }},
				{name: "fold record of root", refused: fs.ErrDamaged, do: func(i *intruder) { i.renameInRoot(1, "folds/../root") }},
				{name: "leading zero", refused: fs.ErrDamaged, do: func(i *intruder) {
					i.renameInRoot(0, strings.Replace(i.now.rootObj.KeyFile.Name, "/", "/0", 1))
				}},
				{name: "upper case", refused: fs.ErrDamaged, do: func(i *intruder) {
					i.renameInRoot(0, "keys/"+strings.ToUpper(i.now.rootObj.KeyFile.Name[5:]))
				}},
				{name: "fold record", readers: fs.ErrDamaged, object: true, do: func(i *intruder) {
					i.edit(i.now.rootObj.Fold.Name, func(b []byte) []byte {
						return bytes.Replace(b, []byte("dirs/"), []byte("../x/"), 1)
					})
				}},
			}},
		{name: "lengths and counts beyond all bounds", verdict: found, effect: "an error; no memory is taken for what is not there",
			cases: append(oversized(),
				attempt{name: "length of a frame", on: begun, shows: closed, readers: fs.ErrDamaged, object: true, warned: "damaged", do: func(i *intruder) {
					i.edit(i.names("journal/")[0], func(b []byte) []byte {
						at := batches(b)[1]
						binary.BigEndian.PutUint32(b[at+8:], 1<<31)
						return b
					})
				}},
				attempt{name: "zeros behind the journal", on: begun, do: func(i *intruder) {
					must(i.t, extend(i.path(i.names("journal/")[0]), 1<<20))
				}},
			)},
		{name: "files that are none of the vault's", verdict: harmless, effect: "passed over, and counted by `check`",
			cases: []attempt{{do: func(i *intruder) {
				for _, name := range []string{"journal/README", "files/.DS_Store", "damaged/x", "roots/Thumbs.db", "Zq notes.txt", "folds/99999999999999999999-x"} {
					i.write(name, []byte("something else"))
				}
			}}}},
	}
}

// oversized says 2^32-1 where a prefix says how long something is.
func oversized() (cases []attempt) {
	for _, x := range []struct {
		name   string
		at     int
		refuse error
		object func(*state) string
		harmed func(*state) []string
	}{
		{"padding of root", 40, fs.ErrDamaged, func(*state) string { return "root" }, nil},
		{"padding of a header", 36, nil, header("Zq-small"), paths("Zq-small")},
		{"data keys of a header", 56, nil, header("Zq-small"), paths("Zq-small")},
		{"padding of an index", 36, nil, index("Zq-attrs"), all("Zq-attrs")},
		{"padding of a map page", 36, nil, func(s *state) string { return s.of("Zq-paged").maps[0] }, paths("Zq-paged")},
	} {
		cases = append(cases, attempt{name: x.name, refused: x.refuse, harmed: x.harmed, do: func(i *intruder) {
			i.edit(x.object(i.now), func(b []byte) []byte { binary.BigEndian.PutUint32(b[x.at:], 1<<32-1); return b })
		}})
	}
	return cases
}

// renameInRoot puts another name into root's clear prefix: 0 the key file's, 1 the fold record's.
func (i *intruder) renameInRoot(which int, name string) {
	i.edit("root", func(b []byte) []byte {
		a, n := int(binary.BigEndian.Uint16(b[44:])), int(binary.BigEndian.Uint16(b[46:]))
		from, to := 128, 128+a
		if which == 1 {
			from, to = 128+a, 128+a+n
		}
		binary.BigEndian.PutUint16(b[44+2*which:], uint16(len(name)))
		return append(append(bytes.Clone(b[:from]), name...), b[to:]...)
	})
}

// forgeSuccessor replaces the key file by one under a root key of the intruder's own, sealed to the slot's public key.
// All the rest is taken from the vault's key file.
func (i *intruder) forgeSuccessor() {
	i.t.Helper()
	data := i.read(i.now.rootObj.KeyFile.Name)
	body := string(data[:bytes.LastIndex(data, []byte("mac "))])
	file := i.unlockFile(i.t, data).File()
	vault, slot := file.VaultID(), file.Slots()[0].ID
	var domain blockcrypt.ID
	rootKey := content(newRand(3), 32)
	gen := file.Generation() + 1
	fp := blockcrypt.Derive(rootKey, nil, 32, "fp", vault[:], domain[:])
	field := func(name string) string {
		_, rest, _ := strings.Cut(body, `"`+name+`": "`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	public, err := base64.StdEncoding.DecodeString(field("public_key"))
	must(i.t, err)
	pub, err := hpke.MLKEM768X25519().NewPublicKey(public)
	must(i.t, err)
	box, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(),
		blockcrypt.Context("rootkey", vault[:], domain[:], slot[:], blockcrypt.U64(gen), fp), rootKey)
	must(i.t, err)
	aead, err := aes.NewCipher(blockcrypt.Derive(rootKey, nil, 32, "keyring", vault[:], domain[:], blockcrypt.U64(gen)))
	must(i.t, err)
	gcm, err := cipher.NewGCM(aead)
	must(i.t, err)
	ring := slices.Concat(blockcrypt.U32(1), blockcrypt.U32(1), make([]byte, 32), blockcrypt.U32(0))
	nonce := make([]byte, gcm.NonceSize())
	keyring := gcm.Seal(nonce, nonce, ring, blockcrypt.Context("keyring", vault[:], domain[:], blockcrypt.U64(gen)))

	at := strings.Index(body, `"root_key": "`) // the file's stands before those of the slots
	body = body[:at] + strings.Replace(body[at:], file.Fingerprint().String(), hex.EncodeToString(fp), 1)
	body = strings.Replace(body, field("sealed_root_key"), base64.StdEncoding.EncodeToString(box), 1)
	body = strings.Replace(body, field("keyring"), base64.StdEncoding.EncodeToString(keyring), 1)
	body = strings.Replace(body, fmt.Sprintf(`"generation": %d`, gen-1), fmt.Sprintf(`"generation": %d`, gen), 1)
	h := hmac.New(sha256.New, blockcrypt.Derive(rootKey, nil, 32, "keyfile", vault[:], domain[:]))
	h.Write([]byte(body))
	i.nameKeyFile(sealed(body, hex.EncodeToString(h.Sum(nil))))
}

// extend appends zeros to a file.
func extend(path string, n int64) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, st.Size()+n)
}
