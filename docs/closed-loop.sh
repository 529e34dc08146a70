#!/usr/bin/env bash
# Half a year of a model's life, replayed in some minutes: flights out of New York arrive week by week, and `engine tick` does the rest.
# Usage: bash closed-loop.sh [FOLDER]      (a new folder; needs the command `engine`; docs/closed-loop.md tells what happens)
set -euo pipefail
folder=${1:-closed-loop}
engine init "$folder" && cd "$folder"

# The year as one Parquet file a day: what a warehouse would deliver.
engine data snapshot pipeline=flights sources.flights.partition=day
engine data checkout main flights weather --to history
mkdir -p arrived

cat > conf/pipeline/delays.yaml << 'YAML'
# @package _global_
defaults: [/train: lightgbm_binary, /gates: standard, _self_]
name: delays
owner: closed loop
sources:
  legs:
    kind: parquet
    path: arrived/*.parquet
    columns: {flight_id: str, carrier: str, origin: str, dest: str, tailnum: str, distance: i64, sched_dep: timestamp, arrived: timestamp, arr_delay: i64}
    key: [tailnum]
    time: sched_dep
    id: flight_id
    available: {column: arrived}
    repository: delays
    partition: month
    expect:
      - {column: flight_id, unique: true, not_null: true}
      - {column: arr_delay, minimum: -200, maximum: 2000}
  weather:
    kind: parquet
    path: history/weather/*.parquet
    columns: {observation_id: str, origin: str, wind_speed: f64, visib: f64, precip: f64, time_hour: timestamp}
    key: [origin]
    time: time_hour
    id: observation_id
    available: {delay: 1h}
    repository: delays
spine: {source: legs, request: {carrier: str, origin: str, dest: str, tailnum: str, distance: i64}}
features:
  hour: {expr: "HOUR(event_time, 'America/New_York')"}
  weekday: {expr: "WEEKDAY(event_time, 'America/New_York')"}
  miles: {expr: distance}
  carrier_ix: {encode: carrier, with: vocab, min_count: 50}
  wind_speed: {lookup: weather.wind_speed, max_age: 4h}
  visib: {lookup: weather.visib, max_age: 4h}
  precip: {lookup: weather.precip, max_age: 4h}
  origin_late_{window}: {from: legs, by: origin, of: "CAST(arr_delay > 30 AS bigint)", agg: mean, window: [4h, 1d, 7d]}
  carrier_late_{window}: {from: legs, by: carrier, of: "CAST(arr_delay > 30 AS bigint)", agg: mean, window: [6h, 7d]}
  plane_delay_{window}: {from: legs, by: tailnum, of: arr_delay, agg: last, window: 1d}
label: {from: legs, expr: CAST(arr_delay > 30 AS bigint), maturity: 1d}
split: {kind: rolling_origin, horizon: 7d, validation: 7d, window: 42d}
train: {rounds: 120, early_stopping: 20, params: {num_leaves: 31, learning_rate: 0.08, min_data_in_leaf: 200}}
baseline: {kind: majority}
evaluate: {primary: roc_auc, resamples: 200}
watch: {chunk: {by: week}}
monitors:
  drift: {kind: drift}
  performance: {kind: performance}
  concept: {kind: concept}
notifiers:
  file: {kind: log, path: alerts.jsonl}
rollout: {entity: tailnum, steps: [{share: 0, hold: 1d, min_labels: 1000}], margin: 0.002, breach: 0.002}
triggers:
  moved: {kind: drift, enter: 0.25, exit: 0.1, k: 2, n: 3, again: 28d}
  worse: {kind: performance, metric: roc_auc, minimum: 0.72, margin: 0.01, again: 28d}
  old: {kind: staleness, older_than: 42d}
retrain: {observe: 0s}
YAML

arrive() {  # the seven days before a Monday
  for day in 7 6 5 4 3 2 1; do
    cp "history/flights/$(date -u -d "$1 - $day days" +%F).parquet" arrived/
  done
}
tick() {
  echo "== $1"
  engine tick delays --at "$1T12:00:00Z" --wait
}

monday=2013-01-07
cp history/flights/2013-01-0[1-6].parquet arrived/
for week in $(seq 1 24); do
  monday=$(date -u -d "$monday + 7 days" +%F)
  arrive "$monday"
  case $week in
    [1-7]) continue ;;                                            # too little to learn from
    8) engine triggers fire delays --reason "the first model" ;;
    11)                                                           # a day is delivered twice: quarantined, and mended by Tuesday
      cp "history/flights/$(date -u -d "$monday - 2 days" +%F).parquet" arrived/again.parquet
      tick "$monday"
      rm arrived/again.parquet
      monday_after=$(date -u -d "$monday + 1 day" +%F)
      tick "$monday_after"
      continue ;;
    20)                                                           # somebody insists on a model that learned next to nothing
      engine run pipeline=delays as_of="'${monday}T12:00:00Z'" train.rounds=1 train.early_stopping=0 registry.promote=manual -q || true
      version=$(engine models list --json | python3 -c 'import json, sys; print(max(m["version"]["version"] for m in json.load(sys.stdin)))')
      engine models promote delays "$version" --force --reason "it trains so fast" ;;
  esac
  tick "$monday"
done

engine triggers report delays
engine models history delays
engine triggers verify
