"""Encryption of payloads with AES-GCM, with key ids, so that keys can be changed while workflows run.

Use it as ``DataConverter(payload_codec=EncryptionCodec(keys, active_key_id))``; with
``failure_converter_class=DefaultFailureConverterWithEncodedAttributes`` messages and stack traces are encrypted, too.

Invariants: each payload gets a nonce of its own; the key id is authenticated with the data; what cannot be decrypted is
an error and never passes as plain. To change keys: give all processes the new key, then make it active everywhere, and
drop the old one when no history that needs it is kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from perdure.converter import PayloadCodec
from perdure_schemas.records import Payload

#: The encoding of encrypted payloads.
ENCODING = b"binary/encrypted"
KEY_ID_METADATA = "encryption-key-id"
_KEY_BYTES = (16, 24, 32)
#: The length NIST SP 800-38D recommends for GCM.
_NONCE_BYTES = 12


class DecryptionError(ValueError):
    """A payload cannot be decrypted: its key is not known, is a wrong one, or the payload was changed."""


class EncryptionCodec(PayloadCodec):
    """Encrypts payloads, metadata included, with AES-GCM.

    Args:
        keys: Keys of 16, 24 or 32 random bytes by their ids; all of them decrypt.
        active_key_id: The id of the key that encrypts.
        require_encrypted: Refuse to decode payloads that are not encrypted. If false they pass, so that encryption can
            be introduced while workflows run.

    Raises:
        ValueError: a key has a wrong length, or the active one is not among them.
    """

    def __init__(self, keys: Mapping[str, bytes], active_key_id: str, *, require_encrypted: bool = False) -> None:
        for key_id, key in keys.items():
            if len(key) not in _KEY_BYTES:
                raise ValueError(f"encryption key {key_id!r} has {len(key)} bytes; AES takes 16, 24 or 32")
        if active_key_id not in keys:
            raise ValueError(f"the active key {active_key_id!r} is not among the keys {sorted(keys)}")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._active_key_id = active_key_id
        self._require_encrypted = require_encrypted

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt payloads with the active key."""
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt payloads, each with the key it names.

        Raises:
            DecryptionError: one cannot be decrypted.
        """
        return [self._decrypt(payload) for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        key_id = self._active_key_id.encode()
        nonce = os.urandom(_NONCE_BYTES)
        encrypted = self._ciphers[self._active_key_id].encrypt(nonce, msgspec.msgpack.encode(payload), key_id)
        return Payload(metadata={"encoding": ENCODING, KEY_ID_METADATA: key_id}, data=nonce + encrypted)

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            if self._require_encrypted:
                raise DecryptionError("a payload is not encrypted, and this codec was told to require that")
            return payload
        key_id = payload.metadata.get(KEY_ID_METADATA, b"")
        name = key_id.decode(errors="replace")
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise DecryptionError(
                f"a payload is encrypted with the key {name!r}, which is not known here; known are: "
                f"{', '.join(sorted(self._ciphers))}"
            )
        nonce, encrypted = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            decrypted = cipher.decrypt(nonce, encrypted, key_id)
        except (InvalidTag, ValueError):
            raise DecryptionError(
                f"a payload cannot be decrypted with the key {name!r}: the key of that id is another one here, or the "
                "payload was changed"
            ) from None
        return msgspec.msgpack.decode(decrypted, type=Payload)
