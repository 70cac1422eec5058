#!/usr/bin/python3
"""List or extract a whole unmounted vault with a key file, independently of envfs.

Written from docs/FORMAT.md and docs/FORMAT-keyfile.md alone, to prove that these suffice. It needs nothing but Python
3.9 and its package cryptography (Debian: python3-cryptography). It reads vaults that were cleanly unmounted, whose
journal is folded, and slots of the kind keyfile.

    envfs_reader.py STORE KEYFILE            list
    envfs_reader.py STORE KEYFILE DIRECTORY  extract into a new directory
"""

import base64
import hashlib
import hmac
import json
import os
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

BLOCK = 4096
RECORD = BLOCK + 28
NO_DOMAIN = bytes(16)
REGULAR, DIRECTORY, SYMLINK, LINK = 1, 2, 3, 4


class Damaged(Exception):
    pass


def need(ok, what):
    if not ok:
        raise Damaged(what)


def u32(n):
    return n.to_bytes(4, "big")


def u64(n):
    return n.to_bytes(8, "big")


def base32(b):
    return base64.b32encode(b).decode().lower().rstrip("=")


def unbase32(s):
    b = base64.b32decode(s.upper() + "=" * (-len(s) % 8))
    need(base32(b) == s, "base32")
    return b


# --- FORMAT 3: derivations ---------------------------------------------------------------------------------------------


def context(word, *fields):
    return b"".join(struct.pack(">H", len(f)) + f for f in (b"envfs " + word.encode(), *fields))


def derive(secret, word, *fields, length=32, salt=None):
    return HKDF(hashes.SHA256(), length, salt, context(word, *fields)).derive(secret)


def unseal(key, record, aad):
    need(len(record) >= 28, "sealed record is too short")
    try:
        return AESGCM(key).decrypt(bytes(record[:12]), bytes(record[12:]), aad)
    except InvalidTag:
        raise Damaged("authentication tag") from None


# --- FORMAT 1: CBOR ----------------------------------------------------------------------------------------------------


