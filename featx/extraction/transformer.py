"""FeatureExtractor: images to embeddings as a step of a scikit-learn pipeline."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from featx.backbones.backbone import Backbone, find_backbone
from featx.datasets.dataset import as_dataset
from featx.errors import OptionError
from featx.extraction.api import extract
from featx.runtimes import Runtime


class FeatureExtractor(TransformerMixin, BaseEstimator):
    """Turn images into embeddings with a frozen backbone; what is cached is not computed again.

    It holds names, not weights: it pickles to a few hundred bytes, and cloning it in a grid
    search costs nothing.

    Parameters
    ----------
    backbone : str or Backbone, default="resnet50"
        A name of ``featx.BACKBONES``, or a ``Backbone`` with its options.
    cache : path, optional
        Where embeddings are cached; see ``featx.cache.location.find_cache`` for the default.
    batch_size : int, optional
        Images per batch.
    runtime : str or Runtime, default="auto"
        What computes.
    progress : bool, default=False
        Whether a progress bar is shown while something is computed.

    Attributes
    ----------
    n_features_out_ : int
        The width of an embedding, once something was transformed.

    Examples
    --------
    >>> import featx
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> tiny = featx.Backbone("mobilenet_v2", weights=None, image_size=32)
    >>> extractor = featx.FeatureExtractor(tiny, cache="my-cache")
    >>> model = make_pipeline(extractor, featx.heads.nearest(k=1))
    >>> pixels = np.stack([np.full((40, 40, 3), v, np.uint8) for v in (0, 10, 240, 250)])
    >>> model.fit(pixels, ["dark", "dark", "light", "light"]).predict(pixels[:1])
    array(['dark'], dtype='<U5')
    """

    def __init__(
        self,
        backbone: str | Backbone = "resnet50",
        *,
        cache: str | os.PathLike[str] | None = None,
        batch_size: int | None = None,
        runtime: str | Runtime = "auto",
        progress: bool = False,
    ) -> None:
        self.backbone = backbone
        self.cache = cache
        self.batch_size = batch_size
        self.runtime = runtime
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Check the backbone's name; the network itself is frozen and learns nothing.

        Raises
        ------
        UnknownBackboneError
            No network has that name.
        """
        find_backbone(self.backbone)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the embeddings of the images.

        Parameters
        ----------
        X : sequence of paths or images, or numpy.ndarray of shape (n, height, width, 3)
            Anything that ``featx.extract`` takes.

        Returns
        -------
        numpy.ndarray of shape (n, dim) and dtype float32

        Raises
        ------
        BadImagesError
            An image cannot be used; the embeddings of all others are cached.
        """
        features = extract(
            as_dataset(X, labelled=False),
            self.backbone,
            cache=self.cache,
            batch_size=self.batch_size,
            runtime=self.runtime,
            progress=self.progress,
        )
        self.n_features_out_ = features.X.shape[1]
        return features.X

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns: the backbone's name and a number.

        Returns
        -------
        numpy.ndarray of shape (dim,) and dtype object
        """
        backbone = find_backbone(self.backbone)
        dim = getattr(self, "n_features_out_", None) or backbone.dim
        if dim is None:
            raise OptionError(
                f"the width of {backbone.name} with layer={backbone.layer!r} and pooling="
                f"{backbone.pooling!r} is known after the first transform."
            )
        return np.array([f"{backbone.name}_{i}" for i in range(dim)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags
