"""What a facility has written with the published packages: a service and a wrapper; run only by the peers' Python."""

from __future__ import annotations

import zocalo.wrapper
from workflows.recipe import wrap_subscribe
from workflows.services.common_service import CommonService


class PeerForwarder(CommonService):
    """Takes a recipe message in a transaction, marks its payload and sends it on."""

    _service_name = "Peer Forwarder"
    _logger_name = "peer.forwarder"

    def initializing(self) -> None:
        wrap_subscribe(
            self._transport,
            "peer.forward",
            self.forward,
            acknowledgement=True,
            log_extender=self.extend_log,
        )

    def forward(self, wrapper, header, message) -> None:
        transaction = self._transport.transaction_begin(subscription_id=header["subscription"])
        self._transport.ack(header, transaction=transaction)
        wrapper.set_default_channel("forwarded")
        payload = message if isinstance(message, dict) else {"payload": message}
        wrapper.send({**payload, "seen-by-peer": True}, transaction=transaction)
        self._transport.transaction_commit(transaction)


class PeerWrapper(zocalo.wrapper.BaseWrapper):
    """A task that succeeds and records a file."""

    def run(self) -> bool:
        self.record_result_individual_file({"file_path": "/x", "file_name": "y.log", "file_type": "log"})
        return True
