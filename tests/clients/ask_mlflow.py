"""Run by the clients' own Python: asks a node with the client that MLflow has for its scoring servers."""

import json
import sys
from urllib.parse import urlsplit

import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient


def main() -> None:
    """Print what the node answered."""
    told = json.load(sys.stdin)
    place = urlsplit(told["url"])
    client = ScoringServerClient(place.hostname, place.port)
    client.wait_server_ready(timeout=60)
    frame = pd.DataFrame(told["rows"]).astype(told["dtypes"])
    labels = client.invoke(frame)
    scores = client.invoke(frame, params={"predict_method": "predict_proba"})
    said = {
        "version": client.get_version(),
        "labels": labels.get_predictions(predictions_format="ndarray").tolist(),
        "scores": scores.get_predictions(predictions_format="ndarray").tolist(),
    }
    try:
        client.invoke(frame.drop(columns=frame.columns[0]))
    except Exception as error:
        said["refused"] = str(error)
    print(json.dumps(said))


main()
