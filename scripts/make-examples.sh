#!/usr/bin/env bash
# Writes docs/examples again: for each of the five provinces' documents, made-up evidence of its period and the report.
#
#     scripts/make-examples.sh [NAME...]
#
# Takes about a minute and a half an example. The same program and the same scenarios give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

thongsuot=${THONGSUOT:-.venv/bin/thongsuot}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# example NAME REPORT-OPTION...: simulates the event of NAME and writes its report as Word, PDF and JSON.
example() {
    local name=$1 event=$2
    shift 2
    local config=config/samples/$name.yaml out=docs/examples/$name state=$work/$name
    "$thongsuot" simulate event "$config" --event "$event" --scenario "$out/scenario.yaml" --out "$state"
    "$thongsuot" report "$config" "$@" --state-dir "$state" --out "$out" --format json,docx,pdf
}

wanted=" ${*:-lang-son ha-tinh soc-trang tra-vinh-2020 tra-vinh-2022} "

if [[ $wanted == *" lang-son "* ]]; then
    "$thongsuot" simulate event config/samples/lang-son.yaml --event tet-2017 \
        --scenario docs/examples/lang-son/scenario-2017.yaml --out "$work/lang-son"
    example lang-son tet-2018 --event tet-2018 --compare tet-2017
fi
[[ $wanted != *" ha-tinh "* ]] || example ha-tinh tet-2022 --event tet-2022
if [[ $wanted == *" soc-trang "* ]]; then
    example soc-trang tet-2024 --event tet-2024
    # The carrier's outage on the morning of mùng 1, as an ad hoc report and a draft of form 03.
    "$thongsuot" report config/samples/soc-trang.yaml --incident 2 --state-dir "$work/soc-trang" \
        --out docs/examples/soc-trang --format docx,pdf
fi
[[ $wanted != *" tra-vinh-2020 "* ]] || example tra-vinh-2020 tet-2020 --event tet-2020
[[ $wanted != *" tra-vinh-2022 "* ]] || example tra-vinh-2022 ky-niem-30-nam --from 2022-04-25 --to 2022-05-01
