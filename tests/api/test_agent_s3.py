"""The agent alone speaks to S3: what is wrong with bucket or credentials is named, and corrected without a restart."""

from __future__ import annotations

from pathlib import Path

from quarterdeck.record_files import read_main
from quarterdeck.storage import open_storage
from quarterdeck_node.spool import Spool
from tests.agents import agent_in, put, record
from tests.models import version_encoding_model
from tests.s3 import S3Server
from tests.support import eventually


def test_packages_and_records_travel_over_s3(s3: S3Server, tmp_path: Path) -> None:
    """One package in, one record out; in between a bucket that is not there and credentials that are wrong."""
    url = s3.url(s3.bucket(), "team")
    storage = open_storage(url)
    ref = version_encoding_model(1).push(storage)
    with agent_in(tmp_path / "node", url) as agent:
        missing = agent.ensure(ref, s3.url("no-such-bucket-anywhere"))
        assert (missing.status_code, missing.json()["code"]) == (502, "no-such-bucket")
        s3.set_credentials(secret="wrong" * 8)
        refused = agent.ensure(ref)
        assert (refused.status_code, refused.json()["code"]) == (502, "wrong-credentials")
        assert agent.get("/state")[ref.digest]["state"] == "failed"
        spool = Spool(agent.folder / "spool", "boot")
        put(spool, record(1, digest=ref.digest))
        spool.close()
        eventually(lambda: agent.get("/health")["shipping"]["last_error"] == "wrong-credentials")
        s3.set_credentials()
        assert eventually(lambda: agent.ensure(ref).status_code == 200)
        eventually(lambda: read_main(storage, "flights").num_rows == 1)
        assert agent.spooled() == []
