"""The API node: `serve` answers predictions, `agent` fetches packages and ships records."""
