# SPDX-License-Identifier: MIT
"""The nouns: a signed URL never leaks through a representation."""

import dataclasses
import importlib
import pkgutil

import pytest

from updater import core
from updater.core.model import Firmware, Offer, Session, State

OFFER = Offer(Firmware("0.2", "0" * 32, 4096), "https://example.invalid/f?sign=secret", task_id="7")


def test_a_url_is_never_shown() -> None:
    """Not by an offer, and not by what holds one."""
    session = Session("5e55", State.INSTALLING, OFFER, target="B", other="A")
    for text in (repr(OFFER), str(OFFER), repr(session), f"{[session]}"):
        assert "secret" not in text
        assert "example.invalid" not in text
        assert "0.2" in text
        assert "task_id='7'" in text


CORE = [module.name for module in pkgutil.iter_modules(core.__path__)]


@pytest.mark.parametrize("name", CORE)
def test_values_are_frozen(name: str) -> None:
    """Nothing that core hands out can be changed behind its back."""
    module = importlib.import_module(f"updater.core.{name}")
    values = [kind for kind in vars(module).values() if dataclasses.is_dataclass(kind)]
    for kind in values:
        assert kind.__dataclass_params__.frozen, kind
        assert any("__slots__" in vars(base) for base in kind.__mro__[:-1]), kind


def test_an_offer_is_the_cloud_s_unless_a_person_made_it() -> None:
    """Only a person's own is kept from the cloud."""
    assert not OFFER.is_local


def test_a_session_has_two_ends() -> None:
    """Good and failed."""
    assert [state for state in State if state.is_final] == [State.GOOD, State.FAILED]


def test_what_the_journal_stores_never_changes_its_name() -> None:
    """Both slots' versions of this program read one journal."""
    assert [state.value for state in State] == [
        "installing", "installed", "activated", "trial", "rolling-back", "good", "failed",
    ]  # fmt: skip
