"""Content ids: plain BLAKE2b of canonical bytes, apart by domain, the same for ever."""

from __future__ import annotations

import hashlib
import json
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.ids import Domain, canonical_json, content_id, json_id, sha256_hex
from gandb.core.kernels import hash_rows

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.sampled_from(Domain), st.binary(max_size=300))
def test_an_id_is_blake2b_with_the_domain_as_person(domain: Domain, data: bytes) -> None:
    plain = hashlib.blake2b(digest_size=16, person=domain.value.encode().ljust(16, b"\0"))
    plain.update(data)
    assert content_id(domain, data) == UUID(plain.hexdigest())


def test_domains_keep_ids_apart() -> None:
    assert all(len(domain.encode()) <= 16 for domain in Domain)
    assert len({content_id(domain, b"same") for domain in Domain}) == len(Domain)


def test_ids_of_released_data_never_change() -> None:
    assert str(content_id(Domain.DATASET, b"mp")) == "c0c77307-5706-678d-8a4b-bf533a6e1247"
    assert (
        str(json_id(Domain.RECIPE, {"b": [1, 2.5, None], "a": "é"}))
        == "e0520499-28c4-41d8-ad9d-bc13cf2214b9"
    )


@given(st.dictionaries(st.text(), JSONS, max_size=4))
def test_canonical_json_says_the_same_in_one_way(value: dict[str, object]) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(backwards) == text
    assert json_id(Domain.JOB, backwards) == content_id(Domain.JOB, text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": -float("inf")}])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_a_blob_is_named_by_sha256() -> None:
    # The example of FIPS 180-2.
    assert sha256_hex(b"abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@given(st.integers(0, 128), st.integers(0, 5), st.integers(0, 2**32))
def test_rows_hash_like_hashlib(width: int, n: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, (n, width), np.uint8)
    hashed = hash_rows(rows, Domain.CANDIDATE)
    assert hashed.shape == (n, 16)
    for row, found in zip(rows, hashed, strict=True):
        assert UUID(bytes=found.tobytes()) == content_id(Domain.CANDIDATE, row.tobytes())


def test_rows_of_more_than_a_block_are_refused() -> None:
    with pytest.raises(ValueError, match="129 bytes, more than one block of 128"):
        hash_rows(np.zeros((1, 129), np.uint8), Domain.ENTRY)
