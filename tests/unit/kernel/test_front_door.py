"""Front doors: a name is imported when it is asked for, once, and what is not there is said as by any module."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from specie.kernel.front_door import front_door


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package whose front door opens late: one name of one room, and one room."""
    package = tmp_path / "late_house"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from specie.kernel.front_door import front_door\n"
        "__getattr__ = front_door(__name__, {'kitchen': ('Stove',), '': ('cellar',)})\n"
    )
    (package / "kitchen.py").write_text("class Stove: pass\n")
    (package / "cellar.py").write_text("wine = 1\n")
    (package / "hall.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("late_house", "late_house.kitchen", "late_house.cellar", "late_house.hall"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import late_house  # type: ignore[import-not-found]

    module: ModuleType = late_house
    return module


def test_a_name_brings_its_room_and_stays(house: ModuleType) -> None:
    """Nothing is loaded before it is asked for; then the same class is there as an ordinary attribute."""
    assert "late_house.kitchen" not in sys.modules
    stove = house.Stove
    assert stove is sys.modules["late_house.kitchen"].Stove
    assert vars(house)["Stove"] is stove
    assert "late_house.cellar" not in sys.modules


def test_a_room_may_be_the_name(house: ModuleType) -> None:
    """A module can be asked for as an attribute, by `from` as well."""
    assert house.cellar.wine == 1
    from late_house import cellar

    assert cellar is house.cellar


def test_what_is_not_there_is_an_attribute_error(house: ModuleType) -> None:
    """An unknown name is AttributeError; a module that the door does not name is still imported as ever."""
    with pytest.raises(AttributeError, match="module 'late_house' has no attribute 'attic'"):
        _ = house.attic
    assert not hasattr(house, "hall")
    from late_house import hall

    assert hall is sys.modules["late_house.hall"]


def test_a_door_may_open_the_rooms_of_another_package(house: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """`package` says whose rooms they are; the names stay at the door."""
    porch = ModuleType("late_porch")
    monkeypatch.setitem(sys.modules, "late_porch", porch)
    opened = front_door("late_porch", {"kitchen": ("Stove",)}, package="late_house")
    assert opened("Stove") is house.Stove
    assert vars(porch)["Stove"] is house.Stove
    with pytest.raises(AttributeError, match="module 'late_porch' has no attribute 'Oven'"):
        opened("Oven")
