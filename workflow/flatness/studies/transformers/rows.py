"""Columns of the transformer study's tables."""

import math
from typing import Self

from flatness.records.tables import Provenance, Row, column
from flatness.studies import words
from flatness.studies.quantity_columns import described

SQUASHED = "outputs through a sigmoid"
ERROR = "summed squared error of the sigmoid of the outputs against the one-hot target"


class TrainedVit(Provenance):
    """One model trained here."""

    model: str = column(words.MODEL)
    family: str = column(words.FAMILY, convention="timm's name of the module that defines it")
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    parameters: int = column("number of parameters")
    images_seen: int = column("training images seen, repeats counted")
    last_train_loss: float = column(
        "mean of the last tenth of the minibatch losses",
        convention="binary cross-entropy summed over classes, train mode",
    )
    diverged: bool = column(words.DIVERGED)
    reason: str = column(words.REASON, convention="why training diverged")


class VitQuantities(Row):
    """Normalized MLS and average-case sharpness, by the released and by the better estimator."""

    images: int = column("images behind MLS and the released estimates, the same for every model")
    normalized_mls: float = described(
        "normalized_mls", symbol="mean ||x||² ||J||₂²", convention=f"{SQUASHED}; by power iteration"
    )
    normalized_mls_se: float = column("standard error of normalized_mls", convention="over images")
    mls: float = described("mls", symbol="MLS", convention=SQUASHED)
    mls_unconverged: int = column(
        "images left out of normalized_mls and mls: the power iteration reached its limit or was "
        "not finite"
    )
    mls_residual: float = column(
        "largest residual of the power iteration, as a share of the eigenvalue"
    )
    mls_iterations: float = column("mean number of power iterations")
    normalized_mls_released: float = column(
        "the same with the released estimate of MLS: change per finite step, by Adam",
        convention=SQUASHED,
    )
    normalized_mls_released_se: float = column("its standard error over images")
    tightness: float = column("median over images of released MLS over exact MLS")
    average_case_sharpness: float = described(
        "average_case_sharpness", symbol="E[L(w+δ) − L(w)]/ρ²", convention=f"{ERROR}; by pairs ±δ"
    )
    average_case_sharpness_se: float = column(
        "standard error of average_case_sharpness", convention="over rounds of images and pairs"
    )
    pairs: int = column("pairs ±δ of perturbations behind the average-case sharpness")
    pair_images: int = column("images behind it, repeats counted")
    average_case_sharpness_released: float = column(
        "the same from single perturbations, new ones for each image", convention=ERROR
    )
    average_case_sharpness_released_se: float = column("its standard error over images")
    perturbations_released: int = column("perturbations behind it, over all images")
    reliable: bool = column(
        "whether the relative standard errors of normalized_mls and average_case_sharpness, and "
        "the share of images left out of normalized_mls, are below the limit"
    )
    reliable_released: bool = column("the same for the released estimates")

    @classmethod
    def missing(cls) -> Self:
        """The columns of a model that could not be measured."""
        return cls(
            **{
                name: math.nan if field.annotation is float else 0
                for name, field in cls.model_fields.items()
            }
        )


class MeasuredVit(VitQuantities, Provenance):
    """Both quantities of one model, by both estimators, beside its test loss."""

    model: str = column("name of the model")
    family: str = column("family of models", convention="timm's name of the module that defines it")
    dataset: str = column("name of the data set", convention="imagenet for pretrained models")
    demo: bool = column("whether the data are a stand-in made for the demo")
    pretrained: bool = column("whether the weights are published ones, not trained here")
    parameters: int = column("number of parameters")
    input_size: int = column("width and height of the input", unit="pixels")
    test_loss: float = column("loss over the test set", convention="cross-entropy of the softmax")
    test_accuracy: float = column("share of the test samples classified right")
    evaluated: int = column("test images behind loss and accuracy")
    untrained: bool = column("whether the test accuracy is below the configured limit")
    reason: str = column("why there is no value, or why it is not used; empty otherwise")


class PlacedVit(Row):
    """One model in the plane of figure 4, under one pair of estimators."""

    estimator: str = column(words.ESTIMATOR)
    model: str = column(words.MODEL)
    family: str = column(words.FAMILY, convention="timm's name of the module that defines it")
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    pretrained: bool = column("whether the weights are published ones, not trained here")
    normalized_mls: float = described("normalized_mls", convention=SQUASHED)
    normalized_mls_se: float = column("standard error of normalized_mls")
    average_case_sharpness: float = described("average_case_sharpness", convention=ERROR)
    average_case_sharpness_se: float = column("standard error of average_case_sharpness")
    test_loss: float = column(words.TEST_LOSS, convention="cross-entropy of the softmax")
    used: bool = column(words.USED)
    reason: str = column(words.REASON, convention="why it is not used")
    score: float = column(
        "distance above (+) or below (−) the robust line of log sharpness on log normalized MLS, "
        "in robust standard deviations; nan where not used"
    )
    outlier: bool = column("whether the score is beyond ±3.5")
    corner: str = column("outliers: upper left (sharper than its MLS tells) or lower right")
    cluster: bool = column("whether an outlier has another of its family in the same corner")


#: Groups that tell whether a correlation lies between families or inside them.
BETWEEN, WITHIN = "family means", "within families"


class VitCorrelation(Provenance):
    """One correlation over all models, one family, the means of families, or inside families."""

    estimator: str = column(words.ESTIMATOR)
    x: str = column(words.X)
    y: str = column(words.Y)
    group: str = column(
        f"all; a family; {BETWEEN}: over the families' geometric means; {WITHIN}: the mean of the "
        "families' coefficients"
    )
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    method: str = column(words.METHOD)
    estimate: float = column(
        words.ESTIMATE, convention="the coefficient, or the mean score; nan below 3 models"
    )
    low: float = column(
        words.LOW,
        convention="over all models jackknife-t over families on Fisher's z; within a family over "
        "its models; over family means jackknife-t over them; of a mean score t over models, of a "
        "mean coefficient over families",
    )
    high: float = column(words.HIGH)
    confidence: float = column(words.CONFIDENCE)
    p_value: float = column(words.P_VALUE)
    p_permutation: float = column(
        words.P_PERMUTATION,
        convention="over all models they change places within families; nan of a mean",
    )
    n: int = column(words.N, convention="models; families between and within families")
    excluded: int = column(
        words.EXCLUDED,
        convention="models of the group; the models table says why; within families, those of "
        "fewer than 3 models",
    )
