"""The backend registry and the cache of compiled networks."""

import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hoirt.backends
import numpy as np
import pytest
from hoirt import BackendError, InputError
from hoirt.backends import cache, registry
from hoirt.backends.runtime import Runtime
from onnx_models import conv_net, inputs_for

LIBRARY = Path(hoirt.__file__).parent / "_backend_openvino.so"


def runtime(library, package="openvino"):
    return Runtime(library=library, package=package, libraries="libs/libopenvino.so.*")


def test_load_once():
    with ThreadPoolExecutor(8) as pool:
        backends = list(pool.map(lambda _: hoirt.backends.load("openvino"), range(8)))
    assert all(backend is backends[0] for backend in backends)
    assert hoirt.backends.load() is backends[0]
    assert backends[0].name == "openvino"


def test_available_names_versions():
    assert hoirt.backends.available()["openvino"] == hoirt.backends.load("openvino").version


def test_unknown_name():
    with pytest.raises(InputError, match=r"'tensorflow'.*openvino"):
        hoirt.backends.load("tensorflow")


def test_missing_library_and_the_reason_in_available(monkeypatch, tmp_path):
    missing = tmp_path / "_backend_none.so"
    monkeypatch.setattr(registry, "_RUNTIMES", {"none": runtime(missing)})
    with pytest.raises(BackendError, match=r"none.*_backend_none\.so"):
        hoirt.backends.load("none")
    with pytest.raises(BackendError, match="none"):
        hoirt.backends.load()
    assert hoirt.backends.available()["none"].startswith("unavailable: backend none")


def test_shared_object_that_is_no_backend(tmp_path):
    other = tmp_path / "other.so"
    shutil.copy(next(LIBRARY.parent.glob("_core*.so")), other)
    with pytest.raises(BackendError, match="hoirt_create_backend"):
        runtime(other).load("other")


def test_file_that_is_no_shared_object(tmp_path):
    text = tmp_path / "text.so"
    text.write_text("not ELF")
    with pytest.raises(BackendError, match=r"text\.so"):
        runtime(text).load("text")


