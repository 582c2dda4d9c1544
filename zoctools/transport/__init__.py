"""The link to a broker: one contract, several brokers."""
