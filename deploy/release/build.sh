#!/usr/bin/env bash
# Builds a release into the given folder (default: dist): sdist, wheel, bill of materials, checksums.
# The build is reproducible: the same commit makes the same bytes.
set -euo pipefail
out="$(realpath --canonicalize-missing "${1:-dist}")"
cd "$(dirname "$0")/../.."
python="$(command -v python)"  # of the environment that also has uv and cyclonedx-py
clean="$(mktemp -d)"
trap 'rm -rf "$clean"' EXIT

mkdir -p "$out"
rm -f "$out"/ingestd-* "$out"/SHA256SUMS
uv build --quiet --no-create-gitignore --python "$python" --out-dir "$out" \
  --build-constraint deploy/release/build-requirements.txt --require-hashes

# The bill of materials lists what is installed in a clean environment with the locked versions.
uv venv --quiet --python "$python" "$clean/venv"
uv pip install --quiet --python "$clean/venv" --require-hashes --requirement deploy/release/requirements.txt
uv pip install --quiet --python "$clean/venv" --no-deps "$out"/ingestd-*.whl
uv pip check --quiet --python "$clean/venv"
release="$(basename "$out"/ingestd-*.tar.gz .tar.gz)"
# cyclonedx-py does not support a dynamic version.
sed "s/^dynamic = .*/version = \"${release#ingestd-}\"/" pyproject.toml > "$clean/pyproject.toml"
cyclonedx-py environment --pyproject "$clean/pyproject.toml" --output-reproducible --validate \
  --output-file "$out/$release.cdx.json" "$clean/venv" 2> "$clean/log" || { cat "$clean/log" >&2; exit 1; }

cd "$out"
sha256sum ingestd-* > SHA256SUMS
