# What follows the settings of a bundle, which are NAME (the tool), THREADS, PRECISION, REST_S and,
# but in --describe, SUMS (SHA-256 of the file SHA256SUMS).
#
#     sh run.sh               measure what is missing, into results/ beside this file
#     sh run.sh --describe    say what this device is; writes nothing
#
# TOOL names the tool where it is not on PATH, with options that are always given to it, such as
# "/opt/bin/benchmark_model --use_gpu=true". PYTHON names a Python (3.8 or later, with numpy) that
# makes the weights, where the bundle has none. It needs no network and writes below results/ only.

set -u
MOST_RESTS=4

die() {
    echo "runner: $*" >&2
    exit 2
}

say() {
    # Whoever started this over there may be gone: then it ends here, between two jobs.
    echo "$*" || exit 3
}

resolve_path() { # a file or folder, named from where this was started
    case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
    esac
}

resolve() { # a program: on PATH where it has no slash
    case $1 in
    /*) echo "$1" ;;
    */*) echo "$PWD/$1" ;;
    *) echo "$1" ;;
    esac
}

has() {
    command -v "$1" >/dev/null 2>&1
}

join() { # lines, sorted, by a slash
    sort -u | sed '/^$/d' | tr '\n' '/' | sed 's,/$,,'
}

fact() {
    printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr '\n\t\r' '   ' | sed 's/  */ /g; s/ $//')"
}

read_file() {
    cat "$1" 2>/dev/null | tr -d '\0'
}

read_cpuinfo() { # the first value of a name
    sed -n "s/^$1[[:space:]]*:[[:space:]]*//p" /proc/cpuinfo 2>/dev/null | head -n 1
}

list_clocks() { # in MHz
    for own in /sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq; do
        khz=$(read_file "$own")
        [ -n "$khz" ] && echo $((khz / 1000))
    done
}

describe_power() {
    governors=$(for own in /sys/devices/system/cpu/cpufreq/policy*/scaling_governor; do
        read_file "$own"
        echo
    done | join)
    clocks=$(list_clocks | join)
    modes=$(has nvpmodel && nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode[^:]*:[[:space:]]*//p')
    power=
    [ -n "$governors" ] && power="governor $governors"
    [ -n "$clocks" ] && power="$power${power:+, }at most $clocks MHz"
    [ -n "$modes" ] && power="$power${power:+, }power mode $modes"
    if [ "$NAME" = trtexec ]; then
        own=$(describe_gpu_power)
        [ -n "$own" ] && power="$power${power:+, }$own"
    fi
    echo "$power"
}

describe_gpu_power() {
    power=
    for own in /sys/class/devfreq/*gpu* /sys/class/devfreq/*.g[avpm]1*b; do # e.g. 17000000.ga10b
        hz=$(read_file "$own/max_freq")
        [ -n "$hz" ] &&
            power="$power${power:+, }GPU $(read_file "$own/governor") at most $((hz / 1000000)) MHz"
    done
    limits=$(query_nvidia power.limit,clocks.max.sm | grep -v -i 'n/a')
    [ -n "$limits" ] && power="$power${power:+, }GPU $limits"
    echo "$power"
}

query_nvidia() { # of the first graphics processor; nothing where it is not known
    has nvidia-smi && nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1
}

describe_version() {
    case $NAME in
    trtexec)
        # It begins with "&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # ..."
        $TOOL --help 2>&1 | sed -n 's/.*\[\(TensorRT v[0-9]*\)\].*/\1/p' | head -n 1
        ;;
    benchmark_app | litert-benchmark)
        # Python's own scripts: what is installed where they are run from.
        python=$(sed -n '1s/^#!//p' "$(command -v "$program")" 2>/dev/null)
        package=openvino
        [ "$NAME" = litert-benchmark ] && package=ai_edge_litert
        [ -n "$python" ] && $python -c "
import importlib.metadata as own
print('$package', own.version('$package'))" 2>/dev/null
        ;;
    esac
}

