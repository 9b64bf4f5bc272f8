#!/usr/bin/env bash
# The commands that made the bundled world `app/bundled/doom`: record, train, evaluate, install into the package.
# Runs from any folder, after `make setup` and `.venv/bin/python -m pip install -e '.[examples]'`. What is there already
# is not recorded again, and an interrupted training goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

SCENARIO=simpler_basic
BUTTONS=TURN_LEFT,TURN_RIGHT
FRAMES=8000
HELDOUT_FRAMES=3000
PRESET=tiny
MINUTES=56
OPTIONS=(--drift.codes 0.1 --encoder.pace.share 8 --drift.pace.share 1 --actions.pace.share 1.5 --dynamics.pace.share 3
  --world.reencode_every 1 --world.noise_level 0.3)
RUN=runs/bundled
BIN=.venv/bin

record() { # name, frames, seed
  [ -f "$RUN-footage/$1.npz" ] || "$BIN/python" examples/record_vizdoom.py --scenario "$SCENARIO" \
    --buttons "$BUTTONS" --resolution 640x480 --average 2 --skip 3 --episode-tics 1400 --blackout --crf 20 \
    --frames "$2" --seed "$3" --out "$RUN-footage/$1.mp4"
}

mkdir -p "$RUN-footage"
record training "$FRAMES" 1
record heldout "$HELDOUT_FRAMES" 2
"$BIN/genie" train "$RUN-footage/training.mp4" --run "$RUN" --preset "$PRESET" "${OPTIONS[@]}" --minutes "$MINUTES"
"$BIN/genie" evaluate "$RUN" --full --clips 96 --video "$RUN-footage/heldout.mp4" --actions "$RUN-footage/heldout.npz"
# What `genie inspect` showed of the run that is bundled; another machine's run may give its codes other numbers.
"$BIN/genie" inspect "$RUN" --name 4="turn left" --key 4=a --name 1="turn right" --key 1=d --name 2=stand --key 2=s \
  --name 6="slow left" --key 6=q --name 3="slow right" --key 3=e --name 5="fast left" --key 5=z
"$BIN/python" examples/install_bundled_world.py "$RUN" "$RUN/evaluation"
