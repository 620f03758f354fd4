"""One request, three processes: one trace, one id, one token, and nobody's data in what is told of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.checks.metrics_docs import metrics
from tests.contract.fusion_bundle import NAME
from tests.contract.test_transformer_process import tensors_of
from tests.otlp_collector import Collector, ReceivedSpan
from tests.processes import wait_until
from tests.small_stack import SmallStack, small_stack

TOKEN = "a-token-" + "7" * 32
SERVICES = {f"{NAME}-transformer", f"{NAME}-lightgbm-predictor", "fraud-gnn-gnn-predictor"}
PERSONAL = re.compile(r"\b[a-z]\d{1,3}-[0-9a-f]{16}\b")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture(scope="module")
def stack(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallStack]:
    """All three ask for the token and send spans at once."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / "token").write_text(f"{TOKEN}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        patch.setenv("FRAUD_SERVER_DRAIN_S", "0")
        patch.setenv("FRAUD_SERVER_TOKEN_FILE", str(folder / "token"))
        with small_stack(folder, {"FRAUD_TRANSFORMER_PREDICTOR_TOKEN_FILE": str(folder / "token")}) as stack:
            yield stack


def headers(trace_id: str, flags: str = "01", **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKEN}", "traceparent": f"00-{trace_id}-00f067aa0ba902b7-{flags}", **more}


def decide(stack: SmallStack, sent: dict[str, str], rows: int = 3) -> dict[str, list[Any]]:
    tensors = tensors_of(list(stack.history.events[:rows]))
    url = f"http://127.0.0.1:{stack.transformer.port}/v2/models/{NAME}/infer"
    answer = httpx.post(url, json={"inputs": tensors}, headers=sent, timeout=30)
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def decide_by_grpc(stack: SmallStack, sent: dict[str, str]) -> None:
    request = pb.ModelInferRequest(model_name=NAME)
    contents = {"BYTES": "bytes_contents", "INT64": "int64_contents", "FP64": "fp64_contents", "BOOL": "bool_contents"}
    for given in tensors_of([stack.history.events[0]]):
        tensor = request.inputs.add(name=given["name"], datatype=given["datatype"], shape=given["shape"])
        values = [v.encode() if isinstance(v, str) else float("nan") if v is None else v for v in given["data"]]
        getattr(tensor.contents, contents[given["datatype"]]).extend(values)
    with grpc.insecure_channel(f"127.0.0.1:{stack.transformer.grpc_port}") as channel:
        GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=tuple(sent.items()), timeout=30)


def whole(spans: list[ReceivedSpan]) -> bool:
    """Whether the servers' spans of all three are there; a server's is the last of its process to end."""
    return {span.service for span in spans if span.kind == 2} == SERVICES


def test_rest_and_grpc_requests_are_one_trace_through_both_hops(stack: SmallStack, collector: Collector):
    for number, send in enumerate((decide, decide_by_grpc)):
        trace_id = f"{number + 1:032x}"
        send(stack, headers(trace_id, **{"x-request-id": f"try-{number}"}))
        spans = collector.wait_for(trace_id, whole)
        by_id = {span.span_id: span for span in spans}
        (root,) = [span for span in spans if span.parent_id == "00f067aa0ba902b7"]
        assert (root.service, root.kind) == (f"{NAME}-transformer", 2)
        for span in spans:
            assert span is root or span.parent_id in by_id
        calls = [(s, by_id[s.parent_id]) for s in spans if s.kind == 2 and s is not root]
        assert len(calls) >= 2
        assert {(client.service, client.kind) for _, client in calls} == {(f"{NAME}-transformer", 3)}
        assert {s.attributes["fraud.request_id"] for s in spans if s.kind == 2} == {f"try-{number}"}
        stages = {span.name for span in spans if span.kind == 1}
        assert stages >= {"decode", "store", "embeddings", "lightgbm", "gnn"}
        assert not any(span.failed for span in spans)