describe_device() {
    board=$(read_file /proc/device-tree/model)
    if [ -z "$board" ] && [ -x /system/bin/getprop ]; then
        board="$(/system/bin/getprop ro.product.manufacturer) $(/system/bin/getprop ro.product.model) $(/system/bin/getprop ro.soc.model)"
    fi
    gpu='' driver=''
    if [ "$NAME" = trtexec ]; then
        gpu=$(query_nvidia name)
        driver=$(read_file /sys/module/nvidia/version)
    fi
    version=$(describe_version)
    # A tool that does not say its version is told by its bytes.
    [ -z "$version" ] && version="file $(sha256sum <"$(command -v "$program")" | cut -c1-12)"
    fact tool "$NAME"
    fact version "$version"
    fact options "$OPTIONS"
    fact system "$(uname -s) $(uname -m)"
    fact model "$(read_cpuinfo 'model name')"
    fact machine "$(uname -m)"
    fact family "$(read_cpuinfo 'cpu family')"
    fact number "$(read_cpuinfo model)"
    fact flags "$(read_cpuinfo flags)$(read_cpuinfo Features)"
    # nproc gives way to these, which are no matter of the device.
    fact cores "$(unset OMP_NUM_THREADS OMP_THREAD_LIMIT; nproc 2>/dev/null || grep -c '^processor' /proc/cpuinfo)"
    fact board "$board"
    fact gpu "$gpu"
    fact driver "$driver"
    fact power "$(describe_power)"
}

read_temperature() { # the hottest zone in thousandths of a degree; nothing where there is none
    for own in /sys/class/thermal/thermal_zone*/temp; do
        degrees=$(read_file "$own")
        case $degrees in
        '' | *[!0-9]*) ;;
        *) [ "$degrees" -gt 0 ] && [ "$degrees" -lt 150000 ] && echo "$degrees" ;;
        esac
    done | sort -n | tail -n 1
}

is_throttled() { # heat, or a board's own flag
    if has vcgencmd; then # Raspberry Pi: the low bits are of now
        flags=$(vcgencmd get_throttled 2>/dev/null | sed -n 's/^throttled=\(0x[0-9A-Fa-f]*\)$/\1/p')
        [ -n "$flags" ] && [ $((flags & 0xE)) -ne 0 ] && return 0
    fi
    if [ "$NAME" = trtexec ]; then # thermal and hardware slowdowns
        flags=$(query_nvidia clocks_throttle_reasons.active | sed -n 's/^\(0x[0-9A-Fa-f]*\)$/\1/p')
        [ -n "$flags" ] && [ $((flags & 0xE8)) -ne 0 ] && return 0
    fi
    degrees=$(read_temperature)
    [ -n "$degrees" ] && [ "$degrees" -ge 75000 ]
}

find_tool() {
    TOOL=${TOOL:-}
    if [ -z "$TOOL" ]; then
        TOOL=$NAME
        if ! has "$TOOL"; then
            for folder in /usr/src/tensorrt/bin /data/local/tmp; do
                [ -x "$folder/$NAME" ] && TOOL=$folder/$NAME
            done
        fi
    fi
    program=${TOOL%% *}
    OPTIONS=${TOOL#"$program"}
    OPTIONS=${OPTIONS# }
    program=$(resolve "$program")
    TOOL="$program${OPTIONS:+ $OPTIONS}"
    has "$program" || die "there is no $program: name it by TOOL, or by --tool, or put it on PATH"
    has sha256sum || die "sha256sum is missing"
}

run_tool() { # the file for what it prints, and its arguments
    printed=$1
    shift
    # The tool's own options are words of their own.
    if ! $TOOL "$@" >"$printed" 2>&1 </dev/null 9>&-; then
        said=$(grep -i 'error\|\[E\]' "$printed" | tail -n 1)
        die "$NAME refuses $network: ${said:-$(tail -n 1 "$printed")}"
    fi
}

set_types() { # trtexec's options for the precision
    types=
    if $TOOL --help 2>&1 | grep -q -e --stronglyTyped; then
        types=--stronglyTyped
        return
    fi
    case $PRECISION in
    fp16) types=--fp16 ;;
    int8) types=--int8 ;;
    bf16) die "this trtexec cannot be held to bf16 (no --stronglyTyped): it is older than TensorRT 9" ;;
    esac
}

build_plan() {
    plan=$work/plans/$network.plan
    [ -f "$plan" ] && return
    # shellcheck disable=SC2086
    run_tool "$work/tmp/build.out" --onnx="$model" $types --saveEngine="$plan.new" \
        --timingCacheFile="$work/timing.cache" --profilingVerbosity=detailed \
        --warmUp=0 --duration=0 --iterations=1
    mv "$plan.new" "$plan"
}

