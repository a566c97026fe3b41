# SPDX-License-Identifier: MIT
"""The boot flow: stores by Linux, boots by the bootloader, and no state between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core import bootflow
from updater.core.bootflow import BootState, boot

TABLE = ("A", "B")
LIMIT = 3
FACTORY = {"boot_slot": "A", "upgrade_available": "0", "bootcount": "0", "ethaddr": "52:54:00"}


def stored(variables: dict[str, str], changes: bootflow.Changes) -> dict[str, str]:
    merged = {**variables, **changes}
    return {key: value for key, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, BootState("", is_trial=False, count=0, session="")),
        (FACTORY, BootState("A", is_trial=False, count=0, session="")),
        (
            {"boot_slot": "B", "upgrade_available": "1", "bootcount": "2", "updater_session": "5e"},
            BootState("B", is_trial=True, count=2, session="5e"),
        ),
        ({"bootcount": "-1"}, BootState("", is_trial=False, count=0, session="")),
        ({"bootcount": "0x3"}, BootState("", is_trial=False, count=0, session="")),
        ({"bootcount": "9" * 9}, BootState("", is_trial=False, count=999_999_999, session="")),
        ({"bootcount": "1" + "0" * 9}, BootState("", is_trial=False, count=0, session="")),
        ({"bootcount": "9" * 40}, BootState("", is_trial=False, count=0, session="")),
        ({"bootcount": "٣"}, BootState("", is_trial=False, count=0, session="")),
        ({"upgrade_available": "yes"}, BootState("", is_trial=False, count=0, session="")),
    ],
)
def test_reading_never_guesses(variables: dict[str, str], wanted: BootState) -> None:
    """What is missing or no number is nothing."""
    assert bootflow.read(variables) == wanted


@given(st.dictionaries(st.sampled_from(["boot_slot", "upgrade_available", "bootcount"]), st.text()))
def test_any_environment_can_be_read_and_booted(variables: dict[str, str]) -> None:
    """Whatever stands there, one of two slots that load is started."""
    assert bootflow.read(variables).count >= 0
    assert boot(variables, TABLE, {"A", "B"}, LIMIT).slot in TABLE


def test_a_trial_counts_three_boots_and_then_falls_back() -> None:
    """Past the limit the old slot boots, and count and session stay to tell why."""
    variables = stored(FACTORY, bootflow.activate("B", "5e55"))
    for count in (1, 2, 3):
        outcome = boot(variables, TABLE, {"A", "B"}, LIMIT)
        assert (outcome.slot, outcome.is_trial) == ("B", True)
        variables = dict(outcome.stores[-1])
        assert variables["bootcount"] == str(count)
    outcome = boot(variables, TABLE, {"A", "B"}, LIMIT)
    assert (outcome.slot, outcome.is_trial, len(outcome.stores)) == ("A", False, 2)
    left = dict(outcome.stores[-1])
    assert left == {
        **FACTORY, "boot_slot": "A", "upgrade_available": "0", "bootcount": "4",
        "updater_session": "5e55",
    }  # fmt: skip
    assert boot(left, TABLE, {"A", "B"}, LIMIT) == bootflow.Boot(
        "A", is_trial=False, stores=(), primary="A"
    )


@given(st.integers(min_value=1, max_value=50), st.sampled_from(TABLE))
def test_a_good_slot_never_counts(boots: int, primary: str) -> None:
    """Power cycling outside of a trial writes nothing and boots the same slot for ever."""
    variables = {**FACTORY, "boot_slot": primary}
    for _ in range(boots):
        assert boot(variables, TABLE, {"A", "B"}, LIMIT) == bootflow.Boot(
            primary, is_trial=False, stores=(), primary=primary
        )


@pytest.mark.parametrize("primary", ["A", "B", "", "Z"])
@pytest.mark.parametrize("loadable", [set(), {"A"}, {"B"}, {"A", "B"}])
@pytest.mark.parametrize("is_trial", [False, True])
def test_only_a_loadable_slot_is_started(primary: str, loadable: set[str], is_trial: bool) -> None:
    """A load that fails falls through to another slot; when none loads, the script stops."""
    variables = {**FACTORY, "boot_slot": primary, "upgrade_available": "1" if is_trial else "0"}
    outcome = boot(variables, TABLE, loadable, LIMIT)
    assert (outcome.slot in loadable) if loadable else outcome.slot is None
    assert outcome.is_trial == (is_trial and outcome.slot == primary)
    if primary in loadable:
        assert outcome.slot == primary


def test_a_lost_environment_boots_in_table_order() -> None:
    """The compiled default neither counts nor stores."""
    for loadable, slot in (({"A", "B"}, "A"), ({"B"}, "B")):
        outcome = boot(None, TABLE, loadable, LIMIT)
        assert outcome == bootflow.Boot(slot, is_trial=False, stores=(), primary="")


def test_an_unknown_primary_past_the_limit_goes_to_the_first_slot() -> None:
    """A name that no slot has cannot keep a machine from falling back."""
    variables = {"boot_slot": "Z", "upgrade_available": "1", "bootcount": "3"}
    outcome = boot(variables, TABLE, {"A", "B"}, LIMIT)
    assert outcome.slot == "A"
    assert outcome.stores[-1]["boot_slot"] == "A"


@pytest.mark.parametrize(("primary", "wanted"), [("A", "B"), ("B", "C"), ("C", "A")])
def test_a_fallback_goes_round_the_table(primary: str, wanted: str) -> None:
    """To the slot after the one that failed."""
    variables = {"boot_slot": primary, "upgrade_available": "1", "bootcount": "3"}
    assert boot(variables, ("A", "B", "C"), {"A", "B", "C"}, LIMIT).slot == wanted


@given(
    st.sampled_from(["A", "B", "", "Z"]),
    st.booleans(),
    st.integers(0, 9),
    st.sampled_from(["", "5"]),
)
def test_settling_leaves_the_booted_slot_alone_preferred(
    primary: str, is_trial: bool, count: int, session: str
) -> None:  # fmt: skip
    """After it no count, no session and no preference for another slot is left; twice is once."""
    changes = bootflow.settle(BootState(primary, is_trial, count, session), "A")
    after = bootflow.read(stored({"boot_slot": primary, "bootcount": str(count)}, changes))
    assert after == BootState("A", is_trial=False, count=0, session="")
    assert bootflow.settle(after, "A") == {}


def test_marking_good_and_rolling_back_are_one_store_each() -> None:
    """Each is a single set of changes, and each ends the trial."""
    trial = stored(FACTORY, bootflow.activate("B", "5e55"))
    good = stored(trial, bootflow.mark_good("B"))
    assert bootflow.read(good) == BootState("B", is_trial=False, count=0, session="")
    back = stored(trial, bootflow.roll_back("A"))
    assert bootflow.read(back) == BootState("A", is_trial=False, count=0, session="5e55")
