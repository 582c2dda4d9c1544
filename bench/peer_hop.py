"""The hop service written with the published `workflows` package; run by the peers' Python as `peer_hop.py PORT COUNT`.

It prints its figures when message COUNT + 1 arrives; with COUNT 0 it runs until it is ended.
"""

from __future__ import annotations

import json
import os
import sys
import time

import workflows.frontend
from workflows.recipe import wrap_subscribe
from workflows.services.common_service import CommonService
from workflows.transport.stomp_transport import StompTransport


class Hop(CommonService):
    """Takes a message, acknowledges it and sends it on, in one transaction."""

    _service_name = "Hop"

    def initializing(self) -> None:
        self.count = int(os.environ["HOP_COUNT"])
        self.seen = 0
        wrap_subscribe(self._transport, "hop.in", self.hop, acknowledgement=True, log_extender=self.extend_log)

    def hop(self, wrapper, header, message) -> None:
        if self.seen == 0:
            self.started, self.cpu = time.perf_counter(), time.process_time()
        if self.count and self.seen == self.count:
            took = time.perf_counter() - self.started
            cpu = time.process_time() - self.cpu
            print(json.dumps({"msg/s": self.count / took, "cpu us/msg": 1e6 * cpu / self.count}), flush=True)
            os.kill(os.getppid(), 9)
            os._exit(0)
        self.seen += 1
        transaction = self._transport.transaction_begin(subscription_id=header["subscription"])
        self._transport.ack(header, transaction=transaction)
        wrapper.set_default_channel("output")
        wrapper.send(message, transaction=transaction)
        self._transport.transaction_commit(transaction)


if __name__ == "__main__":
    port, count = sys.argv[1:3]
    os.environ["HOP_COUNT"] = count
    StompTransport.defaults["--stomp-port"] = int(port)
    StompTransport.defaults["--stomp-host"] = "127.0.0.1"
    workflows.frontend.Frontend(transport="StompTransport", service=Hop, environment={}).run()
