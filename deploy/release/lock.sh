#!/usr/bin/env bash
# Writes the two lock files: requirements.txt for ingestd with the extras `snowflake`, `collect` and `registry`, and build-requirements.txt.
# Keeps locked versions that still satisfy pyproject.toml; with --upgrade, takes the newest ones instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
options=(--quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@")
out="${LOCK_DIR:-deploy/release}"
uv pip compile "${options[@]}" --extra snowflake --extra collect --extra registry pyproject.toml --output-file "$out/requirements.txt"
uv pip compile "${options[@]}" deploy/release/build.in --output-file "$out/build-requirements.txt"
