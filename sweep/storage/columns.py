"""Every column of every table, with its meaning and unit.

Columns are only ever added, always nullable. A change of meaning needs a new `SCHEMA_VERSION` (in `storage/tables.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa


class Column(NamedTuple):
    """A column; `unit` is empty for names, counts and texts."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""


_STRING = pa.string()
_INT = pa.int32()
_LONG = pa.int64()
_FLOAT = pa.float64()
_FLAG = pa.bool_()
_TIME = pa.timestamp("us")  # UTC without a zone, so that readers need no time zone database

_ORIGIN = (
    Column("sweep", _STRING, "name of the sweep"),
    Column("population", _STRING, "name of the population"),
    Column("pool_id", _STRING, "content hash of the pool"),
    Column("pool", _INT, "position of the pool in its population, from 0; the unit of replication"),
    Column("architecture", _STRING, "name of the architecture"),
    Column("dataset", _STRING, "name of the data set"),
    Column("start", _STRING, "initial weights of the members: shared, scratch or pretrained"),
)
_STAMP = (
    Column("created_at", _TIME, "time of writing, UTC"),
    Column("code_version", _STRING, "version of the code that wrote the row, with the commit if known"),
)
_OUTCOME = (
    Column("status", _STRING, "ok, failed (see error) or non_finite (weights or outputs overflowed)"),
    Column("error", _STRING, "cause of a status other than ok"),
)

