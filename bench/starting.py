"""How long our node takes to its first good answer, and what it holds in memory then."""

from __future__ import annotations

import statistics
import time

from bench import processes
from bench.cells import Rules, of_memory
from bench.node import OURS, Caller, NodeProcesses, plan, start_node, start_serve
from bench.packages import published
from bench.rows import Row
from bench.servers import Running, first_answer, run_folder

STARTS = 3


def measure(repetition: int, rules: Rules) -> Row:
    """Three starts: of both programs in an empty folder, and of serve alone where its agent has the package already.

    Raises:
        WrongAnswer, TimeoutError, ChildProcessError: the node did not come up.
    """
    found = [_start(rules) for _ in range(STARTS)]
    figures = {name: statistics.median(one[name] for one in found) for name in found[0]}
    return Row("quarterdeck", "start", 0, repetition, figures)


def _start(rules: Rules) -> dict[str, float]:
    server, caller, port = OURS["quarterdeck"], Caller(), processes.free_port()
    running = Running(f"http://127.0.0.1:{port}", (), 0.0, key=caller.secret)
    with run_folder("start") as folder:
        (folder / "plan.json").write_bytes(plan(published("pipe"), caller).model_dump_json().encode())
        began = time.monotonic()
        node = start_node(folder, port, core=rules.cores.server, agent_core=rules.cores.load)
        try:
            first_answer(server, running, "single", [node.serve, node.agent])
            both = time.monotonic() - began
            processes.stop([node.serve], 15.0)
            began = time.monotonic()
            node = NodeProcesses(serve=start_serve(folder, port, rules.cores.server), agent=node.agent)
            first_answer(server, running, "single", [node.serve, node.agent])
            again = time.monotonic() - began
            answering = Running(running.url, (node.serve.pid,), both, (node.agent.pid,))
            return {"both_s": both, "serve_s": again, **of_memory(answering)}
        finally:
            node.stop()
