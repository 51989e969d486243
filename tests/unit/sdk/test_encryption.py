"""The encryption codec and the codec server, as values."""

from __future__ import annotations

import base64

import pytest
from starlette.testclient import TestClient

from perdure.contrib.codec_server import CodecServerError, RemoteCodec, codec_server, payloads_from_json
from perdure.contrib.encryption import DecryptionError, EncryptionCodec
from perdure_schemas.records import Payload

PAYLOAD = Payload(metadata={"encoding": b"json/plain", "other": b"\x00"}, data=b'"secret"')
KEY, OTHER_KEY = bytes(32), bytes([1] * 16)


async def test_a_payload_comes_back_and_is_not_readable_on_the_way() -> None:
    codec = EncryptionCodec({"k": KEY}, "k")
    first, second = await codec.encode([PAYLOAD, PAYLOAD])
    assert first.metadata == {"encoding": b"binary/encrypted", "encryption-key-id": b"k"}
    assert first.data != second.data
    assert b"secret" not in first.data and b"json" not in first.data
    assert await codec.decode([first, second]) == [PAYLOAD, PAYLOAD]


async def test_any_known_key_decrypts_and_the_active_one_encrypts() -> None:
    (old,) = await EncryptionCodec({"1": KEY}, "1").encode([PAYLOAD])
    both = EncryptionCodec({"1": KEY, "2": OTHER_KEY}, "2")
    assert await both.decode([old]) == [PAYLOAD]
    assert (await both.encode([PAYLOAD]))[0].metadata["encryption-key-id"] == b"2"


async def test_unknown_wrong_and_changed_are_errors_that_say_so() -> None:
    (encrypted,) = await EncryptionCodec({"1": KEY}, "1").encode([PAYLOAD])
    with pytest.raises(DecryptionError, match="encrypted with the key '1', which is not known here; known are: 2"):
        await EncryptionCodec({"2": OTHER_KEY}, "2").decode([encrypted])
    with pytest.raises(DecryptionError, match="cannot be decrypted with the key '1'"):
        await EncryptionCodec({"1": OTHER_KEY}, "1").decode([encrypted])
    changed = Payload(metadata=encrypted.metadata, data=encrypted.data[:-1] + bytes([encrypted.data[-1] ^ 1]))
    with pytest.raises(DecryptionError, match="or the payload was changed"):
        await EncryptionCodec({"1": KEY}, "1").decode([changed])
    with pytest.raises(DecryptionError):
        await EncryptionCodec({"1": KEY}, "1").decode([Payload(metadata=encrypted.metadata, data=b"short")])


async def test_the_key_id_is_authenticated() -> None:
    codec = EncryptionCodec({"1": KEY, "2": KEY}, "1")
    (encrypted,) = await codec.encode([PAYLOAD])
    relabelled = Payload(metadata={**encrypted.metadata, "encryption-key-id": b"2"}, data=encrypted.data)
    with pytest.raises(DecryptionError):
        await codec.decode([relabelled])


async def test_plain_payloads_pass_unless_encryption_is_required() -> None:
    assert await EncryptionCodec({"1": KEY}, "1").decode([PAYLOAD]) == [PAYLOAD]
    with pytest.raises(DecryptionError, match="not encrypted"):
        await EncryptionCodec({"1": KEY}, "1", require_encrypted=True).decode([PAYLOAD])


def test_bad_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="'k' has 5 bytes"):
        EncryptionCodec({"k": b"short"}, "k")
    with pytest.raises(ValueError, match="active key 'x' is not among"):
        EncryptionCodec({"k": KEY}, "x")


def _as_json(payload: Payload) -> dict[str, object]:
    return {
        "metadata": {key: base64.b64encode(value).decode() for key, value in payload.metadata.items()},
        "data": base64.b64encode(payload.data).decode(),
    }


def test_the_server_encodes_and_decodes_what_the_protocol_says() -> None:
    http = TestClient(codec_server(EncryptionCodec({"k": KEY}, "k")))
    encoded = http.post("/encode", json={"payloads": [_as_json(PAYLOAD)]}).json()
    assert base64.b64decode(encoded["payloads"][0]["metadata"]["encoding"]) == b"binary/encrypted"
    decoded = http.post("/decode", json=encoded).json()
    assert payloads_from_json(decoded) == [PAYLOAD]


def test_the_server_has_a_codec_for_each_namespace() -> None:
    http = TestClient(codec_server({"a": EncryptionCodec({"k": KEY}, "k")}))
    body = {"payloads": [_as_json(PAYLOAD)]}
    assert http.post("/encode", json=body, headers={"X-Namespace": "a"}).status_code == 200
    refused = http.post("/encode", json=body, headers={"X-Namespace": "b"})
    assert (refused.status_code, refused.json()["error"]) == (404, "there is no codec for namespace 'b'")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("no json", ""),
        ("[]", 'a list "payloads"'),
        ('{"payloads": [{"data": "%%"}]}', "payload 0 is none"),
        ('{"payloads": [3]}', "payload 0 is none"),
    ],
)
def test_the_server_says_what_is_wrong_with_a_body(body: str, said: str) -> None:
    http = TestClient(codec_server(EncryptionCodec({"k": KEY}, "k")))
    answer = http.post("/decode", content=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_the_server_says_why_it_cannot_decode_and_whom_it_does_not_serve() -> None:
    codec = EncryptionCodec({"k": KEY}, "k")
    http = TestClient(codec_server(codec, authorize=lambda request: request.headers.get("authorization") == "me"))
    assert http.post("/decode", json={"payloads": []}).status_code == 403
    other = {"payloads": [_as_json(Payload(metadata={"encoding": b"binary/encrypted"}, data=b"x"))]}
    answer = http.post("/decode", json=other, headers={"authorization": "me"})
    assert answer.status_code == 400 and "DecryptionError" in answer.json()["error"]


def test_web_pages_of_other_origins_are_let_in_by_name_only() -> None:
    http = TestClient(codec_server(EncryptionCodec({"k": KEY}, "k"), cors_origins=["https://ui.example.com"]))
    ask = {"access-control-request-method": "POST"}
    allowed = http.options("/decode", headers={"origin": "https://ui.example.com", **ask})
    assert allowed.headers["access-control-allow-origin"] == "https://ui.example.com"
    refused = http.options("/decode", headers={"origin": "https://elsewhere.example.com", **ask})
    assert "access-control-allow-origin" not in refused.headers


async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(CodecServerError, match=r"http://127\.0\.0\.1:1/decode"):
        await RemoteCodec("http://127.0.0.1:1").decode([PAYLOAD])
    with pytest.raises(ValueError, match="must begin with http"):
        RemoteCodec("file:///etc/passwd")
