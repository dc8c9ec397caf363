"""Every file of conf/data fits its function, and makes data where it needs no download."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from shine_exp.data.dataset import Dataset

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "none")


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=[f"+data={name}", *overrides]).data


@pytest.mark.parametrize("name", NAMES)
def test_config_gives_every_parameter_and_no_other(name: str) -> None:
    config = composed(name)
    function = get_method(config["_target_"])
    assert {"_target_", *inspect.signature(function).parameters} == set(config)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("breast_cancer", (569, 30)),
        ("digits", (1797, 64)),
        ("synthetic_text", (2000, 5000)),
        ("gaussian", (500, 30)),
    ],
)
def test_offline_data_is_made(name: str, shape: tuple[int, int]) -> None:
    data = instantiate(composed(name))
    assert isinstance(data, Dataset)
    assert data.x.shape == shape


@pytest.mark.parametrize(
    ("name", "sizes"), [("20news", (18846, 130107, 154)), ("real_sim", (72309, 20958, 51))]
)
def test_synthetic_presets_have_the_shapes_of_the_real_data(
    name: str, sizes: tuple[int, int, int]
) -> None:
    config = composed(f"synthetic_{name}")
    assert (config.n, config.p, config.nnz_per_row) == sizes


def test_libsvm_takes_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("0 1:1\n1 2:1\n")
    assert OmegaConf.is_missing(composed("libsvm"), "path")
    assert instantiate(composed("libsvm", f"data.path={path}")).x.shape == (2, 2)


@pytest.mark.parametrize("name", ["real_sim", "cifar10", "image_folder"])
def test_cache_is_the_users(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHINE_EXP_CACHE", raising=False)
    assert composed(name).cache == "~/.cache/shine_exp"
    monkeypatch.setenv("SHINE_EXP_CACHE", "/elsewhere")
    assert composed(name).cache == "/elsewhere"


@pytest.mark.parametrize("name", ["digits_images", "cifar10", "image_folder"])
def test_seed_of_images_is_that_of_the_run(name: str) -> None:
    assert composed(name, "+seed=3").seed == 3


def test_image_data_is_made(tmp_path: Path) -> None:
    assert OmegaConf.is_missing(composed("image_folder"), "path")
    for number, name in enumerate(
        ("train/a/1.bmp", "train/b/1.bmp", "test/a/1.bmp", "test/b/1.bmp")
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 2), (number, 0, 0)).save(tmp_path / name)
    paths = (f"data.path={tmp_path}", f"data.cache={tmp_path}/cache", "+seed=0")
    assert instantiate(composed("image_folder", *paths)).shape == (3, 2, 4)
    assert instantiate(composed("digits_images", "+seed=0")).shape == (1, 8, 8)
