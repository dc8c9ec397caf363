from typing import Annotated, Any, get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from shine_exp.data.io.files import InputFile, names_input_file
from shine_exp.data.sets.image_folder import image_folder
from shine_exp.data.sets.libsvm import libsvm


@pytest.mark.parametrize(
    ("annotation", "marked"),
    [
        (InputFile, True),
        (int | InputFile, True),
        (InputFile | None, True),
        (Annotated[InputFile | int, "more"], True),
        (str, False),
        (int | str | None, False),
        (Annotated[str, "other"], False),
        (Any, False),
    ],
)
def test_input_file_is_found_in_annotation(annotation: Any, marked: bool) -> None:
    assert names_input_file(annotation) is marked


def test_input_file_is_a_string_to_pydantic() -> None:
    assert TypeAdapter(int | InputFile).validate_python("groups.txt", strict=True) == "groups.txt"
    with pytest.raises(ValidationError):
        TypeAdapter(InputFile).validate_python(3, strict=True)


def test_input_file_of_a_data_set_is_its_path() -> None:
    for function in (libsvm, image_folder):
        hints = get_type_hints(function, include_extras=True)
        assert [name for name in hints if names_input_file(hints[name])] == ["path"]
