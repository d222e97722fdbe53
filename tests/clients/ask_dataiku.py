"""Run by the clients' own Python: asks a node with Dataiku's client of API nodes, by a key and by a token."""

import json
import sys

from dataikuapi import APINodeClient
from dataikuapi.utils import DataikuException


def main() -> None:
    """Print what the node answered."""
    told = json.load(sys.stdin)
    client = APINodeClient(told["url"], told["service"], api_key=told["key"])
    said = {
        "one": [client.predict_record(told["name"], row) for row in told["rows"]],
        "many": client.predict_records(told["name"], [{"features": row} for row in told["rows"]]),
        "forced": client.predict_record(told["name"], told["rows"][0], forced_generation=f"v{told['version']}"),
        "explained": client.predict_record(told["name"], told["rows"][0], with_explanations=True, n_explanations=2),
    }
    bearer = APINodeClient(told["url"], told["service"], bearer_token=told["key"])
    said["bearer"] = bearer.predict_record(told["name"], told["rows"][0], context={"id": "order-17"})
    for what, asked in (
        ("stranger", APINodeClient(told["url"], told["service"], api_key="nobody")),
        ("refused", client),
    ):
        try:
            asked.predict_record(told["name"], {})
        except DataikuException as error:
            said[what] = str(error)
    print(json.dumps(said))


main()
