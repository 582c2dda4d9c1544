"""The published `workflows` monitor of bench/status.py, without its screen. Run by the peer's interpreter."""

import sys
import time

from workflows.contrib.status_monitor import Monitor
from workflows.transport.stomp_transport import StompTransport

StompTransport.config.update({"--stomp-host": "127.0.0.1", "--stomp-port": int(sys.argv[1]), "--stomp-prfx": "zocalo"})
monitor = Monitor(StompTransport)
while monitor._transport.is_connected():
    time.sleep(0.2)