def run_elsewhere(tmp_path, package):
    """Loads a copy of the backend that has no runtime beside it, in a process that has not loaded one yet."""
    copy = tmp_path / "hoirt" / LIBRARY.name
    copy.parent.mkdir()
    shutil.copy(LIBRARY, copy)
    script = f"""
from pathlib import Path
from hoirt.backends.runtime import Runtime
print(Runtime(Path({str(copy)!r}), {package!r}, "libs/libopenvino.so.*").load("openvino").version)
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


def test_missing_runtime_lists_every_attempt(tmp_path):
    done = run_elsewhere(tmp_path, "package_that_is_not_there")
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("hoirt.errors.BackendError: backend openvino")
    assert "libopenvino.so" in message
    assert "package_that_is_not_there is not installed" in message


def test_runtime_in_another_folder_of_the_path(tmp_path):
    done = run_elsewhere(tmp_path, "openvino")
    assert done.stdout.strip() == hoirt.backends.load("openvino").version, done.stderr


@pytest.fixture
def net(tmp_path):
    return conv_net(tmp_path / "net.onnx", external=True)


def answer(net, cache_path, **options):
    return hoirt.backends.load().open(str(net), cache_path=str(cache_path), **options).run(inputs_for())["y"]


def files(folder):
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def test_cache_hit_needs_no_compilation(net, tmp_path):
    blobs = tmp_path / "cache" / "deep"
    expected = answer(net, blobs / "net")
    written = files(blobs)
    assert len(written) == 2  # the ports, and the program for these shapes
    net.with_suffix(".bin").unlink()  # the weights now exist in the compiled network only
    np.testing.assert_array_equal(answer(net, blobs / "net"), expected)
    assert files(blobs) == written


def test_cache_of_static_shapes(net, tmp_path):
    shapes = {"x": (2, 3, 8, 8), "gain": (2,)}
    blobs = tmp_path / "cache"
    expected = answer(net, blobs / "net", shapes=shapes)
    net.with_suffix(".bin").unlink()
    np.testing.assert_array_equal(answer(net, blobs / "net", shapes=shapes), expected)


def damage(data, how):
    if how == "empty":
        return b""
    if how == "text":
        return b"not a blob"
    if how == "short":
        return data[:-1]
    if how == "long":
        return data + b"\0"
    spots = {"first": 0, "header": 20, "payload": 4096 + 7, "middle": len(data) // 2, "last": len(data) - 1}
    spot = spots[how]
    return data[:spot] + bytes([data[spot] ^ 1]) + data[spot + 1 :]


@pytest.mark.parametrize(
    "how", ["empty", "text", "short", "long", "first", "header", "payload", "middle", "last"]
)
def test_damaged_blobs_are_replaced(net, tmp_path, how):
    blobs = tmp_path / "cache"
    expected = answer(net, blobs / "net")
    before = files(blobs)
    for path in blobs.iterdir():
        path.write_bytes(damage(path.read_bytes(), how))
    if how == "middle":  # lies in the padding of the short file with the ports, which nobody reads
        before.pop("net")
    np.testing.assert_array_equal(answer(net, blobs / "net"), expected)
    after = files(blobs)
    assert all(after[name] != inode for name, inode in before.items())
    np.testing.assert_array_equal(answer(net, blobs / "net"), expected)
    assert files(blobs) == after


def test_blob_of_another_model_or_setting_is_not_used(net, tmp_path):
    blobs = tmp_path / "cache"
    answer(net, blobs / "net")
    other = conv_net(tmp_path / "other.onnx", channels=8)
    fresh = hoirt.backends.load().open(str(other)).run(inputs_for())["y"]
    np.testing.assert_array_equal(answer(other, blobs / "net"), fresh)
    before = files(blobs)
    np.testing.assert_array_equal(answer(other, blobs / "net", threads=1), fresh)
    assert files(blobs) != before


def test_concurrent_writers_leave_one_good_cache(net, tmp_path):
    blobs = tmp_path / "cache"
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: answer(net, blobs / "net"), range(6)))
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    assert len(files(blobs)) == 2
    net.with_suffix(".bin").unlink()
    np.testing.assert_array_equal(answer(net, blobs / "net"), results[0])


def test_unwritable_cache_path_is_no_failure(net, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    np.testing.assert_array_equal(answer(net, blocker / "net"), answer(net, ""))
    assert blocker.read_text() == ""


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path / "home"))
    cache._usable.cache_clear()
    return tmp_path / "home"


def path_for(content="0" * 64, **changes):
    return cache.path_for(content, **{"backend": "openvino", "version": "1", **changes})


def test_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path))
    assert cache.folder() == tmp_path / "networks"
    monkeypatch.setenv("HOIRT_CACHE", "")
    assert cache.folder() is None
    assert path_for() == ""
    monkeypatch.delenv("HOIRT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "hoirt" / "networks"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "hoirt" / "networks"


def test_every_part_of_the_key_counts(cache_home):
    paths = [
        path_for(),
        path_for("1" * 64),
        path_for(backend="other"),
        path_for(version="2"),
        path_for(precision="bf16"),
        path_for(shapes={"x": (1, 3)}),
        path_for(threads=1),
        path_for(device="another"),
    ]
    assert len(set(paths)) == len(paths)
    assert path_for() == paths[0]
    assert all(Path(path).parent == cache_home / "networks" for path in paths)


def test_clear_deletes_blobs_only(cache_home, net):
    expected = answer(net, path_for())
    (cache_home / "networks" / "folder").mkdir()
    assert cache.clear() == 2
    assert [path.name for path in (cache_home / "networks").iterdir()] == ["folder"]
    assert cache.clear() == 0
    np.testing.assert_array_equal(answer(net, path_for()), expected)


def test_prune_keeps_the_newest(cache_home):
    import os

    blobs = cache_home / "networks"
    blobs.mkdir(parents=True)
    for age, name in enumerate(("new", "old", "older")):
        (blobs / name).write_bytes(bytes(100))
        os.utime(blobs / name, (1000 - age, 1000 - age))
    assert cache.prune(250) == 1
    assert sorted(path.name for path in blobs.iterdir()) == ["new", "old"]


def with_free(monkeypatch, free):
    disk = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=free))


def test_prune_takes_half_of_the_room(cache_home, monkeypatch):
    blobs = cache_home / "networks"
    blobs.mkdir(parents=True)
    for name in range(4):
        (blobs / str(name)).write_bytes(bytes(100))
    with_free(monkeypatch, 400)
    assert cache.usage() == (400, 400)
    assert cache.prune() == 0
    with_free(monkeypatch, 250)  # 650 in all: three blobs fit into 325
    assert cache.prune() == 1
    with_free(monkeypatch, 0)
    assert cache.prune() == 2
    assert len(list(blobs.iterdir())) == 1


def test_full_disk_warns_once(cache_home, monkeypatch):
    with_free(monkeypatch, 1 << 20)
    with pytest.warns(UserWarning, match="1 MiB are free"):
        assert path_for() == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert path_for() == ""


def test_unwritable_folder_warns_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path / "file"))
    cache._usable.cache_clear()
    with pytest.warns(UserWarning, match="HOIRT_CACHE"):
        assert path_for() == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert path_for() == ""
    assert cache.clear() == 0