def test_the_spans_tell_what_was_decided_by_which_versions(stack: SmallStack, collector: Collector):
    trace_id = "a" * 32
    outputs = decide(stack, headers(trace_id), rows=5)
    servers = {span.service: span for span in collector.wait_for(trace_id, whole) if span.kind == 2}
    told = servers[f"{NAME}-transformer"].attributes
    counts = {name.rpartition(".")[2]: n for name, n in told.items() if name.startswith("fraud.decisions.")}
    assert counts == {decision: outputs["decision"].count(decision) for decision in set(outputs["decision"])}
    assert (told["fraud.rows"], told["fraud.degraded"], told["fraud.outcome"]) == (5, "", "ok")
    versions = {name.rpartition("-")[0]: span.attributes["fraud.model_version"] for name, span in servers.items()}
    bundles = stack.bundles
    assert versions == {
        f"{NAME}": bundles.fusion.label,
        f"{NAME}-lightgbm": bundles.lightgbm.label,
        "fraud-gnn-gnn": bundles.gnn.label,
    }
    assert servers["fraud-gnn-gnn-predictor"].resource["service.version"] == bundles.gnn.label


def test_what_the_caller_does_not_sample_is_not_exported(stack: SmallStack, collector: Collector):
    unsampled, next_one = "b" * 32, "c" * 32
    decide(stack, headers(unsampled, flags="00"))
    decide(stack, headers(next_one))
    collector.wait_for(next_one, whole)
    assert not [span for span in collector.spans if span.trace_id == unsampled]


def test_neither_spans_nor_logs_nor_metrics_name_anybody(stack: SmallStack, collector: Collector):
    trace_id = "d" * 32
    decide(stack, headers(trace_id), rows=40)
    spans = collector.wait_for(trace_id, whole)
    refused = httpx.post(
        f"http://127.0.0.1:{stack.transformer.port}/v2/models/{NAME}/infer",
        json={"inputs": tensors_of([{**stack.history.events[0], "rider_id": "+989121234567"}])},
        headers=headers(trace_id),
    )
    assert refused.status_code == 400
    told = [json.dumps(span.attributes) for span in spans]
    for service in (stack.transformer, stack.lightgbm, stack.gnn):
        told += [service.log.read_text(), httpx.get(f"http://127.0.0.1:{service.port}/metrics").text]
    people = {event[f"{kind}_id"] for event in stack.history.events for kind in ("rider", "device")}
    for text in told:
        assert not PERSONAL.search(text)
        assert "989121234567" not in text
        assert TOKEN not in text
        assert not any(person in text for person in people)


def metric(port: int, pattern: str) -> float:
    page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if re.match(pattern, line))


def test_the_transformer_counts_what_it_decided(stack: SmallStack):
    port, bundles = stack.transformer.port, stack.bundles
    patterns = {
        "decisions": rf'fraud_decisions_total\{{.*model_version="{bundles.fusion.label}"',
        "probabilities": "fraud_probability_count",
        "lightgbm": rf'fraud_predictor_scores_total\{{predictor="lightgbm",.*"{bundles.lightgbm.label}"',
        "gnn": rf'fraud_predictor_scores_total\{{predictor="gnn",.*"{bundles.gnn.label}"',
        "riders": r'fraud_feature_age_seconds_count\{entity="rider"|fraud_entities_without_past_total\{entity="rider"',
    }
    before = {name: metric(port, pattern) for name, pattern in patterns.items()}
    decide(stack, headers("e" * 32), rows=40)
    assert {name: metric(port, pattern) - before[name] for name, pattern in patterns.items()} == dict.fromkeys(
        patterns, 40
    )
    assert metric(port, "fraud_seen_sequence") > 0
    assert metric(port, "fraud_degraded_decisions_total") == 0
    assert metric(stack.gnn.port, "fraud_probability_count") >= 40


def test_what_is_served_is_what_the_docs_list(stack: SmallStack):
    listed = {metric.name for metric in metrics()}
    for service in (stack.transformer, stack.lightgbm, stack.gnn):
        page = httpx.get(f"http://127.0.0.1:{service.port}/metrics").text
        kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE))
        served = {name for name in kinds if name.startswith("fraud_") and not name.endswith("_created")}
        assert served <= listed
        assert {f"request_{stage}_seconds" for stage in ("preprocess", "predict", "postprocess")} <= set(kinds)


def test_a_collector_that_is_away_costs_no_request_and_few_lines(stack: SmallStack, collector: Collector):
    collector.stop()
    for _ in range(20):
        decide(stack, headers("f" * 32))
    log = stack.transformer.log
    wait_until(lambda: "encountered while exporting spans" in log.read_text())
    decide(stack, headers("f" * 32))
    for service in (stack.lightgbm, stack.gnn, stack.transformer):
        lines = [json.loads(line) for line in service.log.read_text().splitlines()]
        assert all({"time", "level", "message", "service"} <= line.keys() for line in lines)
        assert sum("exporting spans" in line["message"] for line in lines) <= 1
