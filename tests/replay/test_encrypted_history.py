"""A history of encrypted payloads, written by an earlier version, replays for those who have the key."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from perdure import activity, workflow
from perdure.client import WorkflowHistory
from perdure.contrib.encryption import DecryptionError, EncryptionCodec
from perdure.converter import DataConverter
from perdure.worker import Replayer

PATH = Path(__file__).parent / "golden" / "encrypted" / "sealed.json"
CONVERTER = dataclasses.replace(
    DataConverter.default, payload_codec=EncryptionCodec({"golden": bytes(range(32))}, "golden")
)


@activity.defn
async def seal(text: str) -> str:
    return f"[{text}]"


@workflow.defn
class Sealed:
    @workflow.run
    async def run(self, text: str) -> str:
        sealed = await workflow.execute_activity(seal, text, start_to_close_timeout=timedelta(seconds=20))
        if sealed == f"[{text}]":  # only decrypted payloads lead here
            await workflow.sleep(1)
        return sealed


def _history() -> WorkflowHistory:
    return WorkflowHistory.from_json("golden-sealed", PATH.read_text())


async def test_it_replays_with_the_key() -> None:
    result = await Replayer(workflows=[Sealed], data_converter=CONVERTER).replay_workflow(_history())
    assert result.replay_failure is None


async def test_without_the_key_it_says_so() -> None:
    other = EncryptionCodec({"other": bytes(32)}, "other")
    converter = dataclasses.replace(DataConverter.default, payload_codec=other)
    with pytest.raises(DecryptionError, match="key 'golden', which is not known here"):
        await Replayer(workflows=[Sealed], data_converter=converter).replay_workflow(_history())
