#!/usr/bin/env bash
# The whole way, once: archive -> store -> batch -> model -> evaluation -> report, on a CPU, in a few minutes.
#
#   pipelines/demo.sh                        on a phantom: synthetic CT, MR, US and radiographs
#   pipelines/demo.sh DATA [TABLE] [OUT]     on a folder or a zip of real images, labels from its own table,
#                                            from TABLE, or from the names of its folders
set -euo pipefail
data=${1:-} table=${2:-} out=${3:-demo}
pyrad=.venv/bin/pyrad
size=48       # pixels: small, so that a ResNet50 learns something in minutes on a CPU
budget=5700   # training images seen in all, so that any data set takes about as long

run() { printf '\n$ pyrad %s\n' "$*" >&2; "$pyrad" "$@"; }
# Exit code 3 says "finished, some inputs quarantined": the phantom holds broken files on purpose.
tolerate_quarantine() { "$@" || { code=$?; [ "$code" -eq 3 ] || exit "$code"; }; }

for given in "$data" "$table"; do
    [ -z "$given" ] || [ -e "$given" ] || { echo "demo: $given does not exist" >&2; exit 2; }
    case "$(realpath -m "${given:-/}")/" in
        "$(realpath -m "$out")"/*) echo "demo: $given lies in $out, which is made anew; copy it elsewhere" >&2; exit 2 ;;
    esac
done
if [ -e "$out" ] && [ ! -e "$out/.made-by-demo" ]; then
    echo "demo: $out exists and was not made by the demo; name another folder with OUT=" >&2
    exit 2
fi
rm -rf "$out" && mkdir -p "$out" && touch "$out/.made-by-demo"
if [ -z "$data" ]; then
    data=$out/archive
    # A fixed secret: the same phantom then has the same keys, split and order on every machine.
    printf 'a phantom has no patients to protect' >"$out/secret"
    secret=(--secret-file "$out/secret" --private "$out/private")
    run phantom "$data"
else
    secret=(--private "$out/private")
fi
tolerate_quarantine run ingest "$data" --store "$out/store.zarr" ${table:+--table "$table"} "${secret[@]}"
run verify "$out/store.zarr"

training=$("$pyrad" info "$out/store.zarr" --json | .venv/bin/python -c \
    'import json, sys; print(json.loads(sys.stdin.read())["splits"].get("train", 1))')
epochs=$((budget / training > 0 ? budget / training : 1))
run train --store "$out/store.zarr" --model resnet50 --out "$out/run" \
    --size "$size" --epochs "$epochs" --flip 0.5 --warmup 0.1
run evaluate --run "$out/run"
run report "$out/run"
