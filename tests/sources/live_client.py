"""How live sources are asked without waiting, and a stand-in for a client that is not installed."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import types
from typing import Any

import pytest

from gandb.sources.http import Patience, Session

KEY = "k" * 32
QUICK = Patience(tries=12, unfit_tries=12, connect_timeout=2.0, read_timeout=0.4)


def quick(**more: Any) -> Session:
    """A session that does not really wait."""
    return Session(QUICK, sleep=lambda _: None, chance=random.Random(0), **more)


def lend_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a client of the Materials Project: the real one if installed, else what it does here.

    The real one brings some 300 MB; its part in this is to turn a search into one request.
    """
    if importlib.util.find_spec("mp_api") is not None:
        return

    class MPRestError(Exception):
        pass

    class SummaryRester:
        def __init__(self, *, api_key: str, endpoint: str, session: Any, **_: Any) -> None:
            assert len(api_key) == 32
            self.endpoint, self.session = f"{endpoint}materials/summary/", session
            self.session.headers["x-api-key"] = api_key
            self._get_heartbeat_info(endpoint)

        def search(
            self,
            *,
            elements: list[str] | None = None,
            energy_above_hull: tuple[float, float] | None = None,
            deprecated: bool | None = None,
            fields: list[str] | None,
            all_fields: bool,
            num_chunks: int,
            chunk_size: int,
            _page: int,
            _sort_fields: str,
        ) -> list[dict[str, Any]]:
            asked: dict[str, Any] = {"_page": _page, "_sort_fields": _sort_fields}
            if fields:
                if "no_such_field" in fields:
                    raise MPRestError("invalid fields requested: ['no_such_field']")
                asked["_fields"] = ",".join(fields)
            if elements:
                asked["elements"] = ",".join(elements)
            if energy_above_hull:
                asked["energy_above_hull_min"], asked["energy_above_hull_max"] = energy_above_hull
            if deprecated is not None:
                asked["deprecated"] = deprecated
            asked["_limit"] = asked["_per_page"] = chunk_size
            reply = self.session.get(
                url=self.endpoint, verify=True, params=asked, timeout=20, headers={}
            )
            assert reply.status_code == 200
            return list(json.loads(reply.text)["data"])

    for name in ("mp_api", "mp_api.client", "mp_api.client.core", "mp_api.client.routes"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    materials = types.ModuleType("mp_api.client.routes.materials")
    summary: Any = types.ModuleType("mp_api.client.routes.materials.summary")
    errors: Any = types.ModuleType("mp_api.client.core.exceptions")
    summary.SummaryRester, errors.MPRestError = SummaryRester, MPRestError
    for module in (materials, summary, errors):
        monkeypatch.setitem(sys.modules, module.__name__, module)
