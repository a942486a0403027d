#!/usr/bin/env bash
# Build the source distribution and the abi3 wheel: packaging/build_dist.sh [--sdist-only] DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
kinds=(--sdist --wheel)
if [ "${1:-}" = --sdist-only ]; then kinds=(--sdist); shift; fi
out=$(realpath -m "${1:-dist}")
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet --disable-pip-version-check build
# A copy of the tree without what was built in it: setuptools writes into its source.
mkdir "$tools/source"
tar -c --exclude-vcs --exclude=./.venv --exclude=./build --exclude=./dist --exclude='*.egg-info' --exclude=__pycache__ \
  --exclude='*.so' --exclude='*.o' --exclude=./lispmob/datapath/_lispdp.c --exclude='./.*_cache' --exclude=./.hypothesis . \
  | tar -x -C "$tools/source"
"$tools/venv/bin/python" -m build "${kinds[@]}" --outdir "$out" "$tools/source" >"$tools/log" 2>&1 || { cat "$tools/log" >&2; exit 1; }
ls -1 "$out"/lispmob-*