time_network() { # the prefix of what is written, seconds, and whole seconds
    case $NAME in
    trtexec)
        build_plan
        run_tool "$1.out" --loadEngine="$plan" --warmUp=200 --duration="$3" --iterations=12 \
            --exportTimes="$1.times"
        ;;
    onnxruntime_perf_test)
        run_tool "$1.out" -e cpu -I -z -s -m duration -t "$3" -x "$THREADS" -y 1 -o 99 \
            "$model" "$1.laps"
        ;;
    benchmark_app)
        run_tool "$1.out" -m "$model" -d CPU -api sync -nireq 1 -hint none -nstreams 1 \
            -nthreads "$THREADS" -infer_precision "$OPENVINO_PRECISION" -t "$3"
        ;;
    benchmark_model)
        run_tool "$1.out" --graph="$model" --num_threads="$THREADS" --warmup_min_secs=0.2 \
            --min_secs="$2" --num_runs=12
        ;;
    litert-benchmark)
        run_tool "$1.out" --model="$model" --num_threads="$THREADS" --warmup_runs=5 --num_runs=30
        ;;
    esac
}

profile_network() { # as time_network
    case $NAME in
    trtexec)
        run_tool "$1.out" --loadEngine="$plan" --warmUp=200 --duration="$3" --iterations=12 \
            --exportProfile="$1.layers" --exportLayerInfo="$1.information"
        ;;
    onnxruntime_perf_test)
        run_tool "$1.out" -e cpu -I -z -m duration -t "$3" -x "$THREADS" -y 1 -o 99 \
            -p "$work/tmp/profile" "$model"
        for own in "$work"/tmp/profile*.json; do # it adds when it was written
            mv "$own" "$1.events"
        done
        ;;
    benchmark_app)
        run_tool "$1.out" -m "$model" -d CPU -api sync -nireq 1 -hint none -nstreams 1 \
            -nthreads "$THREADS" -infer_precision "$OPENVINO_PRECISION" -t "$3" \
            -report_type detailed_counters -report_folder "$work/tmp"
        mv "$work/tmp/benchmark_detailed_counters_report.csv" "$1.counters"
        ;;
    benchmark_model)
        run_tool "$1.out" --graph="$model" --num_threads="$THREADS" --warmup_min_secs=0.2 \
            --min_secs="$2" --num_runs=12 --enable_op_profiling=true
        ;;
    esac
}

find_model() { # the file of the network, with its weights
    case $1 in
    *.gz)
        network=${1%.gz}
        model=$work/models/$network.onnx
        [ -f "$model" ] && return
        "$PYTHON" runner.py --bundle . --write-models "$work/models" --model "$network" \
            >"$work/tmp/models.out" 2>&1 ||
            die "weights cannot be made by $PYTHON ($(tail -n 1 "$work/tmp/models.out")): name a Python with numpy by PYTHON, or write the bundle with --with-weights"
        ;;
    *)
        network=${1%.*}
        model=models/$1
        ;;
    esac
}

drop_network() { # what was made of a network that few jobs are about
    [ "$(grep -c -F " $1" jobs.txt)" -gt 2 ] && return
    rm -f "$work/models/${1%.*}.onnx" "$work/plans/${1%.*}.plan"
}

measure() { # a job's key, its rounds, seconds, whole seconds, whom to profile, and its networks
    key=$1 rounds=$2 seconds=$3 whole=$4 target=$5
    shift 5
    rm -rf "$work/job" "$work/tmp"
    mkdir -p "$work/job" "$work/tmp" "$work/models" "$work/plans"
    began=$(date +%s)
    fact key "$key" >"$work/job/job.txt"
    fact measured_at "$(date -u +%Y-%m-%dT%H:%M:%S+00:00)" >>"$work/job/job.txt"
    cp "$work/device.txt" "$work/job/device.txt"
    round=0
    while [ "$round" -lt "$rounds" ]; do
        index=0
        for own in "$@"; do
            find_model "$own"
            time_network "$work/job/time-$round-$index" "$seconds" "$whole"
            index=$((index + 1))
        done
        round=$((round + 1))
    done
    if [ "$target" != - ]; then
        find_model "$target"
        profile_network "$work/job/profile" "$seconds" "$whole"
    fi
    for own in "$@"; do
        drop_network "$own"
    done
    fact seconds $(($(date +%s) - began)) >>"$work/job/job.txt"
    fact temperature "$(read_temperature)" >>"$work/job/job.txt"
    (cd "$work/job" && sha256sum -- * >"$work/tmp/sums" && mv "$work/tmp/sums" SHA256SUMS) || exit 2
    tar -C "$work/job" -cf - . | gzip >"$work/tmp/result" || die "$key cannot be written"
    sync
    mv "$work/tmp/result" "$results/results/$key.tar.gz"
}

