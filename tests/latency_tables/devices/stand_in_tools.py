"""Vendors' tools as shell scripts: what they print and write is as documented, latency a formula.

The formula is that of ``chain.stand_in``. They are a test's tools, never a product's.
"""

from __future__ import annotations

from pathlib import Path

_HEAD = """\
#!/bin/sh
# Stands in for {name}.
echo "$0 $*" >> {log}
look() {{ # at a network: microseconds, and its layers
    size=$(wc -c < "$1")
    us=$((100 + size / 100))
    cells=$(tr -c 'a-z0-9/' '\\n' < "$1" | grep -x 'c[0-9]*/mm' | awk '!seen[$0]++')
    count=$(echo "$cells" | grep -c .)
}}
ms() {{ printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }}
value() {{ echo "${{1#*=}}"; }}
"""
_BODIES = {
    "trtexec": """\
for own in "$@"; do
    case $own in
    --help)
        echo '&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec --help'
        echo '  --fp16   Enable fp16 precision'
        exit 0 ;;
    --onnx=*) look "$(value "$own")" ;;
    --saveEngine=*) { echo "$us"; echo "$cells"; } > "$(value "$own")" ;;
    --loadEngine=*)
        us=$(head -n 1 "$(value "$own")")
        cells=$(tail -n +2 "$(value "$own")")
        count=$(echo "$cells" | grep -c .) ;;
    --exportTimes=*)
        for n in 1 2 3 4 5 6 7 8 9 10 11; do
            echo "{ \\"startInMs\\" : $n, \\"inMs\\" : 0.1, \\"computeMs\\" : $(ms "$us") },"
        done | { echo '['; cat; echo "{ \\"computeMs\\" : $(ms "$us") } ]"; } \\
            > "$(value "$own")" ;;
    --exportProfile=*)
        each=$(ms $((us / (count + 1))))
        { echo '[ { "count" : 12 }'
          for cell in $cells; do
              echo ", { \\"name\\" : \\"layer_$cell\\", \\"timeMs\\" : 9, \\"averageMs\\" : 9,"
              echo "    \\"medianMs\\" : $each, \\"percentage\\" : 1 }"
          done
          echo ']'; } > "$(value "$own")" ;;
    --exportLayerInfo=*)
        { echo '{ "Layers" : [ "plain"'
          for cell in $cells; do
              echo ", { \\"Name\\" : \\"layer_$cell\\","
              echo "    \\"Metadata\\" : \\"[ONNX Layer: $cell]\\" }"
          done
          echo '] }'; } > "$(value "$own")" ;;
    esac
done
echo '&&&& PASSED TensorRT.trtexec [TensorRT v8601] # trtexec'
""",
    "onnxruntime_perf_test": """\
profile='' model='' laps=''
while [ $# -gt 0 ]; do
    case $1 in
    -p) profile=$2; shift ;;
    -[emtxyo]) shift ;;
    -*) ;;
    *) if [ -z "$model" ]; then model=$1; else laps=$1; fi ;;
    esac
    shift
done
look "$model"
[ -n "$laps" ] && for n in 0 1 2 3 4 5 6 7 8 9 10 11; do
    echo "$model,0.$(printf '%06d' "$us"),51234816,25,$n" >> "$laps"
done
[ -n "$profile" ] && { echo '['
    for n in 1 2 3; do
        for cell in $cells; do
            echo "{\\"cat\\":\\"Node\\",\\"name\\":\\"${cell}_kernel_time\\","
            echo "\\"dur\\":$((us / (count + 1)))},"
        done
        echo "{\\"cat\\":\\"Session\\",\\"name\\":\\"model_run\\",\\"dur\\":$us},"
    done
    echo '{"cat":"Session","name":"end"} ]'; } > "${profile}_2026-01-01_00-00-00.json"
echo "Average inference time cost: $(ms "$us") ms"
echo "P50 Latency: 0.$(printf '%06d' "$us") s"
""",
    "benchmark_model": """\
for own in "$@"; do
    case $own in --graph=*) look "$(value "$own")" ;; esac
done
echo "INFO: count=12 first=9000 curr=$us min=$us max=9000 avg=$us std=3 p5=$us median=$us p95=$us"
echo "INFO: Inference timings in us: Init: 8123, First inference: 9, Inference (avg): $us"
case $* in *--enable_op_profiling=true*)
    echo 'INFO: Operator-wise Profiling Info for Regular Benchmark Runs:'
    echo '============================== Run Order =============================='
    echo '  [node type]  [first]  [avg ms]  [%]  [cdf%]  [mem KB]  [times called]  [Name]'
    echo "  TfLiteGpuDelegateV2  1.0  $(ms "$us")  98.0%  98.0%  0.0  1  [TfLiteGpuDelegateV2]:9" ;;
esac
""",
}


def make_tool(folder: Path, name: str, more: str = "") -> Path:
    """Write a stand-in for a tool, with more lines; what it is called with lies in ``log``."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(_HEAD.format(name=name, log=folder / "log") + more + _BODIES[name])
    program.chmod(0o755)
    return program
