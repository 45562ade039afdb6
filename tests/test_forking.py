"""Processes made by fork, and threads: equal answers, or a sentence, and nothing hangs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featx
from featx import forking
from tests.forks import answers_of, needs_fork

pytestmark = needs_fork

SENTENCE = "RuntimeUnavailableError: this process was made by fork after its parent had started "


def test_here_nothing_was_inherited() -> None:
    assert forking.refusal() is None


def test_a_lock_that_another_thread_held_is_free_in_the_child(tmp_path: Path) -> None:
    told = answers_of(
        """
        import threading
        from featx import forking
        ours, plain = forking.lock(), threading.Lock()
        taken, done = threading.Event(), threading.Event()
        def hold():
            with ours, plain:
                taken.set()
                done.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        taken.wait()
        told = {
            "ours": forked(lambda: ours.acquire(timeout=5)),
            "plain": forked(lambda: plain.acquire(timeout=0.1)),
            "here": ours.locked(),
        }
        done.set()
        """,
        tmp_path,
        images=False,
    )
    assert told == {"ours": True, "plain": False, "here": True}


def test_what_is_left_alone_is_destroyed_where_it_was_made_and_nowhere_else(tmp_path: Path) -> None:
    told = answers_of(
        """
        from featx import forking
        class Thing:
            def __del__(self):
                with open(os.path.join(sys.argv[1], "destroyed"), "a") as file:
                    file.write(f"{self.name} {os.getpid() == parent} ")
        parent = os.getpid()
        alone, other = Thing(), Thing()
        alone.name, other.name = "alone", "other"
        forking.leave_alone(alone)
        def drop():
            global alone, other
            del alone, other
            return "dropped"
        def inner():
            return forked(drop, to_its_end=True)
        told = {"child": inner(), "of it": forked(inner, to_its_end=True)}
        del alone, other
        """,
        tmp_path,
        images=False,
    )
    assert told == {"child": "dropped", "of it": "dropped"}
    found = (tmp_path / "destroyed").read_text()
    assert (found.count("alone True"), found.count("alone False")) == (1, 0)
    assert found.count("other True") == 1
    assert found.count("other False") >= 2


@pytest.mark.parametrize(
    ("module", "state", "name"),
    [
        ("tensorflow.python.eager.context", "{'_context': S(_initialized=True)}", "TensorFlow"),
        ("tensorflow.python.eager.context", "{'_context': S(_initialized=False)}", None),
        ("tensorflow.python.eager.context", "{'_context': None}", None),
        ("jax._src.xla_bridge", "{'_backends': {'cpu': 1}}", "JAX"),
        ("jax._src.xla_bridge", "{'_backends': {}}", None),
        ("torch.cuda", "{'is_initialized': lambda: True}", "PyTorch on a GPU"),
        ("torch.cuda", "{'is_initialized': lambda: False}", None),
        ("json", "{}", None),
    ],
)
def test_the_child_of_a_process_whose_backend_runs_is_told_so(
    module: str, state: str, name: str | None, tmp_path: Path
) -> None:
    told = answers_of(
        f"""
        import featx, types
        from types import SimpleNamespace as S
        made = sys.modules.get({module!r}) or types.ModuleType({module!r})
        vars(made).update({state})
        sys.modules[{module!r}] = made
        sys.modules["keras"] = types.ModuleType("keras")
        def load():
            from featx.backend import load_keras
            return load_keras().__name__
        told = {{
            "here": load(), "child": forked(load), "of it": forked(lambda: forked(load)),
        }}
        """,
        tmp_path,
        images=False,
    )
    assert told["here"] == "keras"
    if name is None:
        assert told["child"] == told["of it"] == "keras"
    else:
        assert told["child"] == told["of it"]
        assert told["child"].startswith(f"{SENTENCE}{name}, whose threads")
        assert "get_context('spawn')" in told["child"]


def test_openvino_computes_in_a_child_what_it_computes_in_its_parent(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    told = answers_of(
        """
        import gc, io, joblib, multiprocessing
        from PIL import Image
        from featx import runtimes
        from featx.serving.answers import Answers

        model, cached = fitted(), FOLDER / "cache"
        images, others = new(), new()  # drawn here: each child would draw the same ones
        def again():
            runtimes.forget()
            gc.collect()
            return computed(images, "again")
        def in_pool(pool):
            return [len(each) for each in pool.map(model.predict, [new(), new()])]
        class Own(featx.Runtime):
            "What a user wraps, and holds, is of the parent, too."
            def __init__(self):
                self.inner = runtimes.start(TINY, 4)
                self.name, self.batch_size = "own", 4
            def run(self, pixels):
                return self.inner.run(pixels)
        own, served = Own(), Answers(model)
        file = io.BytesIO()
        Image.fromarray(new(1)[0]).save(file, "PNG")
        png = file.getvalue()
        tasks = (joblib.delayed(model.predict)(new()) for _ in range(3))
        told = {
            "nothing": forked(lambda: "nothing", to_its_end=True),
            "child": forked(lambda: computed(images, "child")),
            "of a child": forked(lambda: [computed(images, "one"),
                                          forked(lambda: computed(images, "two"))]),
            "forgotten": forked(again, to_its_end=True),
            "own": forked(lambda: computed(images, "own", own)),
            "classes": forked(lambda: model.predict(new())),
            "other network": forked(lambda: computed(
                new(), "cache", backbone=featx.Backbone("mobilenet", weights=None, image_size=32)
            )),
            "keras": forked(lambda: computed(others, "cache", "keras")),
            "served": forked(lambda: served.answer(png)["top"]),
            "explained": forked(lambda: served.answer(png, True)["note"]),
            "pool": in_pool(multiprocessing.get_context("fork").Pool(2)),
            "joblib": [len(x) for x in joblib.Parallel(2, backend="multiprocessing")(tasks)],
            "here": computed(images, "here"), "served here": served.answer(png)["top"],
        }
        """,
        tmp_path,
    )
    assert told["nothing"] == "nothing"
    here = np.array(told["here"])
    for child in ("child", "forgotten", "own"):
        np.testing.assert_array_equal(told[child], here, child)
    one, two = told["of a child"]
    np.testing.assert_array_equal(one, here)
    np.testing.assert_array_equal(two, here)
    assert set(told["classes"]) <= {"cat", "dog"}
    for refused in ("other network", "keras"):
        assert told[refused].startswith(f"{SENTENCE}TensorFlow"), told[refused]
    assert told["served"] == told["served here"]
    assert told["explained"].startswith("No activation map: this process was made by fork")
    assert (told["pool"], told["joblib"]) == ([3, 3], [3, 3, 3])


def test_keras_in_a_child_says_why_it_cannot(tmp_path: Path) -> None:
    told = answers_of(
        """
        import tensorflow as tf
        model = fitted(runtime="keras")
        tuned = featx.FineTuned(TINY, featx.Recipe(epochs=1), progress=False).fit(SEEN, LABELS)
        stream = tf.data.Dataset.from_tensor_slices(np.stack(new())).batch(2)
        told = {
            "nothing": forked(lambda: "nothing", to_its_end=True),
            "cached": forked(lambda: model.predict(SEEN)),
            "new": forked(lambda: model.predict(new())),
            "fit": forked(lambda: fitted("dense")),
            "tuned": forked(lambda: tuned.predict(new())),
            "stream": forked(lambda: model.predict(stream)),
            "here": model.predict(SEEN),
        }
        """,
        tmp_path,
    )
    assert told["nothing"] == "nothing"
    assert told["cached"] == told["here"]
    for what in ("new", "fit", "tuned", "stream"):
        assert told[what].startswith(f"{SENTENCE}TensorFlow"), (what, told[what])


def test_keras_that_was_imported_alone_computes_in_a_child(tmp_path: Path) -> None:
    told = answers_of(
        """
        import keras
        told = {"child": forked(lambda: computed(SEEN, "child", "keras"))}
        told["here"] = computed(SEEN, "here", "keras")
        """,
        tmp_path,
    )
    np.testing.assert_allclose(told["child"], told["here"], rtol=1e-5, atol=1e-6)


def test_every_head_answers_in_a_child_or_says_why_it_cannot(tmp_path: Path) -> None:
    told = answers_of(
        """
        from featx import heads
        drawn = np.random.default_rng(0)
        y = drawn.integers(0, 3, 150)
        X = drawn.normal(size=(150, 12)).astype(np.float32) + 4 * np.eye(12)[y]
        told = {}
        for name in featx.HEADS:
            head = heads.find(name).fit(X, y)
            told[name] = [head.predict_proba(X), forked(lambda: head.predict_proba(X))]
        # Enough threads and numbers that OpenMP computes in its own.
        large = drawn.normal(size=(3000, 400)).astype(np.float32)
        head = heads.xgboost(n_estimators=3, n_jobs=2).fit(large, large[:, 0] > 0)
        expected = head.predict_proba(large)
        told["threads"] = [expected[:9], forked(lambda: head.predict_proba(large)[:9])]
        again = forked(lambda: head.fit(large, large[:, 0] > 0).predict_proba(large)[:9])
        told["threads, fitted"] = [expected[:9], again]
        """,
        tmp_path,
    )
    here, child = told.pop("dense")
    assert child.startswith(f"{SENTENCE}TensorFlow")
    assert set(told) == {*featx.HEADS, "threads", "threads, fitted"} - {"dense"}
    for name, (here, child) in told.items():
        np.testing.assert_allclose(child, here, 1e-6, 1e-7, err_msg=name)


def test_children_forked_while_threads_predict(tmp_path: Path) -> None:
    told = answers_of(
        """
        import threading
        model = fitted()
        over, counts = threading.Event(), []
        def predict(seed):
            drawn = np.random.default_rng(seed)
            while not over.is_set():
                images = drawn.integers(0, 255, (3, 40, 40, 3)).astype(np.uint8)
                counts.append(len(model.predict(list(images))))
        threads = [threading.Thread(target=predict, args=(seed,)) for seed in (1, 2, 3)]
        for thread in threads:
            thread.start()
        told = {"children": [forked(lambda: len(model.predict(new()))) for _ in range(12)]}
        over.set()
        for thread in threads:
            thread.join()
        told["threads"] = sorted(set(counts))
        """,
        tmp_path,
    )
    assert told == {"children": [3] * 12, "threads": [3]}


@pytest.mark.parametrize(
    ("runtime", "heads"),
    [("auto", "logistic xgboost"), ("keras", "dense")],
)
def test_eight_threads_and_two_models_give_the_answers_of_one_thread(
    runtime: str, heads: str, tmp_path: Path
) -> None:
    told: dict[str, Any] = answers_of(
        f"""
        from concurrent.futures import ThreadPoolExecutor
        told = {{}}
        for head in {heads.split()}:
            models = []
            for name in ("mobilenet_v2", "mobilenet"):
                backbone = featx.Backbone(name, weights=None, image_size=32)
                model = featx.ImageClassifier(
                    backbone, head, cache=FOLDER / "cache", runtime={runtime!r}
                )
                models.append(model.fit(SEEN, LABELS))
            images = [new(5) for _ in range(8)]
            def answer(number):
                return models[number % 2].predict_proba(images[number // 2])
            with ThreadPoolExecutor(8) as pool:
                together = list(pool.map(answer, range(16)))
            for model in models:
                model.cache = FOLDER / f"alone {{head}}"
            # One model after the other: each change would start another network.
            alone = {{number: answer(number) for model in (0, 1) for number in range(model, 16, 2)}}
            alone = [alone[number] for number in range(16)]
            told[head] = max(np.abs(a - b).max() for a, b in zip(together, alone))
        """,
        tmp_path,
    )
    assert set(told) == set(heads.split())
    assert max(told.values()) < 1e-6
