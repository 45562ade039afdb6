"""Classifiers that are not featx's own, by skops and a fixed list of trusted types."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from featx.classifier.file.arrays import array_of
from featx.classifier.file.head_state import Shape
from featx.classifier.file.names import ESTIMATORS, STEERING
from featx.errors import ModelFileError, ModelFormatError, ModelTrustError
from featx.storage import strict_json

# A fixed list, in place of skops's own, which knows every estimator of scikit-learn: support
# vector machines, trees and neighbours hand stored numbers to compiled code that takes them for
# positions in memory. All of these compute by NumPy, which looks. The list never grows by what a
# file asks for.
TRUSTED = (
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.decomposition._pca.PCA",
    "sklearn.decomposition._truncated_svd.TruncatedSVD",
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
    "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.linear_model._ridge.RidgeClassifier",
    "sklearn.linear_model._ridge.RidgeClassifierCV",
    "sklearn.naive_bayes.BernoulliNB",
    "sklearn.naive_bayes.ComplementNB",
    "sklearn.naive_bayes.GaussianNB",
    "sklearn.naive_bayes.MultinomialNB",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.MaxAbsScaler",
    "sklearn.preprocessing._data.MinMaxScaler",
    "sklearn.preprocessing._data.Normalizer",
    "sklearn.preprocessing._data.RobustScaler",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._label.LabelBinarizer",
    "sklearn.svm._classes.LinearSVC",
)
_SCALARS = ("bool", "float32", "float64", "int32", "int64", "str_")
# What else may stand in a file, by the part of skops that reads it.
_PARTS = {
    "DictNode": {"builtins.dict"},
    "ListNode": {"builtins.list"},
    "TupleNode": {"builtins.tuple"},
    "NdArrayNode": {"numpy.ndarray", *(f"numpy.{name}" for name in _SCALARS)},
    "TypeNode": {
        *(f"builtins.{name}" for name in ("bool", "float", "int", "str")),
        *(f"numpy.{name}" for name in _SCALARS),
    },
    "ObjectNode": {*TRUSTED, *(f"featx.{name}" for name in ESTIMATORS)},
}
_SCHEMA = "schema.json"
_GROUPS = ("DictNode", "ListNode", "TupleNode", "ObjectNode")
_MAX_SCALAR = 1000
_MOST_REPEATS = 30


def write(head: Any) -> bytes:
    """Return a fitted classifier in skops's format.

    Raises
    ------
    ModelTrustError
        It holds what `read` would refuse.
    ModelFileError
        skops is not installed.
    """
    skops = _skops(f"{type(head).__name__} is saved")
    try:
        content = _with_names(skops.io.dumps(head))
        odd = odd_types(content)
    except Exception as error:  # types that skops cannot write, arrays of objects
        odd = [str(error)]
    if odd:
        raise ModelTrustError(
            f"{type(head).__name__} cannot be saved: {', '.join(odd):.600} could not be loaded "
            "again without trusting whoever made the file. Take one of featx's heads or a linear "
            "classifier of scikit-learn, or write it with joblib.dump and read it with "
            "featx.load_unsafe_pickle where you made it yourself."
        )
    return content


def read(name: str, content: bytes, shape: Shape) -> Any:
    """Return the classifier of skops bytes, if all of its types are trusted ones.

    Raises
    ------
    ModelTrustError
        It holds other types.
    ModelFormatError
        It is damaged, holds more than its bytes, or is for other classes or embeddings.
    ModelFileError
        skops is not installed.
    """
    skops = _skops(f"the head of {name} is read")
    try:
        odd = odd_types(content)
    except Exception as error:  # a made-up file may lack anything
        raise ModelFormatError(f"{name}: its head is not a whole skops file: {error}.") from error
    if odd:
        raise ModelTrustError(
            f"{name} holds {', '.join(odd[:5]):.300}, which featx does not trust: it could run "
            "code, or crash Python. Nothing of it was run. There is no option to trust it; ask for "
            "one of featx's heads."
        )
    try:
        trusted = [*TRUSTED, *(".".join(_path(kind)) for kind in ESTIMATORS.values())]
        head = skops.io.loads(_with_paths(content), trusted=trusted)
        _leave_to_the_machine(head)
        fits = list(head.classes_) == list(shape.classes) and head.n_features_in_ == shape.dim
    except Exception as error:
        raise ModelFormatError(f"{name}: its head is damaged: {error}.") from error
    if not fits:
        raise ModelFormatError(f"{name}: its head is for other classes or embeddings.")
    return head


def _leave_to_the_machine(head: Any) -> None:
    """Give the parameters that steer the machine, of all parts of a head, their defaults."""
    found = head.get_params(deep=True)
    names = [name for name in found if name.rpartition("__")[2] in STEERING]
    head.set_params(**{name: 0 if name.endswith("verbose") else None for name in names})


def _path(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__


def _with_names(content: bytes) -> bytes:
    """Return skops bytes that name featx's own classes as the table does, wherever they live."""
    return _renamed(content, {_path(kind): ("featx", name) for name, kind in ESTIMATORS.items()})


