#!/usr/bin/env bash
# Build the Debian package from a source distribution of this tree: packaging/build_deb.sh DIRECTORY
# Needs debhelper, dh-python, clang, libbpf-dev, libssl-dev, python3-venv, python3-dev (Debian 12 or newer), and the Python package index.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-dist}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missing=()
for pair in dh:debhelper clang:clang dh_python3:dh-python dpkg-buildpackage:dpkg-dev gcc:gcc; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
test -e /usr/include/bpf/bpf_helpers.h || missing+=(libbpf-dev)
test -e /usr/include/openssl/evp.h || missing+=(libssl-dev)
/usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
/usr/bin/python3 -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' \
  || missing+=(python3-dev)
if [ ${#missing[@]} -gt 0 ]; then
  echo "missing: ${missing[*]}. Install them as root: apt-get install ${missing[*]}" >&2
  exit 77
fi
packaging/build_dist.sh --sdist-only "$work"
tar -C "$work" -xf "$work"/lispmob-*.tar.gz
source=$(find "$work" -maxdepth 1 -type d -name 'lispmob-*')
cp -r "$source/packaging/debian" "$source/debian"
# dpkg-buildpackage looks at what is installed; the Python that builds is Debian's own, whatever PATH says.
(cd "$source" && PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage --build=binary --unsigned-changes --unsigned-buildinfo)
mkdir -p "$out"
cp "$work"/lispmob_*.deb "$out/"
ls -1 "$out"/lispmob_*.deb