_MEMBERS = (
    Column("member_id", _STRING, "content hash of all settings and data that determine the weights"),
    Column("role", _STRING, "member, or start (the shared start of a pool)"),
    *_ORIGIN,
    Column("member_index", _INT, "position in the pool, from 0; -1 for a start"),
    Column("start_id", _STRING, "member_id of the shared start; null from scratch"),
    Column("architecture_settings", _STRING, "settings of the architecture, JSON"),
    Column("dataset_settings", _STRING, "settings of the data set, JSON"),
    Column("training", _STRING, "settings of the training, JSON"),
    Column("init_seed", _LONG, "seed of the initial weights"),
    Column("order_seed", _LONG, "seed of data order, augmentation and dropout"),
    Column("architecture_kind", _STRING, "transformer, hybrid, cnn, mlp, linear or other; null if unknown"),
    Column("n_parameters", _LONG, "number of trainable parameters; tied parameters count once"),
    Column("forward_flops", _LONG, "floating-point operations of a forward pass of one example"),
    Column("weights_file", _STRING, "path of the weights file, relative to the run folder"),
    Column("weights_sha256", _STRING, "sha256 of the weights file"),
    Column("weights_bytes", _LONG, "size of the weights file", "B"),
    Column("kept_epoch", _INT, "epoch of the kept weights, from 1; 0 for a pretrained start"),
    Column("validation_accuracy", _FLOAT, "accuracy of the kept weights on the validation split", "fraction"),
    Column("validation_cross_entropy", _FLOAT, "cross-entropy of the kept weights on the validation split", "nats"),
    Column("train_seconds", _FLOAT, "wall time of the training; an equal share for members trained together", "s"),
    Column("device", _STRING, "device of the training: cpu or the name of the accelerator"),
    *_OUTCOME,
    *_STAMP,
)
_CURVES = (
    Column("member_id", _STRING, "the member or start"),
    Column("role", _STRING, "member or start"),
    *_ORIGIN,
    Column("member_index", _INT, "position in the pool, from 0; -1 for a start"),
    Column("epoch", _INT, "epochs trained, from 1"),
    Column("learning_rate", _FLOAT, "learning rate at the last step of the epoch"),
    Column("train_loss", _FLOAT, "mean training loss over the epoch (smoothed, mixed and augmented as set)", "nats"),
    Column("validation_accuracy", _FLOAT, "accuracy on the validation split", "fraction"),
    Column("validation_cross_entropy", _FLOAT, "cross-entropy on the validation split", "nats"),
    Column(
        "seconds", _FLOAT, "wall time since the start of the training; an equal share for members trained together", "s"
    ),
    *_STAMP,
)
_CANDIDATES = (
    Column("candidate_id", _STRING, "content hash of subset, alignment, method, scaling, repair, data set, protocol"),
    Column("block_id", _STRING, "block of candidates that the row was computed in"),
    *_ORIGIN,
    Column("space", _STRING, "what is averaged: weights, features or logits"),
    Column("method", _STRING, "name of the method"),
    Column("settings", _STRING, "settings of the method, JSON"),
    Column("members", pa.list_(_STRING), "member_id of each member, in the order of the pool"),
    Column("member_indices", pa.list_(_INT), "their positions in the pool, from 0"),
    Column("n_members", _INT, "number of merged members"),
    Column("alignment", _STRING, "name of the alignment; none without one"),
    Column("alignment_settings", _STRING, "settings of the alignment, JSON"),
    Column("scaling", _STRING, "name of the scaling; none without one"),
    Column("scaling_settings", _STRING, "settings of the scaling, JSON"),
    Column("scaling_factor", _FLOAT, "factor on the tensors of scaled members; 1 without a scaling"),
    Column("scaling_members", _STRING, "which members are scaled (all, first, ...); all without a scaling"),
    Column("repair", _STRING, "name of the repair; none without one"),
    Column("repair_settings", _STRING, "settings of the repair, JSON"),
    Column("split", _STRING, "evaluated split: test or validation"),
    Column("n_examples", _INT, "examples in the split"),
    Column("accuracy", _FLOAT, "share of correctly classified examples", "fraction"),
    Column("cross_entropy", _FLOAT, "mean negative log-likelihood of the true class", "nats"),
    Column(
        "brier", _FLOAT, "Brier score: mean over examples of the squared distance of probabilities and one-hot class"
    ),
    Column("ece", _FLOAT, "expected calibration error, 15 bins of equal width", "fraction"),
    Column("ece_mass", _FLOAT, "expected calibration error, 15 bins of equal mass; `ece` before version 2", "fraction"),
    Column("other_metrics", _STRING, "other metrics, JSON"),
    Column("finite", _FLAG, "whether every output is finite"),
    *_OUTCOME,
    Column("forward_passes", _LONG, "examples of all forward passes for this row; 0 if cached outputs were used"),
    Column(
        "merge_seconds",
        _FLOAT,
        "wall time of the merge, with the alignment if it was computed for this row",
        "s",
    ),
    Column("evaluate_seconds", _FLOAT, "wall time of the evaluation", "s"),
    Column("device", _STRING, "device of the evaluation: cpu or the name of the accelerator"),
    Column("protocol", _STRING, "evaluation protocol: correct, or the names of its switches, joined by +"),
    Column("dataset_settings", _STRING, "settings of the data set of this pool, JSON; null in earlier rows"),
    Column("chosen", pa.list_(_STRING), "members that a search chose, by member_id; null for other methods"),
    Column(
        "coefficients", pa.list_(_FLOAT), "coefficients of the chosen members in the merge, in the order of `chosen`"
    ),
    *_STAMP,
)
_PAIRS = (
    *_ORIGIN,
    Column("member_a", _STRING, "member_id of the earlier member of the pool"),
    Column("member_b", _STRING, "member_id of the later member"),
    Column("index_a", _INT, "position of member_a in the pool, from 0"),
    Column("index_b", _INT, "position of member_b in the pool, from 0"),
    Column("l2_distance", _FLOAT, "Euclidean distance between the trainable parameters"),
    Column("cosine", _FLOAT, "cosine of the trainable parameters"),
    Column("task_cosine", _FLOAT, "signed cosine of the task vectors (member minus shared start); null from scratch"),
    Column("task_pearson", _FLOAT, "Pearson correlation of the entries of the task vectors; null from scratch"),
    Column("sign_agreement", _FLOAT, "share of equal signs among task entries that both moved", "fraction"),
    Column("both_moved", _FLOAT, "share of the parameters in which both task vectors are not zero", "fraction"),
    Column("cka", _FLOAT, "debiased linear CKA of features on up to 1,000 validation examples; null without features"),
    *_STAMP,
)
_PREDICTIONS = (
    Column("candidate_id", _STRING, "the candidate"),
    Column("block_id", _STRING, "block of candidates that the row was computed in"),
    Column("split", _STRING, "split; its order of examples is fixed"),
    Column("n_examples", _INT, "examples in the split"),
    Column("correct", pa.binary(), "one bit per example, 1 = correct, packed big-endian as by numpy.packbits"),
    Column("classes", pa.binary(), "predicted class per example, uint8 (uint16 little-endian above 256 classes)"),
    Column("labels", pa.binary(), "true class per example, as `classes`; null unless execution.probabilities is set"),
    Column(
        "log_probabilities",
        pa.binary(),
        "float16 little-endian, (examples, classes) row by row; null unless execution.probabilities is set",
        "nats",
    ),
)
_MODEL = (
    Column("model_id", _STRING, "member_id of a member, or candidate_id of a merge"),
    Column("kind", _STRING, "member or merge"),
    *_ORIGIN,
    Column("method", _STRING, "name of the method; single for a member"),
    Column("settings", _STRING, "settings of the method, JSON"),
    Column("alignment", _STRING, "name of the alignment; none without one"),
    Column("alignment_settings", _STRING, "settings of the alignment, JSON"),
    Column("repair", _STRING, "name of the repair; none without one"),
    Column("repair_settings", _STRING, "settings of the repair, JSON"),
    Column("members", pa.list_(_STRING), "member_id of each member, in the order of the pool"),
    Column("member_indices", pa.list_(_INT), "their positions in the pool, from 0"),
    Column("n_members", _INT, "number of members merged; 1 for a member"),
)
# Models with images are the first member of the first pool and merges from it on; images of others would look the same.
_LAYERS = (
    *_MODEL,
    Column("tensor", _STRING, "name of the tensor"),
    Column("role", _STRING, "weight, bias, norm weight or norm bias"),
    Column("depth", _INT, "position among the tensors of the network, from 0"),
    Column("n_elements", _LONG, "number of entries"),
    Column("mean", _FLOAT, "mean of the entries"),
    Column("std", _FLOAT, "standard deviation of the entries"),
    Column("skewness", _FLOAT, "third standardised moment"),
    Column("kurtosis", _FLOAT, "fourth standardised moment minus 3: 0 for a Gaussian"),
    Column("qq_correlation", _FLOAT, "correlation of sorted entries with the quantiles of a Gaussian"),
    Column("norm", _FLOAT, "Euclidean norm"),
    Column(
        "member_correlation", _FLOAT, "mean correlation of the entries of two members over all pairs; null for a member"
    ),
    Column("shape", _STRING, "lengths of the axes, joined by x"),
    Column(
        "histogram",
        pa.binary(),
        "shares of the entries in 80 bins of a tenth of `std`, from 4 below the mean to 4 above, the outer bins "
        "with all values beyond; float32 little-endian; only of models with images",
    ),
    Column(
        "filters",
        pa.binary(),
        "the first 32 filters of the first layer, (filters, channels, height, width) row by row, float32 little-"
        "endian; only of models with images",
    ),
    Column("filter_shape", _STRING, "channels, height and width of a filter, joined by x"),
    *_STAMP,
)
_TEMPLATES = (
    *_MODEL,
    Column("weight_decay", _FLOAT, "weight decay of the training"),
    Column("mixup", _FLOAT, "parameter of mixup in the training; 0 is off"),
    Column("labels", _STRING, "true, or shuffled: the control"),
    Column("input", _STRING, "input of the templates: pixels for a linear classifier, else features before the head"),
    Column("template_class", _INT, "class of the template (a row of the linear classifier), from 0"),
    Column("mean_class", _INT, "class of the mean image that the template is compared with, from 0"),
    Column("correlation", _FLOAT, "correlation of template and mean image over pixels, both centred over classes"),
    Column("raw_correlation", _FLOAT, "correlation of template and mean image over pixels, without centring"),
    Column(
        "agreement",
        _FLOAT,
        "mean correlation with the templates of the same class of the pool's other members, or of a merge's members, "
        "centred over classes; null where mean_class differs",
    ),
    Column(
        "stationarity_gap",
        _FLOAT,
        "|d W - G| / (|d W| + |G|) of the template W, weight decay d and G = E[(1[y=c] - p_c) x] over the training "
        "split: 0 where the loss is stationary; null where mean_class differs or the loss is not the plain one",
    ),
    Column("template", pa.binary(), "template minus their mean, float32 little-endian; only of models with images"),
    Column("mean_image", pa.binary(), "mean input of the class minus the mean of all classes; as `template`"),
    Column("channels", _INT, "channels of `template` and `mean_image`, each (channels, size, size) row by row"),
    *_STAMP,
)
_TASKS = (
    Column("task_id", _STRING, "name of the block's part, or member_id of a trained member"),
    Column("kind", _STRING, "block (of candidates, or a failed one of any kind), pairs, inspection or member"),
    Column("pool_id", _STRING, "content hash of the pool"),
    Column("rows", _INT, "rows written"),
    Column("attempts", _INT, "attempts until the block was done; null for members"),
    Column("host", _STRING, "host name of the worker"),
    Column("process", _INT, "process id of the worker"),
    Column("threads", _INT, "threads of torch"),
    Column("seconds", _FLOAT, "wall time in the worker", "s"),
    Column("cpu_seconds", _FLOAT, "CPU time of the worker's process", "s"),
    Column("forward_passes", _LONG, "examples of all forward passes"),
    Column("peak_memory", _LONG, "largest resident memory of the process so far", "B"),
    Column("status", _STRING, "ok, or failed (see error) if pairs or inspected models got no rows; null for members"),
    Column("error", _STRING, "why pairs or inspected models of the block got no rows, for example a worker that died"),
    Column("block_id", _STRING, "block_id of the candidates of the task; null without any"),
    Column("torch", _STRING, "version and build of torch; those of a block that ran in pieces are joined by `, `"),
    Column("device", _STRING, "name of the accelerator, or cpu and its instruction set in torch; joined as `torch`"),
    *_STAMP,
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "members": _MEMBERS,
    "curves": _CURVES,
    "candidates": _CANDIDATES,
    "pairs": _PAIRS,
    "predictions": _PREDICTIONS,
    "layers": _LAYERS,
    "templates": _TEMPLATES,
    "tasks": _TASKS,
}
"""Table name -> its columns; `KEYS` are their primary keys."""

KEYS = {
    "members": ["member_id"],
    "curves": ["member_id", "epoch"],
    "candidates": ["candidate_id", "split"],
    "pairs": ["member_a", "member_b"],
    "predictions": ["candidate_id", "split"],
    "layers": ["model_id", "tensor"],
    "templates": ["model_id", "template_class", "mean_class"],
    "tasks": ["task_id"],
}
"""Table name -> primary key: the columns that identify a row."""
