#!/usr/bin/env bash
# Build a Debian package for each suite, in a clean root of that suite: build_debs.sh DIRECTORY ARCH... -- SUITE...
# A root is bootstrapped once, in build/roots; its Python is the one that the package is for. Needs root, debootstrap and
# the suite's archive (MIRROR) with its keys (KEYRING for Ubuntu's). An architecture that is not the host's is for a root
# that qemu-user can run. What was downloaded is kept in build/archive for other roots.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "$1"); shift
arches=()
while [ "$1" != -- ]; do arches+=("$1"); shift; done
shift
[ "$(id -u)" = 0 ] || { echo 'debootstrap needs root: sudo make debs' >&2; exit 77; }
command -v debootstrap >/dev/null || { echo 'debootstrap is missing: apt-get install debootstrap' >&2; exit 77; }
native=$(dpkg --print-architecture)
needs='build-essential debhelper dh-python dpkg-dev clang libbpf-dev libssl-dev python3-dev python3-venv ca-certificates'

build() {
  local suite=$1 arch=$2 root=build/roots/$1-$2 mirror keyring script=$1
  case $suite in
    noble)
      case $arch in
        amd64) mirror=${MIRROR:-http://archive.ubuntu.com/ubuntu} ;;
        *) mirror=${MIRROR:-http://ports.ubuntu.com/ubuntu-ports} ;;
      esac
      keyring=${KEYRING:-/usr/share/keyrings/ubuntu-archive-keyring.gpg}
      # Debian 12's debootstrap does not know the name; all of Ubuntu's suites are made as this one is.
      [ -e "/usr/share/debootstrap/scripts/$suite" ] || script=gutsy
      ;;
    *)
      mirror=${MIRROR:-http://deb.debian.org/debian}
      keyring=/usr/share/keyrings/debian-archive-keyring.gpg
      ;;
  esac
  if [ ! -e "$keyring" ]; then
    echo "$suite $arch: not built: $keyring is missing, the keys of its archive" >&2
    [ "$suite" != noble ] || echo 'another file of them: KEYRING=FILE' >&2
    return 1
  fi
  if [ "$arch" != "$native" ] && ! ls /proc/sys/fs/binfmt_misc/qemu-* >/dev/null 2>&1; then
    echo "$suite $arch: not built: this kernel runs no programs of $arch (binfmt_misc and qemu-user-static)" >&2
    return 1
  fi
  if [ ! -e "$root/complete" ]; then
    rm -rf "$root"
    mkdir -p "$root" "build/archive/$suite"
    debootstrap --variant=minbase --arch="$arch" --keyring="$keyring" --cache-dir="$PWD/build/archive/$suite" \
      "$suite" "$root" "$mirror" \
      "/usr/share/debootstrap/scripts/$script" >"$root.log" 2>&1 \
      || { tail -3 "$root.log" >&2; return 1; }
    [ "$suite" != noble ] || echo "deb $mirror noble main universe" >"$root/etc/apt/sources.list"
    inside "$root" "apt-get update -qq && apt-get install -y -qq --no-install-recommends $needs >/dev/null && apt-get clean"
    touch "$root/complete"
  fi
  rm -rf "$root/src"
  mkdir -p "$root/src"
  tar -c --exclude-vcs --exclude=./.venv --exclude=./build --exclude=./dist --exclude=__pycache__ --exclude='*.so' \
    --exclude='*.o' --exclude='./.*_cache' --exclude=./.hypothesis . | tar -x -C "$root/src"
  inside "$root" 'cd /src && packaging/build_deb.sh /src/dist' >"$root.log" 2>&1 || { tail -20 "$root.log" >&2; return 1; }
  mkdir -p "$out/$suite"
  rm -f "$out/$suite"/lispmob_*_"$arch".deb
  cp "$root"/src/dist/lispmob_*.deb "$out/$suite/"
  rm -rf "$root/src"
  ls -1 "$out/$suite"/lispmob_*_"$arch".deb
}

# Runs a script in a root, with what the host needs to reach the package index.
inside() {
  local root=$1 certificate=${SSL_CERT_FILE:-${PIP_CERT:-}}
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  if [ -n "$certificate" ]; then
    mkdir -p "$root$(dirname "$certificate")"
    cp "$certificate" "$root$certificate"
  fi
  unshare --mount --pid --fork --kill-child sh -ec '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    DEBIAN_FRONTEND=noninteractive LC_ALL=C exec chroot "$1" sh -ec "$2"' sh "$root" "$2"
}

# All at the same time: one compiles while another downloads. `set -e` holds in a job, which it does not in `build || ...`.
jobs=()
for suite in "$@"; do
  for arch in "${arches[@]}"; do
    build "$suite" "$arch" &
    jobs+=($!)
  done
done
failed=0
for job in "${jobs[@]}"; do wait "$job" || failed=1; done
exit $failed
