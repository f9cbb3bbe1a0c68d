"""What vendors' tools write, as their documentation shows it."""

from __future__ import annotations

import json

import pytest

from latency_tables import EngineError
from latency_tables.devices.tool_output import (
    ToolTimes,
    read_benchmark_app,
    read_benchmark_model,
    read_litert_benchmark,
    read_perf_test,
    read_trtexec,
)

TIMES = """[
  { "startInMs" : 10.1, "endInMs" : 10.2, "startComputeMs" : 10.2, "endComputeMs" : 11.4,
    "startOutMs" : 11.4, "endOutMs" : 11.5, "inMs" : 0.1, "computeMs" : 1.2, "outMs" : 0.1,
    "latencyMs" : 1.4, "endToEndMs" : 1.4 }
, { "startInMs" : 12.1, "endInMs" : 12.2, "startComputeMs" : 12.2, "endComputeMs" : 13.5,
    "startOutMs" : 13.5, "endOutMs" : 13.6, "inMs" : 0.1, "computeMs" : 1.3, "outMs" : 0.1,
    "latencyMs" : 1.5, "endToEndMs" : 1.5 }
]"""
PROFILE = """[
  { "count" : 1010 }
, { "name" : "Reformatting CopyNode for Input Tensor 0 to conv1/conv + relu/relu", "timeMs" : 9.49,
    "averageMs" : 0.0094, "medianMs" : 0.0092, "percentage" : 0.7 }
, { "name" : "conv1/conv + relu/relu", "timeMs" : 123.1, "averageMs" : 0.122, "medianMs" : 0.121,
    "percentage" : 9.5 }
]"""
SUMMARY = """Session creation time cost: 0.0512 s
First inference time cost: 21 ms
Total inference time cost: 1.02 s
Total inference requests: 100
Average inference time cost: 10.2 ms
Total inference run time: 1.03 s
Number of inferences per second: 97.1
Avg CPU usage: 25 %
Peak working set size: 51234816 bytes
Min Latency: 0.0098 s
Max Latency: 0.0161 s
P50 Latency: 0.0101 s
P90 Latency: 0.0110 s
"""
APP = """[Step 11/11] Dumping statistics report
[ INFO ] Execution Devices:['CPU']
[ INFO ] Count:            2544 iterations
[ INFO ] Duration:         1003.71 ms
[ INFO ] Latency:
[ INFO ]    Median:        7.34 us
[ INFO ]    Average:       385.59 us
[ INFO ] Throughput:   2534.58 FPS
"""
COUNTERS = """layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)
x;Status.NOT_RUN;Parameter;unknown_f32;0.000;0.000
conv/conv;Status.EXECUTED;Convolution;jit_avx512_f32;0.120;0.119
relu/relu;Status.OPTIMIZED_OUT;Relu;undef;0.000;0.000
fc/mm;EXECUTED;FullyConnected;brgemm_avx512_f32;0.004;0.004
Total;;;;0.124;0.123
"""
HEAD = "[node type]  [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]"
ROWS = (
    "CONV_2D 4.269 4.2690 85.1% 85.1% 0.000 1 [MobilenetV1/Conv2d_0/Relu6]:0",
    "DEPTHWISE_CONV_2D 0.718 0.7200 14.9% 100.0% 0.000 1 [MobilenetV1/Conv2d_1/Relu6]:1",
)
# Its tables are set with tabs and padded with spaces.
TABLE = "\n".join("\t     " + row.replace(" ", "\t    ") for row in ROWS)
MODEL = f"""INFO: count=50 first=5122 curr=4987 min=4910 max=5201 avg=4995.4 std=41
INFO: Inference timings in us: Init: 8123, First inference: 9012, Warmup (avg): 5100.2, \
Inference (avg): 4995.4
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
{HEAD}
\t AllocateTensors\t 0.071\t 0.071\t100.000%\t100.000%\t 0.000\t 1\tAllocateTensors/0

Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
{HEAD}
{TABLE}

============================== Top by Computation Time ==============================
{HEAD}
{TABLE}
"""


def list_steps(found: ToolTimes) -> list[tuple[str, float]]:
    return [(step.name, pytest.approx(step.ms)) for step in found.steps]


def test_trtexec() -> None:
    found = read_trtexec(TIMES, PROFILE)
    assert found.laps_ms == (1.2, 1.3)
    copy, conv = found.steps
    assert copy.reorders and not conv.reorders
    assert (conv.name, conv.ms) == ("conv1/conv + relu/relu", 0.121)
    older = PROFILE.replace('"medianMs"', '"other"')
    assert read_trtexec(TIMES, older).steps[1].ms == 0.122
    assert read_trtexec(TIMES).steps == ()
    layers = [{"Name": conv.name, "Metadata": "[ONNX Layer: conv1/conv]"}, "plain"]
    found = read_trtexec("", PROFILE, json.dumps({"Layers": layers}))
    assert [step.source for step in found.steps] == ["", "[ONNX Layer: conv1/conv]"]


