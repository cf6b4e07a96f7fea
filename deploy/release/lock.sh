#!/usr/bin/env bash
# Resolves ingestd's dependencies into the two lock files. Locked versions stay as long as they fit.
# With --upgrade, takes the newest versions that fit.
set -euo pipefail
cd "$(dirname "$0")/../.."
options=(--quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@")
out="${LOCK_DIR:-deploy/release}"
uv pip compile "${options[@]}" --extra snowflake pyproject.toml --output-file "$out/requirements.txt"
uv pip compile "${options[@]}" deploy/release/build.in --output-file "$out/build-requirements.txt"