check_bundle() {
    [ -f SHA256SUMS ] || die "SHA256SUMS is missing: copy the whole bundle here"
    [ "$(sha256sum <SHA256SUMS | cut -d' ' -f1)" = "$SUMS" ] ||
        die "SHA256SUMS was edited or cut: copy the bundle here again"
    wrong=$(sha256sum -c SHA256SUMS 2>/dev/null | sed -n 's/: FAILED.*//p' | head -n 1)
    if ! sha256sum -c SHA256SUMS >/dev/null 2>&1; then
        die "${wrong:-a file of the bundle} was edited or cut, or is missing: copy the bundle here again"
    fi
}

check_result() { # of an earlier run: it is whole, and of this device
    rm -rf "$work/check"
    mkdir -p "$work/check"
    { gzip -dc "$1" | tar -C "$work/check" -xf -; } 2>/dev/null
    (cd "$work/check" && sha256sum -c SHA256SUMS) >/dev/null 2>&1 ||
        die "$1 was edited or cut: delete it, and it is measured again"
    if ! cmp -s "$work/check/device.txt" "$work/device.txt"; then
        names=$(while IFS='=' read -r name value; do
            here=$(sed -n "s/^$name=//p" "$work/device.txt")
            [ "$value" = "$here" ] || printf "%s is '%s' there, '%s' here; " "$name" "$value" "$here"
        done <"$work/check/device.txt")
        die "$1 is of another device or setting (${names%; }): a bundle is run on one device; use a fresh copy for this one, or delete $results/results"
    fi
}

show() { # a result, to who is listening
    [ -z "$stream" ] && return
    say "result $(base64 <"$1" | tr -d '\n')"
}

rest() {
    if ! is_throttled; then
        rested=0
    elif [ "$rested" -lt "$MOST_RESTS" ]; then
        rested=$((rested + 1))
        say "hot, or throttled: resting for $REST_S s"
        sleep "$REST_S"
    fi
}

run_bundle() {
    check_bundle
    mkdir -p "$results/results" "$work/tmp" || die "$results cannot be written"
    exec 9>"$lock"
    if has flock && ! flock -n 9; then
        say "another runner works here: waiting until it is done"
        flock 9
    fi
    # Whatever the tool writes into its user's folder lands here; what was installed there is found.
    export PYTHONUSERBASE="${PYTHONUSERBASE:-${HOME:-$work}/.local}" PYTHONDONTWRITEBYTECODE=1
    export HOME="$work/home" XDG_CACHE_HOME="$work/home/.cache" TMPDIR="$work/tmp"
    export ORT_DISABLE_TELEMETRY=1 CUDA_CACHE_DISABLE=1
    mkdir -p "$HOME"
    describe_device >"$work/tmp/device.txt"
    # What was built elsewhere is of no use here.
    cmp -s "$work/tmp/device.txt" "$work/device.txt" || rm -rf "$work/plans" "$work/timing.cache"
    mv "$work/tmp/device.txt" "$work/device.txt"
    [ "$NAME" = trtexec ] && set_types
    done=0
    for own in "$results"/results/*.tar.gz; do
        [ -f "$own" ] && check_result "$own"
    done
    total=$(grep -c . jobs.txt)
    rested=0
    while read -r key more <&3; do
        file=$results/results/$key.tar.gz
        done=$((done + 1))
        if [ ! -f "$file" ]; then
            # shellcheck disable=SC2086
            measure "$key" $more
            say "$done of $total done"
            show "$file"
            rest
        else
            show "$file"
        fi
    done 3<jobs.txt
    rm -rf "$work"
}

main() {
    # Programs that read their input would read this script's, or the connection's.
    exec </dev/null
    results='' lock='' stream='' describe=''
    while [ $# -gt 0 ]; do
        case $1 in
        --describe) describe=1 ;;
        --stream) stream=1 ;;
        --results)
            results=$(resolve_path "$2")
            shift
            ;;
        --lock)
            lock=$(resolve_path "$2")
            shift
            ;;
        *) die "$1 is no option of this script" ;;
        esac
        shift
    done
    PYTHON=$(resolve "${PYTHON:-python3}")
    case $PRECISION in
    fp32 | int8) OPENVINO_PRECISION=f32 ;;
    fp16) OPENVINO_PRECISION=f16 ;;
    bf16) OPENVINO_PRECISION=bf16 ;;
    esac
    if [ -z "$describe" ]; then
        # What is named from where this was started is found before that changes.
        place=$(cd "$(dirname "$0")" && pwd) || exit 1
        results=${results:-$place}
        lock=${lock:-$results/.lock}
        work=$results/work
    fi
    find_tool
    if [ -n "$describe" ]; then
        describe_device
        fact temperature "$(read_temperature)"
        fact throttled "$(is_throttled && echo yes)"
        fact program "$program"
        return
    fi
    cd "$place" || exit 1
    run_bundle
}

main "$@"; exit