class CBOR:
    """Decodes the deterministic subset that the format uses, and refuses all else."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        need(n <= len(self.data) - self.at, "CBOR item is cut off")
        self.at += n
        return self.data[self.at - n:self.at]

    def head(self):
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if major == 7 or info < 24:
            return major, info
        need(info <= 27, "CBOR length")
        size = 1 << (info - 24)
        n = int.from_bytes(self.take(size), "big")
        need(n >= (24 if size == 1 else 1 << (4 * size)), "CBOR number is not in its shortest form")
        return major, n

    def item(self, depth=0):
        need(depth < 16, "CBOR is too deep")
        major, n = self.head()
        if major == 0:
            return n
        if major == 1:
            return -1 - n
        if major == 2:
            return self.take(n)
        if major == 4:
            need(n <= len(self.data), "CBOR count")
            return [self.item(depth + 1) for _ in range(n)]
        if major == 5:
            need(n <= len(self.data), "CBOR count")
            result, last = {}, -1
            for _ in range(n):
                key = self.item(depth + 1)
                need(isinstance(key, int) and key > last, "CBOR keys are not ascending")
                result[key], last = self.item(depth + 1), key
            return result
        need(major == 7 and n in (20, 21, 22), "CBOR type")
        return {20: False, 21: True, 22: None}[n]


def decode(data):
    c = CBOR(data)
    item = c.item()
    need(c.at == len(data), "something follows the CBOR item")
    return item


def unpad(plain):
    n = int.from_bytes(plain[:4], "big")
    need(len(plain) == (n + 4 + 255) // 256 * 256, "padding")
    need(not any(plain[4 + n:]), "padding is not zero")
    return plain[4:4 + n]


# --- The key file ------------------------------------------------------------------------------------------------------


def read_secret(path):
    with open(path, "rb") as f:
        data = f.read(1024)
    if len(data) == 32:
        return data
    text = data.removesuffix(b"\n").decode("ascii")
    if len(text) == 64:
        return bytes.fromhex(text)
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def open_key_file(data, w):
    """Returns vault id, suite and {key epoch: KEK}."""
    at = data.rindex(b"mac ")
    body, (_, mac, _, plain_hash) = data[:at], data[at:].decode().split()
    need(hashlib.sha256(data[:data.rindex(b" sha256 ")]).hexdigest() == plain_hash, "key file has decayed")
    doc = json.loads(body)
    need(doc["format"] == "envfs" and doc["version"] == 0, "version of the key file")
    need(doc["block_size"] == BLOCK, "block size")
    vault, domain = unbase32(doc["vault"]), unbase32(doc["domain"])
    for slot in doc["slots"]:
        if slot["kind"] != "keyfile":
            continue
        sid, salt, commitment = unbase32(slot["id"]), bytes.fromhex(slot["salt"]), bytes.fromhex(slot["commitment"])
        keys = derive(w, "slot", vault, domain, sid, length=64, salt=salt)
        if not hmac.compare_digest(keys[32:], commitment):
            continue
        aad = context("slot", vault, domain, sid, slot["kind"].encode(), slot["label"].encode(), slot["created"].encode(), b"",
                      salt, commitment, base64.b64decode(slot["public_key"]), bytes.fromhex(slot["root_key"]),
                      u64(slot["renewed"]))
        payload = unseal(keys[:32], base64.b64decode(slot["payload"]), aad)
        need(slot["root_key"] == doc["root_key"], "root key was rotated: open the vault for writing once with this slot")
        root_key = payload[32:]
        need(derive(root_key, "fp", vault, domain).hex() == doc["root_key"], "root key")
        need(hmac.compare_digest(hmac.digest(derive(root_key, "keyfile", vault, domain), body, "sha256").hex(), mac), "key file was altered")
        gen = u64(doc["generation"])
        ring = unseal(derive(root_key, "keyring", vault, domain, gen), base64.b64decode(doc["keyring"]), context("keyring", vault, domain, gen))
        count = int.from_bytes(ring[:4], "big")
        need(0 < count <= 1024, "keyring")
        keks = {int.from_bytes(ring[i:i + 4], "big"): ring[i + 4:i + 36] for i in range(4, 4 + 36 * count, 36)}
        return vault, doc["suite"], keks
    raise Damaged("no slot of this key file fits")


# --- The vault ---------------------------------------------------------------------------------------------------------


class Vault:
    def __init__(self, store, secret):
        self.store = store
        self.root = self.load("root")
        self.read_root_prefix()
        key_file = self.load(self.key_file)
        need(hashlib.sha256(key_file).digest() == self.key_file_hash, "key file is another than root names")
        self.id, suite, self.keks = open_key_file(key_file, secret)
        need(suite == 1 and self.root[8] == 1, "suite")
        self.suite = bytes([suite])
        need(self.epoch == max(self.keks), "root is not sealed under the newest key epoch")
        self.read_root_body()

    def load(self, name, hash=None):
        with open(os.path.join(self.store, name), "rb") as f:
            data = f.read()
        need(hash is None or hashlib.sha256(data).digest() == hash, name + " is another object than its reference says")
        return data

    # FORMAT 11
    def read_root_prefix(self):
        p = self.root
        need(len(p) <= 65536 and p[:6] == b"envfsr" and p[6:8] == b"\0\0" and not any(p[9:16]) and p[63] == 0, "root's prefix")
        self.seq, self.epoch, self.padded = int.from_bytes(p[16:24], "big"), int.from_bytes(p[36:40], "big"), int.from_bytes(p[40:44], "big")
        a, b, c = struct.unpack(">HHH", p[44:50])
        self.root_r, self.key_file_hash, self.fold_hash = p[50:63], p[64:96], p[96:128]
        self.key_file, self.fold = p[128:128 + a].decode(), p[128 + a:128 + a + b].decode()
        self.prefix_end = 128 + a + b + c
        need(len(p) == self.prefix_end + 28 + self.padded, "length of root")
        gen, _, r = self.key_file.removeprefix("keys/").partition("-")
        need(self.key_file == "keys/%d-%s" % (int(gen), base32(unbase32(r))), "name of the key file")

    def read_root_body(self):
        key = derive(self.keks[self.epoch], "root", self.suite, self.id, u32(self.epoch), u64(self.seq), self.root_r)
        prefix = self.root[:self.prefix_end]
        body = decode(unpad(unseal(key, self.root[self.prefix_end:], context("root", prefix))))
        need(len(body) == 15, "root")
        self.terms, self.cut, self.cut_hash = body[:3]
        self.top, self.links, self.nameless = (Entry(e) for e in body[6])
        last = max(self.terms, key=lambda t: t[0])
        need(last[11] and last[6] == self.cut, "the vault was not cleanly unmounted: its journal holds more than the tree")

    # FORMAT 3 and 5
    def object(self, kind, letter, name, hash):
        """Opens an index, shard or map page and returns its body."""
        data = self.load(name, hash)
        p = data[:64]
        need(p[:6] == b"envfs" + letter and p[6:8] == b"\0\0" and p[8:9] == self.suite, name + ": prefix")
        need(not any(p[9:16]) and p[16:32] == NO_DOMAIN and not any(p[40:64]), name + ": prefix")
        epoch, padded = struct.unpack(">II", p[32:40])
        need(len(data) == 64 + 28 + padded and padded % 256 == 0 and padded > 0, name + ": length")
        key = derive(self.keks[epoch], kind, self.suite, self.id, NO_DOMAIN, u32(epoch), name.encode())
        return unpad(unseal(key, data[64:], context(kind, p, name.encode())))

    # FORMAT 9
    def names(self, entry):
        """Returns the entries of a directory, and its extended attributes if they lie in the index."""
        if entry.ref is None:
            need(entry.count == 0, "directory without an index")
            return [], []
        birth, r, hash = entry.ref
        base = "dirs/%s/%s" % (base32(entry.id)[:2], base32(entry.id))
        salt, count, xattrs, rest = decode(self.object("index", b"d", "%s.d%d-%s" % (base, birth, base32(r)), hash))
        need(salt == entry.salt and count == entry.count, "index contradicts the directory's entry")
        if isinstance(rest, bytes):
            entries = shard(salt, rest, 0, 1 << 62)
        else:
            entries = []
            need(rest and rest[0][0] == 0, "first shard")
            for i, (start, n, ref) in enumerate(rest):
                end = rest[i + 1][0] if i + 1 < len(rest) else 1 << 62
                birth, r, extra, hash = ref
                name = "%s.s%d-%s-%s" % (base, birth, base32(r), base32(extra))
                part = shard(salt, self.object("shard", b"s", name, hash), start, end)
                need(len(part) == n, "count of a shard")
                entries += part
        need(len(entries) == count, "count of names")
        return entries, xattrs

    # FORMAT 7
    def header(self, entry):
        return Header(self, entry)


class Entry:
    def __init__(self, item):
        self.type, self.name, self.id = item[:3]
        need(0 < len(self.name) <= 255 and b"/" not in self.name and b"\0" not in self.name and self.name not in (b".", b".."), "file name")
        need(len(item) == {REGULAR: 8, DIRECTORY: 10, SYMLINK: 7, LINK: 4}.get(self.type), "entry")
        if self.type == LINK:
            self.linked_type = item[3]
            return
        attributes, self.xattrs, self.apart = item[3:6]
        self.mode, self.uid, self.gid, self.links, self.size, self.atime, self.mtime, self.ctime, self.btime = attributes
        if self.type == SYMLINK:
            self.target = item[6]
            return
        self.ref = item[6]
        if self.type == DIRECTORY:
            self.salt, self.count = item[7], item[8]


def name_hash(salt, name):
    n = int.from_bytes(hmac.digest(salt, name, "sha256")[:8], "big") >> 2
    return n + 3 if n < 3 else n


def shard(salt, body, start, end):
    count = int.from_bytes(body[:4], "big")
    table, area, entries, last = body[4:4 + 12 * count], body[4 + 12 * count:], [], None
    need(count <= 65536 and len(table) == 12 * count, "shard")
    lines = [struct.unpack(">QI", table[i:i + 12]) for i in range(0, len(table), 12)]
    for i, (hash, offset) in enumerate(lines):
        limit = lines[i + 1][1] if i + 1 < count else len(area)
        need(offset < limit <= len(area) and (i > 0 or offset == 0), "offsets of a shard")
        entry = Entry(decode(area[offset:limit]))
        need(hash == name_hash(salt, entry.name) and start <= hash < end, "hash of a name")
        need(last is None or last < (hash, entry.name), "order of a shard")
        last = (hash, entry.name)
        entries.append(entry)
    return entries


class Header:
    def __init__(self, vault, entry):
        self.vault, self.id, self.keys, self.opened = vault, entry.id, {}, {}
        birth, r, hash = entry.ref
        self.base = "files/%s/%s" % (base32(self.id)[:2], base32(self.id))
        name = "%s.h%d-%s" % (self.base, birth, base32(r))
        data = vault.load(name, hash)
        need(data[:6] == b"envfsh" and data[6:8] == b"\0\0" and data[8:9] == vault.suite and not any(data[9:16]), name + ": prefix")
        need(data[16:32] == NO_DOMAIN and data[40:56] == self.id and not any(data[58:64]), name + ": prefix")
        epoch, padded, count = struct.unpack(">II16xH", data[32:58])
        need(count <= 64, name + ": data keys")
        end = 64 + 104 * count
        for i in range(64, end, 104):
            number, born, key_epoch = struct.unpack(">III", data[i:i + 12])
            self.keys[number] = (born, key_epoch, data[i + 12:i + 44], data[i + 44:i + 104])
        key = derive(vault.keks[epoch], "header", vault.suite, vault.id, NO_DOMAIN, u32(epoch), name.encode())
        body = decode(unpad(unseal(key, data[end:end + 28 + padded], context("header", data[:end], name.encode()))))
        self.xattrs = body.get(3, [])
        self.runs = list(runs(body.get(4, []), 0))
        self.table = {x[0]: x for x in body.get(7, [])}
        if body.get(5):
            self.page(body[5], 1, body.get(6, 0), 0)
        if body.get(8):
            self.page(body[8], 2, body.get(9, 0), 0)
        self.inline, at = [], end + 28 + padded
        generation = body.get(11)
        for index, length in enumerate(body.get(13, [])):
            key = derive(self.data_key(body[12]), "inline", vault.suite, self.id, generation)
            aad = context("inline", self.id, generation, u32(index), u32(length))
            self.inline.append(unseal(key, data[at:at + 28 + length], aad))
            need(len(self.inline[-1]) == length, "length of an inline block")
            at += 28 + length
        need(at == len(data), name + ": length")

    # FORMAT 6
    def data_key(self, number):
        if number not in self.opened:
            born, epoch, commitment, wrap = self.keys[number]
            v = self.vault
            key = derive(v.keks[epoch], "dek", v.suite, v.id, NO_DOMAIN, u32(epoch), self.id, u32(number))
            dek = unseal(key, wrap, context("dek", v.id, NO_DOMAIN, u32(epoch), self.id, u32(number), u32(born)))
            need(hmac.compare_digest(derive(dek, "commit", v.suite, self.id, u32(number)), commitment), "commitment of a data key")
            self.opened[number] = dek
        return self.opened[number]

    # FORMAT 10
    def page(self, ref, leaf, height, first):
        birth, r, extra, hash = ref
        body = decode(self.vault.object("map", b"m", "%s.m%d-%s-%s" % (self.base, birth, base32(r), base32(extra)), hash))
        if height == 0:
            need(body[:2] == [leaf, first], "leaf of a map")
            if leaf == 1:
                self.runs += runs(body[2], first)
            else:
                self.table.update((x[0], x) for x in body[2])
            return
        need(body[:3] == [3, height, first], "node of a map")
        for index, child in body[3]:
            need(index < 256, "child of a map")
            self.page(child, leaf, height - 1, first + index * 256 ** (height - 1) * (4096 if leaf == 1 else 256))

    # FORMAT 8
    def extent(self, number):
        """Returns a function that reads a block of the extent."""
        _, birth, r, extra, generation, dek, slots, _, _, length = self.table[number]
        name = "%s.x%d-%s-%s" % (self.base, birth, base32(r), base32(extra))
        data = self.vault.load(name)
        prefix = b"envfsx\0\0" + bytes(4) + u32(dek) + generation + self.keys[dek][2]
        need(len(data) >= length == 64 + slots * RECORD and data[:64] == prefix, name + ": prefix or length")
        key = derive(self.data_key(dek), "extent", self.vault.suite, self.id, generation)

        def block(slot, number):
            need(slot < slots, "slot")
            at = 64 + slot * RECORD
            return unseal(key, data[at:at + RECORD], context("extent", self.id, generation, u32(slot), u64(number), u32(BLOCK)))
        return block

    def blocks(self):
        """Yields number and content of each block that is no hole."""
        extents = {}
        for start, count, kind, extent, slot in self.runs:
            for i in range(count):
                if kind == 2:
                    yield start + i, self.inline[slot + i]
                elif kind == 1:
                    if extent not in extents:
                        extents = {extent: self.extent(extent)}  # one at a time: they are large
                    yield start + i, extents[extent](slot + i, start + i)


def runs(numbers, at):
    """Yields (start, count, kind, extent, slot)."""
    it, extent = iter(numbers), 0
    for gap in it:
        count, kind = divmod(next(it), 4)
        at += gap
        slot = 0
        if kind == 1:
            extent += next(it)
        if kind in (1, 2):
            slot = next(it)
        need(kind < 3 and count > 0 and at + count <= 1 << 52, "run")
        if kind:
            yield at, count, kind, extent, slot
        at += count


# --- Listing and extracting --------------------------------------------------------------------------------------------


class Reader:
    def __init__(self, vault, target):
        self.vault, self.target, self.done = vault, target, {}
        self.hidden = {e.id: e for e in vault.names(vault.links)[0]}
        for e in self.hidden.values():
            need(e.name == base32(e.id).encode(), "name in links")

    def run(self):
        self.directory(self.vault.top, b"")

    def directory(self, entry, path):
        entries, xattrs = self.vault.names(entry)
        if self.target:
            os.mkdir(self.at(path), 0o700)
        for e in sorted(entries, key=lambda e: e.name):
            self.entry(e, path + b"/" + e.name)
        self.attributes(entry, path, xattrs if entry.apart else entry.xattrs)

    def at(self, path):
        return self.target + path

    def entry(self, e, path):
        if e.type == LINK:
            linked = self.hidden[e.id]
            need(linked.type == e.linked_type, "type of a link")
            if self.target and e.id in self.done:
                os.link(self.done[e.id], self.at(path), follow_symlinks=False)
                return
            self.done[e.id] = self.at(path) if self.target else path
            e = linked
        if not self.target:
            kind = {REGULAR: "-", DIRECTORY: "d", SYMLINK: "l"}[e.type]
            print("%s%04o %d %d %12d %d.%09d %s" % (kind, e.mode, e.uid, e.gid, e.size, *e.mtime, os.fsdecode(path)))
        if e.type == DIRECTORY:
            self.directory(e, path)
        elif e.type == SYMLINK:
            if self.target:
                os.symlink(e.target, self.at(path))
                self.attributes(e, path, e.xattrs)
        else:
            self.file(e, path)

    def file(self, e, path):
        header = self.vault.header(e) if e.ref else None
        if not self.target:
            return
        with open(self.at(path), "xb") as f:
            for number, data in header.blocks() if header else ():
                f.seek(number * BLOCK)
                f.write(data)
            f.truncate(e.size)
        self.attributes(e, path, header.xattrs if e.apart else e.xattrs)

    def attributes(self, e, path, xattrs):
        if not self.target:
            return
        path, follow = self.at(path), e.type != SYMLINK
        for name, value in xattrs:
            os.setxattr(path, name, value, follow_symlinks=False)
        if os.geteuid() == 0:
            os.chown(path, e.uid, e.gid, follow_symlinks=False)
        if follow:
            os.chmod(path, e.mode)
        os.utime(path, ns=tuple(s * 10 ** 9 + n for s, n in (e.atime, e.mtime)), follow_symlinks=follow)


def main(args):
    if len(args) not in (3, 4):
        sys.exit(__doc__)
    vault = Vault(args[1], read_secret(args[2]))
    Reader(vault, os.fsencode(args[3]) if len(args) == 4 else None).run()


if __name__ == "__main__":
    try:
        main(sys.argv)
    except (Damaged, OSError, ValueError, KeyError) as err:
        sys.exit("envfs_reader: %s: %s" % (type(err).__name__, err))
