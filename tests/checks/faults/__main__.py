"""`python -m tests.checks.faults`: kills, stops, slows and corrupts each part of the serving path under load.

Sixteen single faults and twelve pairs, each for ten seconds, then three times what each service can do. Writes
.local/reports/check-faults.json.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pipelines.local_stack import PROJECT_ROOT
from pipelines.report import Row
from pipelines.terminal import console
from tests.bounds import conclude, leave
from tests.checks.faults.cases import PAIRS, PARTS, SINGLE, Bench, Case, Outcome, Part
from tests.checks.faults.overload import overloads
from tests.checks.faults.proxy import Proxy
from tests.checks.faults.reference import expected_answers
from tests.small_stack import small_stack

RECOVERY_S = 5.0
_LATE = 1.2
# As the services have them when they are told nothing else.
_BUDGET_MS, _LEAST_IN_FLIGHT = 50.0, 16


def main() -> int:
    """Returns 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each fault lasts")
    parser.add_argument("--rate", type=float, default=40.0, help="events a second")
    parser.add_argument("--budget-ms", type=float, default=_BUDGET_MS, help="latency budget of the transformer")
    parser.add_argument("--cases", type=int, default=len(SINGLE) + len(PAIRS), help="how many of them")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / ".local" / "reports" / "check-faults.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measured(Path(folder), given))
    return conclude(rows, given.out, console)


async def measured(folder: Path, given: argparse.Namespace) -> list[Row]:
    """All rows of the report."""
    cases, rows = (*SINGLE, *PAIRS)[: given.cases], []
    if cases:
        async with bench(folder / "cases", given.budget_ms, given.rate) as running:
            for case in cases:
                outcome = await running.run(case, given.seconds)
                rows += case_rows(told(case), outcome, given.budget_ms)
                console.print(f"{told(case)}: {outcome.sent} sent; {', '.join(Outcome.FAULTS)}: {outcome.told()}")
                for problem in outcome.wrong[:3]:
                    console.print(f"  {problem}", markup=False)
    if given.budget_ms > _BUDGET_MS:
        return rows  # the limits below which nothing is shed have grown with it
    # Without the proxies, which would be overloaded first. What is taken on may wait as long again in the socket as in
    # the server.
    with small_stack(folder / "overload", environment(given.budget_ms)) as stack:
        return rows + await overloads(stack, folder, given.seconds, _LATE * given.budget_ms)


def told(case: Case) -> str:
    return ", ".join(f"{part} {fault}" for part, fault in case.items())


def case_rows(name: str, found: Outcome, budget_ms: float) -> list[Row]:
    """One case's rows."""
    late_ms = _LATE * budget_ms
    late = sum(ms > late_ms for ms in found.server_ms)
    late_there = sum(1000 * seconds > late_ms for seconds in found.client_s)
    slowest = max(found.recovery_s.values())
    return [
        Row(f"{name}: requests", found.sent),
        Row(f"{name}: {', '.join(Outcome.FAULTS)}", found.told(), "", "none", found.faultless),
        Row(f"{name}: decisions over {late_ms:g} ms", late, "", "none", late == 0),
        Row(f"{name}: slowest decision", max(found.server_ms, default=0.0), "ms"),
        Row(f"{name}: answers over {late_ms:g} ms for the client, its own delays included", late_there),
        Row(f"{name}: takes part again after", slowest, "s", f"within {RECOVERY_S:g} s", slowest <= RECOVERY_S),
    ]


def environment(budget_ms: float) -> dict[str, str]:
    """The transformer's variables."""
    env = {"FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": str(budget_ms), "FRAUD_SERVER_TARGET_MS": str(budget_ms / 2)}
    if budget_ms > _BUDGET_MS:
        # While a part hangs, requests are in flight for as long as the budget: their number grows with it.
        least = str(round(_LEAST_IN_FLIGHT * budget_ms / _BUDGET_MS))
        env |= {f"FRAUD_SERVER_{name}_IN_FLIGHT": least for name in ("LEAST", "START", "MOST")}
    return env


@asynccontextmanager
async def bench(folder: Path, budget_ms: float, rate: float) -> AsyncIterator[Bench]:
    """The stack, each part behind a proxy."""
    proxies = {part: Proxy() for part in PARTS}
    for proxy in proxies.values():
        await proxy.start()

    def reach(part: Part, port: int) -> int:
        proxies[part].target = port
        return proxies[part].port

    running = small_stack(folder, environment(budget_ms), reach)
    stack = await asyncio.to_thread(running.__enter__)
    try:
        yield Bench(stack, proxies, await expected_answers(stack), rate=rate, budget_s=budget_ms / 1000)
    except BaseException:
        # They go with the folder.
        for log in sorted(folder.rglob("*.log")):
            console.print(
                f"{log.name} ends:", *log.read_text(errors="replace").splitlines()[-20:], sep="\n", markup=False
            )
        raise
    finally:
        for proxy in proxies.values():
            await proxy.close()
        await asyncio.to_thread(running.__exit__, None, None, None)


if __name__ == "__main__":
    leave(main())