def test_perf_test() -> None:
    def event(name: str, us: int) -> dict[str, object]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "ts": 0, "args": {}}

    events = []
    for us in (900, 100, 110, 105):
        events += [event("conv1/conv", us), event("fc/mm", us // 10)]
        events.append({"cat": "Session", "name": "model_run", "dur": us * 2})
    found = read_perf_test(SUMMARY, json.dumps(events))
    assert found.laps_ms == pytest.approx((10.1,))
    assert list_steps(found) == [("conv1/conv", 0.105), ("fc/mm", 0.01)]
    no_percentiles = SUMMARY.partition("Min Latency")[0]
    assert read_perf_test(no_percentiles, "").laps_ms == pytest.approx((10.2,))


def test_benchmark_app() -> None:
    found = read_benchmark_app(APP, COUNTERS)
    assert found.laps_ms == pytest.approx((0.00734,))
    assert list_steps(found) == [("conv/conv", 0.12), ("fc/mm", 0.004)]
    assert read_benchmark_app(APP.replace("7.34 us", "7.34 ms"), "").laps_ms == (7.34,)


def test_benchmark_model() -> None:
    found = read_benchmark_model(MODEL)
    assert found.laps_ms == pytest.approx((4.9954,))
    assert list_steps(found) == [
        ("MobilenetV1/Conv2d_0/Relu6", 4.269), ("MobilenetV1/Conv2d_1/Relu6", 0.72)
    ]  # fmt: skip
    with_median = MODEL.replace("std=41", "std=41 median=4980")
    assert read_benchmark_model(with_median).laps_ms == pytest.approx((4.98,))


@pytest.mark.parametrize(
    ("read", "tool"),
    [
        (lambda: read_trtexec("[{", ""), "trtexec --exportTimes"),
        (lambda: read_trtexec('[{"latencyMs": 1}]', ""), "trtexec --exportTimes"),
        (lambda: read_trtexec(TIMES, "{}"), "trtexec --exportProfile"),
        (lambda: read_perf_test("no such file", ""), "onnxruntime_perf_test"),
        (lambda: read_perf_test(SUMMARY, '[{"cat": "Node"}]'), "onnxruntime_perf_test -p"),
        (lambda: read_benchmark_app("[ ERROR ] no such file", ""), "benchmark_app"),
        (lambda: read_benchmark_model("Failed to load"), "benchmark_model"),
    ],
)
def test_what_is_in_no_known_format_is_refused_by_the_tools_name(read, tool: str) -> None:
    with pytest.raises(EngineError, match=f"what {tool} wrote"):
        read()


def test_perf_test_tells_every_run_in_its_file_of_results() -> None:
    rows = "".join(f"a,b/m.onnx,{0.01 + n / 1e4},51234816,25,{n}\n" for n in range(3))
    found = read_perf_test(SUMMARY, "", rows + "\nMin Latency: 0.0098 s\n")
    assert found.laps_ms == pytest.approx((10.0, 10.1, 10.2))


def test_perf_test_of_before() -> None:
    said = "Total time cost:58.8\nAverage time cost:58.8053 ms\nP50 Latency is 0.0587108sec\n"
    assert read_perf_test(said).laps_ms == pytest.approx((58.7108,))
    assert read_perf_test(said.partition("P50")[0]).laps_ms == pytest.approx((58.8053,))


def test_benchmark_app_with_several_requests_counts_the_first() -> None:
    block = COUNTERS + "\n\n"
    assert len(read_benchmark_app(APP, block + block).steps) == 2
    reorder = COUNTERS.replace("fc/mm;EXECUTED;FullyConnected", "x;Status.EXECUTED;Reorder")
    assert [step.reorders for step in read_benchmark_app(APP, reorder).steps] == [False, True]


OLDER = """\
Inference timings in us: Init: 9, First inference: 9, Warmup (avg): 9, Inference (avg): 2.9499e+06
============================== Run Order ==============================
\t [node type]\t [start]\t [first]\t [avg ms]\t [%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]
\t     CONV_2D\t   0.066\t  87.754\t   60.957\t2.1%\t2.1%\t0.000\t1\t[M/Conv2d_0/Relu]:0
"""
SPACED = """\
INFO: Inference timings in us: Init: 9, First inference: 9, Warmup (avg): 9, Inference (avg): 15290
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
    [node type]  [first]  [avg ms]    [%]   [cdf%]  [mem KB]  [times called]  [Name]
       QUANTIZE    0.199     0.203  1.328%  1.328%     0.000               1  [tfl.quantize]:0
  Conv (QC8) DW    0.428     0.051  4.317%  8.304%   0.000        13  Delegate/Conv (QC8) DW:1

============================== Top by Computation Time ==============================
"""


def test_benchmark_model_of_before_and_with_a_delegate() -> None:
    found = read_benchmark_model(OLDER)
    assert found.laps_ms == pytest.approx((2949.9,))
    assert list_steps(found) == [("M/Conv2d_0/Relu", 60.957)]
    found = read_benchmark_model(SPACED)
    assert list_steps(found) == [
        ("tfl.quantize", 0.203), ("Delegate/Conv (QC8) DW", 13 * 0.051)
    ]  # fmt: skip


def test_litert_benchmark() -> None:
    said = "Warmup (avg):  9.00 ms (5 runs)\nInference (avg):  7.31 ms (30 runs)\n"
    assert read_litert_benchmark(said + "Inference (median):    7.25 ms\n").laps_ms == (7.25,)
    with pytest.raises(EngineError, match="what litert-benchmark wrote"):
        read_litert_benchmark(said)
