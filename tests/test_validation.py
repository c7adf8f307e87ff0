"""Settings that are wrong are refused in one plain sentence that names them."""

import dataclasses
import pickle
from typing import Annotated, Literal

import pytest
import torch
from pydantic import Field

from sd_core.errors import RunError, UserError
from sd_core.validation import checked, from_json


@checked
class Inner:
    learning_rate: float = Field(0.1, gt=0)
    ema: float = Field(0.0, ge=0)


@checked
class Settings:
    count: int = Field(1, ge=1, le=64, title="The number of pictures")
    guidance: float = Field(2.5, ge=0, le=15.0, title="The guidance scale")
    strength: float = Field(0.5, gt=0, le=1, title="The strength")
    most: Annotated[int, Field(ge=1)] | None = None
    name: str = ""
    code: Annotated[str, Field(max_length=3)] = ""
    sizes: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    flips: bool = False
    kind: Literal["crop", "pad", "stretch"] = "crop"
    prompts: tuple[str, ...] = ()
    start: torch.Tensor | None = Field(None, title="The picture to start from")
    inner: Inner = Field(default_factory=Inner)

    def __post_init__(self):
        if self.name == "nobody":
            raise ValueError("Nobody is no name; choose another.")


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"count": 0}, "The number of pictures must be a whole number from 1 to 64, not 0."),
        ({"count": 2.5}, "The number of pictures must be a whole number from 1 to 64, not 2.5."),
        ({"count": "3"}, "The number of pictures must be a whole number from 1 to 64, not '3'."),
        ({"count": True}, "The number of pictures must be a whole number from 1 to 64, not True."),
        ({"count": None}, "The number of pictures must be a whole number from 1 to 64, not nothing."),
        (
            {"count": 10**5000},
            "The number of pictures must be a whole number from 1 to 64, not a number as large as that.",
        ),
        ({"guidance": 16}, "The guidance scale must be between 0 and 15, not 16."),
        ({"guidance": float("nan")}, "The guidance scale must be between 0 and 15, not nan."),
        ({"guidance": [1]}, "The guidance scale must be between 0 and 15, not a list."),
        ({"strength": 0}, "The strength must be above 0 and at most 1, not 0."),
        ({"most": 0}, "Most must be at least 1, not 0."),
        ({"name": 5}, "Name must be text, not 5."),
        ({"code": "\ud83d"}, "Code holds what is no text, such as half of an emoji; leave that out."),
        ({"code": "abcd"}, "Code may have up to 3 characters."),
        ({"sizes": ()}, "Sizes must have at least 1, not 0."),
        ({"flips": "yes"}, "Flips must be true or false, not 'yes'."),
        ({"kind": "fold"}, "Kind must be crop, pad or stretch, not 'fold'."),
        ({"kind": "x" * 1000}, f"Kind must be crop, pad or stretch, not '{'x' * 59}…."),
        ({"prompts": ("a", 3)}, "Prompts must be text, not 3."),
        ({"prompts": "abc"}, "Prompts must be a list, not 'abc'."),
        ({"start": "cat.png"}, "The picture to start from must be an instance of Tensor, not 'cat.png'."),
        ({"inner": 3}, "Inner must be "),
        ({"colour": 1}, "There is no setting 'colour'."),
        ({"name": "nobody"}, "Nobody is no name; choose another."),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(wrong, sentence):
    with pytest.raises(UserError) as error:
        Settings(**wrong)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ('{"count": ', "This is no JSON"),
        ('{"inner": {"learning_rate": 0}}', "Learning rate must be above 0, not 0."),
        ('{"inner": {"ema": -1}}', "Ema must be at least 0, not -1."),
        ('{"prompts": ["a", 3]}', "Prompts must be text, not 3."),
        ('{"count": "4"}', "The number of pictures must be a whole number from 1 to 64, not '4'."),
        ("[]", "This must be"),
        ('{"name": "nobody"}', "Nobody is no name; choose another."),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_sentence(text, sentence):
    with pytest.raises(UserError) as error:
        from_json(Settings, text)
    assert str(error.value).startswith(sentence)


def test_settings_are_a_frozen_dataclass():
    settings = Settings(3, guidance=4, start=torch.zeros(3))
    assert (settings.count, settings.guidance) == (3, 4.0)
    assert dataclasses.replace(settings, count=5).count == 5
    with pytest.raises(UserError, match="number of pictures"):
        dataclasses.replace(settings, count=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.count = 4
    assert pickle.loads(pickle.dumps(Inner(0.5))) == Inner(0.5)
    assert hash(Inner(0.5)) == hash(Inner(0.5))


def test_settings_come_back_from_json():
    assert from_json(Settings, '{"count": 2, "prompts": ["a"], "inner": {"learning_rate": 1}}') == Settings(
        2, prompts=("a",), inner=Inner(1.0)
    )


def test_a_class_may_pass_over_what_it_does_not_know():
    @checked(unknown="ignore")
    class Old:
        data: str

    assert from_json(Old, '{"data": "a", "later": 1}') == Old("a")


def test_a_class_may_name_its_own_error():
    @checked(error=RunError)
    class Asked:
        data: str

    with pytest.raises(RunError, match=r"^Data must be text, not 3\.$"):
        Asked(3)
    with pytest.raises(RunError, match=r"^Data is missing\.$"):
        Asked()
