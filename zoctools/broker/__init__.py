"""The embedded broker: a pure state machine of queues, and what serves it."""
