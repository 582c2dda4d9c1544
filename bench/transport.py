"""CPU per message of sending and receiving: our transport, the published `StompTransport`, a bare socket.

Set and judge these in CPU, never in messages a second: the broker is what limits the rate of all of them. Ours
confirms what it sends; `workflows` does not. Usage: transport.py [--rounds N] [--messages N]
"""

from __future__ import annotations

import argparse
import sys

from measure import HERE, Case, Target, conditions, peer_python, print_table, print_verdicts, run_interleaved

sys.path.insert(0, str(HERE.parent / "tests"))
from support.activemq import ActiveMQ

SIZES = (4000, 20_000)


def targets(size: int) -> list[Target]:
    """G5 and G6 of the performance specification."""
    small = size == SIZES[0]
    send = [
        Target("G5", "cpu us/msg", "zoctools-hundred send", "workflows send", 1 / 3 if small else 1 / 6),
        Target("G5", "cpu us/msg", "zoctools-hundred send", "raw send", 2),
    ]
    receive = [
        Target("G6", "cpu us/msg", "zoctools receive", "workflows receive", 1 / 2),
        Target("G6", "cpu us/msg", "zoctools receive", "raw receive", 3),
    ]
    return [*send, *receive] if small else send


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=2000)
    options = parser.parse_args()
    broker = ActiveMQ.start("minimal")
    try:
        for size in SIZES:
            results = run_interleaved(_cases(broker.stomp_port, size, options.messages), options.rounds)
            print(conditions(broker="ActiveMQ 5.17, KahaDB on disk", size=size, messages=options.messages))
            print_table("Sending, and receiving with the body decoded", results, ("cpu us/msg", "msg/s"))
            print_verdicts(targets(size), results)
    finally:
        broker.stop()


def _cases(port: int, size: int, count: int) -> list[Case]:
    def ours(what: str, client: str) -> Case:
        script = str(HERE / "transport_case.py")
        return Case(f"{client} {what}", (sys.executable, script, str(port), what, client, str(size), str(count)))

    cases = [ours("send", client) for client in ("raw", "zoctools", "zoctools-hundred")]
    cases += [ours("receive", client) for client in ("raw", "zoctools")]
    python = peer_python()
    if python is not None:
        script = str(HERE / "peer_transport.py")
        for what in ("send", "receive"):
            cases.append(Case(f"workflows {what}", (python, script, str(port), what, str(size), str(count))))
    return cases


if __name__ == "__main__":
    main()
