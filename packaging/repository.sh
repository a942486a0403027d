#!/usr/bin/env bash
# Make a signed repository for apt of packages: repository.sh PACKAGES REPOSITORY SUITE...
# PACKAGES/SUITE/*.deb go into REPOSITORY/pool/SUITE, with Packages, Release, Release.gpg and InRelease in dists/SUITE. KEY
# names whose signature it is, as gpg does; without it a key without a passphrase is made in PACKAGES/keys and used again.
# What users need beside it: lispmob.gpg, the public key, and lispmob.sources.
set -euo pipefail
packages=$(realpath "$1"); repository=$(realpath -m "$2"); shift 2
for tool in apt-ftparchive:apt-utils gpg:gnupg; do
  command -v "${tool%%:*}" >/dev/null || { echo "${tool%%:*} is missing: apt-get install ${tool#*:}" >&2; exit 77; }
done
key=${KEY:-}
if [ -z "$key" ]; then
  # In a place with a short name, for gpg's agent makes a socket in it.
  GNUPGHOME=$(mktemp -d)
  export GNUPGHOME
  trap 'gpgconf --kill gpg-agent; rm -rf "$GNUPGHOME"' EXIT
  key='lispmob packages'
  if [ -e "$packages/keys/secret" ]; then
    gpg --batch --quiet --import "$packages/keys/secret"
  else
    gpg --batch --quiet --passphrase '' --quick-generate-key "$key <packages@lispmob.invalid>" ed25519 sign never
    mkdir -p -m 700 "$packages/keys"
    (umask 077; gpg --batch --export-secret-keys "$key" >"$packages/keys/secret")
  fi
fi
sign() { gpg --batch --yes --quiet --local-user "$key" "$@"; }

mkdir -p "$repository"
found=0
for suite in "$@"; do
  [ -n "$(ls "$packages/$suite"/lispmob_*.deb 2>/dev/null)" ] || { echo "$suite: no package in $packages/$suite: make debs" >&2; continue; }
  pool=$repository/pool/$suite; release=$repository/dists/$suite
  rm -rf "$pool" "$release"
  mkdir -p "$pool"
  cp "$packages/$suite"/lispmob_*.deb "$pool/"
  arches=$(for deb in "$pool"/*.deb; do dpkg-deb --field "$deb" Architecture; done | sort -u | tr '\n' ' ')
  for arch in $arches; do
    mkdir -p "$release/main/binary-$arch"
    (cd "$repository" && apt-ftparchive --arch "$arch" packages "pool/$suite") >"$release/main/binary-$arch/Packages"
    gzip -9nk "$release/main/binary-$arch/Packages"
  done
  (cd "$repository" && apt-ftparchive \
    -o APT::FTPArchive::Release::Origin=lispmob -o APT::FTPArchive::Release::Label=lispmob \
    -o APT::FTPArchive::Release::Suite="$suite" -o APT::FTPArchive::Release::Codename="$suite" \
    -o APT::FTPArchive::Release::Architectures="${arches% }" -o APT::FTPArchive::Release::Components=main \
    release "dists/$suite") >"$release.Release"
  mv "$release.Release" "$release/Release"
  sign --armor --detach-sign --output "$release/Release.gpg" "$release/Release"
  sign --clearsign --output "$release/InRelease" "$release/Release"
  found=1
done
[ "$found" = 1 ] || exit 1
gpg --batch --export "$key" >"$repository/lispmob.gpg"
cat >"$repository/lispmob.sources" <<TEXT
Types: deb
URIs: ${URI:-https://packages.example.org/lispmob}
Suites: SUITE
Components: main
Signed-By: /usr/share/keyrings/lispmob.gpg
TEXT
echo "$repository: $(ls "$repository/dists" | tr '\n' ' ')"
