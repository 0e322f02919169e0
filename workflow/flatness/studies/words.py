"""Descriptions of the columns that several tables have: a name means one thing.

Nothing else stands here, so that other words are no other code. What measures networks of Chen et
al. and transformers reads descriptions, though, and counts their words: its tables spell them out.
"""

FAMILY = "family of models"
SETTING = "grid setting, as in the config; empty for pools, which have one"
DATASET = "name of the data set"
DEMO = "whether the data are a stand-in made for the demo"
TRAIN_SIZE = "training images"
SEED = "seed of the model: of initial weights and data order"
TRAIN_LOSS = "loss over the training set"
TEST_LOSS = "loss over the test set"
TEST_ACCURACY = "share of the test samples classified right"
DIVERGED = "whether the loss or a weight stopped being finite"
REASON = "why there is no value, or why it is not used; empty otherwise"
SAMPLED = "images measured: train, test, or misclassified (test images)"
STEPS = "steps of the longest of the trainings up to where they are compared"
OVER = (
    "what it is taken over: models, settings (within each seed, then averaged over seeds), seeds "
    "(within each setting, then averaged over settings), checkpoints (within each run, then "
    "averaged over the runs of each seed, then over seeds), or run (one run alone)"
)
AT = (
    "where models are compared: end of training (equal steps), or at a training loss, to which "
    "each model's checkpoints are interpolated; over checkpoints: along training"
)
X = "one quantity of a pair"
Y = "which quantity; of a pair the other one"
METHOD = (
    "kendall, pearson, spearman, pearson of logarithms, or mean score: the mean of a family's "
    "scores, positive towards the upper left"
)
ESTIMATE = (
    "what was found: a coefficient, a difference, a change or a count; nan where there is none"
)
LOW = "lower end of the estimate's interval"
HIGH = "upper end"
CONFIDENCE = "level of the intervals"
P_VALUE = "two-sided p-value that belongs to the interval; nan where there is none"
P_PERMUTATION = "two-sided permutation p-value"
N = "how many are behind the row"
INTERPOLATING = "how many models or runs interpolate"
EXCLUDED = "how many were left out"
REASONS = "why some were left out, or why there is no estimate; empty for none"
FACTOR = (
    "what varies between the runs: learning_rate or batch_size, the other held fixed; or setting"
)
POOL = "fcnn, lenet5 or gat"
SPLIT = "train/test split learned; 0 is that of the report"
WORST_CASE_SHARPNESS = (
    "adaptive worst-case sharpness: mean over restarts of the highest loss reached less that at "
    "the centre; can be negative"
)
WORST_CASE_SHARPNESS_SE = "standard error of worst_case_sharpness"
TRAINED = "training protocol"
MEASURED = "measuring protocol"
USED = "whether the model enters figure and correlations"
MEASURE = "name of the measure"
TAU = "Kendall's τ-b of worst_case_sharpness and test_loss"
RELIABILITY = (
    "share of the variance of sharpness between models that is not that of their restarts' means;"
    " nan where there is one run"
)
TAU_CORRECTED = (
    "τ without the noise of restarts, approximately: sin(πτ/2) over √reliability, at most 1, "
    "turned back into a τ"
)
PUBLISHED_TAU = "the report's τ for this pool"
COMPARED = "what is compared"
REPLICATION = "which replication; 0 is the main pool"
MODELS = "family or pool of models, as in the config"
VALUE = "its value; nan where there is none"
STANDARD_ERROR = "its standard error; nan where there is none"
STUDY = "whose models: chen or epfl"
MODEL = "name of the model"
ESTIMATOR = "exact (power iteration, pairs ±δ) or released"
