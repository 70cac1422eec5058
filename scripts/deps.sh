#!/usr/bin/env bash
# Install what the demo and the tests need and is missing, on Debian and its relatives. Arguments name further packages.
set -euo pipefail

# command:package
needed=(
	fusermount3:fuse3 git:git rsync:rsync sqlite3:sqlite3 fio:fio vim.tiny:vim-tiny setfattr:attr setfacl:acl
	python3:python3 mkfs.ext4:e2fsprogs setpriv:util-linux tar:tar strace:strace systemd-analyze:systemd mount:mount /usr/bin/aws:awscli
	age:age swtpm:swtpm gnome-keyring-daemon:gnome-keyring dbus-run-session:dbus dbus-send:dbus-bin
	softhsm2-util:softhsm2 pkcs11-tool:opensc patch:patch ip:iproute2
)
missing=()
for pair in "${needed[@]}"; do
	PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [[ " ${missing[*]-} " == *" python3 "* ]] || ! python3 -c 'import cryptography' 2>/dev/null; then
	missing+=(python3-cryptography)
fi
for package in "$@"; do
	command -v "$package" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
	echo "deps: please install: ${missing[*]}" >&2
	exit 1
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || { echo "deps: as root, run: apt-get install ${missing[*]}" >&2; exit 1; }
	root=(sudo)
fi
echo "deps: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get -qq update
"${root[@]}" apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