def _with_paths(content: bytes) -> bytes:
    """Return skops bytes with the present paths of featx's own classes, for skops to import."""
    return _renamed(content, {("featx", name): _path(kind) for name, kind in ESTIMATORS.items()})


def _renamed(content: bytes, paths: dict[tuple[str, str], tuple[str, str]]) -> bytes:
    """Return skops bytes whose schema has (module, class) pairs replaced."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = strict_json.loads(members[_SCHEMA])
    for node in _nodes(schema):
        path = node.get("__module__"), node.get("__class__")
        if path in paths:
            node["__module__"], node["__class__"] = paths[path]
    members[_SCHEMA] = json.dumps(schema, allow_nan=False).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return buffer.getvalue()


def odd_types(content: bytes) -> list[str]:
    """Return the types in a skops file that are not trusted, sorted; nothing of it is made.

    Raises
    ------
    Exception
        Of many kinds: it is not such a file, or is made to unfold to more than it holds.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > len(content):
            raise ValueError("it unpacks to more than its size")
        if len({info.filename for info in infos}) < len(infos):
            raise ValueError("two members of one name")
        schema = strict_json.loads(archive.read(_SCHEMA))
        members = {name: archive.read(name) for name in archive.namelist() if name != _SCHEMA}
    nodes = list(_nodes(schema))
    odd = set()
    for node in nodes:
        loader, kind = node["__loader__"], f"{node['__module__']}.{node['__class__']}"
        if loader == "JsonNode":
            # Not strict: a parameter may be infinite, as C of LogisticRegression without a penalty.
            value = json.loads(node["content"])
            if len(node["content"]) > _MAX_SCALAR or isinstance(value, dict | list):
                raise ValueError("a value in it is not a number or a short text")
        elif kind not in _PARTS.get(loader, ()):
            odd.add(kind)
        elif loader == "NdArrayNode" and node["type"] != "numpy":
            odd.add("an array of objects")
    if not odd:
        sizes = {name: len(member) for name, member in members.items()}
        _check_repeats(nodes, sizes, len(content))
        for name, member in members.items():
            array_of(member, name, kinds="fiubU")
    return sorted(odd)


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every part of a schema, however deep, without recursion."""
    waiting = [schema]
    if not isinstance(schema, dict) or "__loader__" not in schema:
        raise ValueError("it has no skops schema")
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            # What has a number alone stands for the part that has it, too.
            if "__loader__" in one or "__id__" in one:
                yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _check_repeats(nodes: list[dict[str, Any]], sizes: dict[str, int], length: int) -> None:
    """Refuse parts that stand for one another: lists in lists would unfold without end."""
    known: dict[Any, tuple[Any, ...]] = {}
    unfolded = 0
    for node in nodes:
        loader, file = node["__loader__"], node.get("file")
        same = known.setdefault(node.get("__id__") or object(), (id(node), loader, file))
        if same[1:] != (loader, file) or (loader in _GROUPS and same[0] != id(node)):
            raise ValueError("a part of it refers to another")
        if loader == "NdArrayNode" and file is not None:
            unfolded += sizes[file]
    if unfolded > _MOST_REPEATS * length:
        raise ValueError("its arrays unfold to far more than its size")


def _skops(what: str) -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise ModelFileError(
            f"{what} by skops, which is not installed: pip install 'featx[export]'."
        ) from error
    return skops
